"""The clock that jumps and the net in memory: what simulations stand on. The net's sockets behave as real ones do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine

import pytest

from dht.endpoints import Endpoint
from dht.errors import BindFailed
from dht.sockets import OpenUdp, open_udp
from tests.support.datagram_recorder import Recorder, closed
from tests.support.virtual_net import VirtualNet, flat
from tests.support.virtual_time import (
    START_S,
    WALL_START_S,
    CallbackFailed,
    Deadlock,
    Livelock,
    OutOfTime,
    VirtualLoop,
    run_virtual,
)

# -- the loop ------------------------------------------------------------------------------------------------------


def test_an_hour_passes_at_once_and_in_order() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []

        async def note(name: str, after_s: float) -> None:
            await asyncio.sleep(after_s)
            seen.append((name, loop.elapsed_s))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(note("hour", 3600.0))
            tasks.create_task(note("second", 1.0))
            loop.post(2.0, lambda name: seen.append((name, loop.elapsed_s)), "letter")
        return seen

    assert run_virtual(main) == [("second", 1.0), ("letter", 2.0), ("hour", 3600.0)]


def test_letters_of_one_instant_keep_their_order() -> None:
    async def main(loop: VirtualLoop) -> list[str]:
        seen: list[str] = []
        for number in range(3):
            loop.post(1.0, seen.append, f"letter {number}")
        await asyncio.sleep(1.5)
        return seen

    assert run_virtual(main) == ["letter 0", "letter 1", "letter 2"]


def test_what_a_letter_wakes_runs_before_time_passes() -> None:
    async def main(loop: VirtualLoop) -> float:
        came = asyncio.Event()
        loop.post(1.0, came.set)
        loop.post(1.001, lambda: None)
        await came.wait()
        return loop.elapsed_s

    assert run_virtual(main) == 1.0


def test_timeouts_of_the_library_are_virtual() -> None:
    async def main(loop: VirtualLoop) -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.Event().wait()
        return loop.elapsed_s

    assert run_virtual(main) == 30.0


def test_wall_clocks_may_be_wrong() -> None:
    async def main(loop: VirtualLoop) -> tuple[float, float]:
        right, wrong = loop.wall(), loop.wall(3600.0)
        await asyncio.sleep(5.0)
        return right(), wrong()

    assert run_virtual(main) == (WALL_START_S + 5.0, WALL_START_S + 3605.0)


def test_a_thread_takes_no_time_and_gives_its_result_or_error() -> None:
    async def main(loop: VirtualLoop) -> int:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        found = await asyncio.to_thread(sum, [1, 2, 3])
        assert loop.time() == START_S
        return found

    assert run_virtual(main) == 6


def test_waiting_for_what_cannot_come_is_an_error_that_names_who_waits() -> None:
    async def waits_for_ever(loop: VirtualLoop) -> None:
        del loop
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="waits_for_ever"):
        run_virtual(waits_for_ever)


def test_standing_still_is_an_error() -> None:
    async def polls(loop: VirtualLoop) -> None:
        del loop
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="polls"):
        run_virtual(polls)


def test_a_run_that_does_not_end_is_an_error() -> None:
    async def ticks(loop: VirtualLoop) -> None:
        del loop
        while True:
            await asyncio.sleep(1.0)

    with pytest.raises(OutOfTime, match="60 s"):
        run_virtual(ticks, limit_s=60.0)


def test_an_error_that_nobody_waits_for_fails_the_run() -> None:
    async def main(loop: VirtualLoop) -> None:
        loop.call_later(1.0, lambda: int("x"))
        await asyncio.sleep(2.0)

    with pytest.raises(CallbackFailed, match="ValueError"):
        run_virtual(main)


def test_real_sockets_are_refused() -> None:
    async def main(loop: VirtualLoop) -> None:
        await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

    with pytest.raises(NotImplementedError, match="virtual_net"):
        run_virtual(main)


# -- sockets: the same for real ones and for those in memory ------------------------------------------------------


Bed = Callable[[Callable[[OpenUdp], Coroutine[object, object, None]]], None]


def on_real_sockets(main: Callable[[OpenUdp], Coroutine[object, object, None]]) -> None:
    async def within() -> None:
        await main(open_udp)
        await asyncio.sleep(0)  # A transport closes its socket one turn later.

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(within())


def on_the_virtual_net(main: Callable[[OpenUdp], Coroutine[object, object, None]]) -> None:
    async def within(loop: VirtualLoop) -> None:
        net = VirtualNet(loop, random.Random(1), flat(0.001))
        await main(net.host("127.0.0.1", "::1").open_udp)

    run_virtual(within)


@pytest.fixture(params=[on_real_sockets, on_the_virtual_net], ids=["real", "virtual"])
def bed(request: pytest.FixtureRequest) -> Bed:
    found: Bed = request.param
    return found


V4 = Endpoint("127.0.0.1", 0)
V6 = Endpoint("::1", 0)


@pytest.mark.parametrize("local", [V4, V6], ids=["v4", "v6"])
def test_a_datagram_and_its_answer(bed: Bed, local: Endpoint) -> None:
    async def main(opened: OpenUdp) -> None:
        server, answering = await opened(lambda: Recorder(b"answer"), local)
        client, asking = await opened(Recorder, local)
        assert isinstance(answering, Recorder) and isinstance(asking, Recorder)
        with closed(server, client):
            client.sendto(b"question", server.get_extra_info("sockname"))
            async with asyncio.timeout(5):
                await asking.came.wait()
            assert answering.arrived == [(b"question", client.get_extra_info("sockname"))]
            assert asking.arrived == [(b"answer", server.get_extra_info("sockname"))]

    bed(main)


def test_an_endpoint_is_an_address_to_send_to(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        server, heard = await opened(Recorder, V4)
        client, _ = await opened(Recorder, V4)
        assert isinstance(heard, Recorder)
        with closed(server, client):
            client.sendto(b"x", Endpoint("127.0.0.1", server.get_extra_info("sockname")[1]))
            async with asyncio.timeout(5):
                await heard.came.wait()

    bed(main)


def test_a_port_is_taken_until_it_is_closed(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        first, _ = await opened(Recorder, V4)
        taken = Endpoint("127.0.0.1", first.get_extra_info("sockname")[1])
        assert taken.port != 0
        with pytest.raises(BindFailed, match=str(taken)):
            await opened(Recorder, taken)
        first.close()
        async with asyncio.timeout(5):
            while not first.is_closing():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.01)
        second, _ = await opened(Recorder, taken)
        second.close()

    bed(main)


def test_an_address_of_another_host_cannot_be_bound(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        with pytest.raises(BindFailed, match=r"192\.0\.2\.1"):
            await opened(Recorder, Endpoint("192.0.2.1", 0))

    bed(main)


def test_the_protocol_is_told_of_its_end_once_and_later(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        transport, protocol = await opened(Recorder, V4)
        assert isinstance(protocol, Recorder)
        transport.close()
        transport.close()
        assert protocol.lost == []
        await asyncio.sleep(0.01)
        assert protocol.lost == [None]

    bed(main)


def test_nobody_listens_there(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        gone, _ = await opened(Recorder, V4)
        there = gone.get_extra_info("sockname")
        gone.close()
        await asyncio.sleep(0.01)
        sender, protocol = await opened(Recorder, V4)
        assert isinstance(protocol, Recorder)
        with closed(sender):
            sender.sendto(b"x", there)
            await asyncio.sleep(0.02)
            assert (protocol.arrived, protocol.errors) == ([], [])

    bed(main)


def test_too_large_for_udp(bed: Bed) -> None:
    async def main(opened: OpenUdp) -> None:
        sender, protocol = await opened(Recorder, V4)
        assert isinstance(protocol, Recorder)
        with closed(sender):
            sender.sendto(bytes(65_508), ("127.0.0.1", 9))
            assert [type(exc) for exc in protocol.errors] == [OSError]

    bed(main)
