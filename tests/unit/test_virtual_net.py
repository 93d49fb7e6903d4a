"""The net in memory: loss, order, delay, splits and counts."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine

import pytest

from dht.endpoints import Endpoint
from tests.support.datagram_recorder import Recorder, closed
from tests.support.virtual_net import REORDER_MAX_S, VirtualHost, VirtualNet, flat, zoned
from tests.support.virtual_time import (
    CallbackFailed,
    VirtualLoop,
    run_virtual,
)

# -- what only the net in memory does -----------------------------------------------------------------------------


async def open_recorder(host: VirtualHost) -> tuple[asyncio.DatagramTransport, Recorder]:
    transport, protocol = await host.open_udp(Recorder, Endpoint("0.0.0.0", 7))
    assert isinstance(protocol, Recorder)
    return transport, protocol


def run_pair(
    body: Callable[
        [VirtualLoop, VirtualNet, asyncio.DatagramTransport, Recorder], Coroutine[object, object, None]
    ],
    seed: int = 1,
) -> None:
    """`body` gets the transport of 10.0.0.1 and what arrives at 10.0.0.2, port 7; the round trip is 10 ms."""

    async def main(loop: VirtualLoop) -> None:
        net = VirtualNet(loop, random.Random(seed), flat(0.01), jitter=0.0)
        left, _ = await open_recorder(net.host("10.0.0.1"))
        right, arrived = await open_recorder(net.host("10.0.0.2"))
        with closed(left, right):
            await body(loop, net, left, arrived)

    run_virtual(main)


THERE = ("10.0.0.2", 7)


def test_a_datagram_takes_half_a_round_trip() -> None:
    async def body(
        loop: VirtualLoop, net: VirtualNet, left: asyncio.DatagramTransport, right: Recorder
    ) -> None:
        del net
        left.sendto(b"x", THERE)
        await right.came.wait()
        assert loop.elapsed_s == pytest.approx(0.005)
        assert right.arrived == [(b"x", ("10.0.0.1", 7))]

    run_pair(body)


def test_loss_and_copies_have_their_rates() -> None:
    async def body(
        loop: VirtualLoop, net: VirtualNet, left: asyncio.DatagramTransport, right: Recorder
    ) -> None:
        net.loss, net.copies = 0.25, 0.5
        for _ in range(4000):
            left.sendto(b"x", THERE)
        await asyncio.sleep(1.0)
        assert 900 < net.lost_count < 1100
        assert 4200 < len(right.arrived) < 4800  # 3,000 and half as many copies

    run_pair(body)


def test_reordered_datagrams_are_overtaken_and_none_is_lost() -> None:
    async def body(
        loop: VirtualLoop, net: VirtualNet, left: asyncio.DatagramTransport, right: Recorder
    ) -> None:
        net.reordered = 0.1
        for number in range(1000):
            left.sendto(number.to_bytes(2, "big"), THERE)
            await asyncio.sleep(0.001)
        await asyncio.sleep(REORDER_MAX_S)
        numbers = [int.from_bytes(data, "big") for data, _ in right.arrived]
        assert sorted(numbers) == list(range(1000)) and numbers != sorted(numbers)

    run_pair(body)


def test_a_dead_host_hears_and_says_nothing_until_it_is_back() -> None:
    async def body(
        loop: VirtualLoop, net: VirtualNet, left: asyncio.DatagramTransport, right: Recorder
    ) -> None:
        for dead in ("10.0.0.1", "10.0.0.2"):
            net.hosts[dead].kill()
            left.sendto(b"lost", THERE)
            await asyncio.sleep(0.1)
            net.hosts[dead].revive()
        left.sendto(b"heard", THERE)
        await asyncio.sleep(0.1)
        assert [data for data, _ in right.arrived] == [b"heard"]

    run_pair(body)


def test_a_split_keeps_sides_apart_until_it_heals() -> None:
    async def body(
        loop: VirtualLoop, net: VirtualNet, left: asyncio.DatagramTransport, right: Recorder
    ) -> None:
        net.split({"10.0.0.1": "a", "10.0.0.2": "a"})
        left.sendto(b"same side", THERE)
        await asyncio.sleep(0.1)
        net.split({"10.0.0.1": "a"})
        left.sendto(b"lost", THERE)
        await asyncio.sleep(0.1)
        net.heal()
        left.sendto(b"healed", THERE)
        await asyncio.sleep(0.1)
        assert [data for data, _ in right.arrived] == [b"same side", b"healed"]
        assert net.split_count == 1

    run_pair(body)


def test_traffic_is_counted_per_host_with_headers_apart() -> None:
    async def main(loop: VirtualLoop) -> None:
        net = VirtualNet(loop, random.Random(1), flat(0.01))
        left, right = net.host("10.0.0.1", "fd00::1"), net.host("10.0.0.2", "fd00::2")
        opened = [
            await host.open_udp(Recorder, Endpoint(wild, 7))
            for host in (left, right)
            for wild in ("0.0.0.0", "::")
        ]
        with closed(*(transport for transport, _ in opened)):
            opened[0][0].sendto(bytes(100), ("10.0.0.2", 7))
            before = left.traffic.copy()
            opened[1][0].sendto(bytes(50), ("fd00::2", 7, 0, 0))
            await asyncio.sleep(1.0)
        sent = left.traffic
        assert (sent.sent_count, sent.sent_bytes, sent.sent_header_bytes) == (2, 150, 28 + 48)
        assert (sent.largest_bytes, sent.minus(before).sent_bytes) == (100, 50)
        assert (right.traffic.received_count, right.traffic.received_bytes) == (2, 150)
        assert net.total().sent_count == net.total().received_count == 2

    run_virtual(main)


def test_zones_are_near_inside() -> None:
    rtt = zoned(0.0005, 0.002, zones_count=2)
    assert rtt("10.0.0.2", "10.0.0.4") == 0.0005
    assert rtt("10.0.0.2", "10.0.0.3") == 0.002
    assert rtt("fd00::a", "fd00::c") == 0.0005


def test_a_protocol_that_raises_fails_the_run() -> None:
    class Broken(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            raise RuntimeError("broken")

    async def main(loop: VirtualLoop) -> None:
        net = VirtualNet(loop, random.Random(1), flat(0.01))
        transport, _ = await net.host("10.0.0.1").open_udp(Broken, Endpoint("10.0.0.1", 7))
        with closed(transport):
            transport.sendto(b"x", ("10.0.0.1", 7))
            await asyncio.sleep(1.0)

    with pytest.raises(CallbackFailed, match="broken"):
        run_virtual(main)


def test_one_seed_gives_one_run() -> None:
    def run(seed: int) -> tuple[Counter[bytes], list[bytes], float]:
        seen: list[bytes] = []

        async def main(loop: VirtualLoop) -> float:
            rng = random.Random(seed)
            net = VirtualNet(loop, rng, zoned(0.001, 0.01), 0.1, copies=0.1, reordered=0.1)
            hosts = [await open_recorder(net.host(f"10.0.0.{number}")) for number in range(5)]
            with closed(*(transport for transport, _ in hosts)):
                for number in range(500):
                    there = (f"10.0.0.{rng.randrange(5)}", 7)
                    hosts[rng.randrange(5)][0].sendto(number.to_bytes(2, "big"), there)
                    await asyncio.sleep(0.001 * rng.random())
                await asyncio.sleep(1.0)
            for _, recorder in hosts:
                seen.extend(data for data, _ in recorder.arrived)
            return loop.elapsed_s

        return Counter(seen), seen, run_virtual(main)

    assert run(7) == run(7)
    assert run(7) != run(8)
