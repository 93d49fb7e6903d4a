"""Members that ask, store or claim too much: they are limited, and everybody else is served."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time

import pytest

from dht.ids import key_of
from dht.wire.codec import (
    Added,
    AddProviders,
    Claim,
    Found,
    GetProviders,
    Outcome,
    Ping,
    Pong,
    Removed,
    RemoveProviders,
    Ruling,
    Verb,
)
from dht.wire.envelope import Key
from tests.support.dht_attackers import Member, member
from tests.support.dht_nodes import KEY, PARAMS, live, quiet, until

KEYS = pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
WANTED = key_of("wanted")
HOUR_S = 3600


def keys_number(first: int, count: int) -> bytes:
    return b"".join(key_of(f"key {number}") for number in range(first, first + count))


def add(keys: bytes, ttl_s: int = HOUR_S) -> AddProviders:
    return AddProviders(0, ttl_s, b"", keys)


@KEYS
async def test_who_asks_too_much_is_limited_and_the_others_are_served(
    keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture
) -> None:
    rate, burst, floods_count, flood_count = 200.0, 100, 20, 200
    params = dataclasses.replace(PARAMS, sender_rate_per_s=rate, sender_burst_count=burst)
    with quiet(caplog):
        async with (
            live(keys=keys, params=params) as node,
            member(keys=keys) as flooder,
            member(keys=keys) as other,
        ):
            flooder.answer = lambda request, admitted: Found([], [], 0)
            await flooder.ask(Ping(), node)
            await other.ask(Ping(), node)
            started, waits_s = time.monotonic(), []
            for _ in range(floods_count):
                flood = [flooder.frame(GetProviders(WANTED, 16)) for _ in range(flood_count)]
                await flooder.socket.pour([flooder.seal(frame, node) for frame in flood], node)
                asked_at = time.perf_counter()
                assert isinstance(await other.ask(GetProviders(WANTED, 16), node), Found)
                waits_s.append(time.perf_counter() - asked_at)
            took_s = time.monotonic() - started
            served_count = node.dht.stats.rpcs_received["get_providers", "answered"] - floods_count
            assert burst - 1 <= served_count <= burst + rate * took_s + 2
            assert node.drops["rate"] == floods_count * flood_count - served_count
            # Its answers are not held back by its questions: their rate is ours to set.
            assert flooder.id in node.members
            await asyncio.gather(*(node.find(os.urandom(20)) for _ in range(100)))
            assert node.dht.stats.rpcs_sent["get_providers", "answered"] >= 100
            print(
                f"\n{floods_count * flood_count} requests, {floods_count * flood_count / took_s:.0f} a second: "
                f"served {served_count}; others waited at most {max(waits_s) * 1000:.1f} ms"
            )


async def test_quotas_of_records(caplog: pytest.LogCaptureFixture) -> None:
    """Per provider, per key, per address, and in all."""
    params = dataclasses.replace(
        PARAMS,
        keys_per_provider_count=30,
        providers_per_key_count=3,
        records_per_address_count=70,
        records_max_count=100,
    )
    with quiet(caplog):
        async with live(params=params) as node, member() as asker:
            places = ("127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3")
            stored = []
            for number, address in enumerate(places):
                async with member(address=address) as provider:
                    added = await provider.ask(add(keys_number(100 * number, 48)), node)
                    assert isinstance(added, Added)
                    assert added.saturated == b""
                    stored.append(added.stored)
                    again = await provider.ask(add(keys_number(100 * number, 48)), node)
                    assert again == added, "what is stored is refreshed"
            # 30 keys a provider, 70 records an address, 100 in all.
            assert stored == [30, 30, 10, 30, 0]
            assert len(node.dht.records) == 100
            assert isinstance(await asker.ask(GetProviders(keys_number(0, 1), 16), node), Found)


async def test_quota_of_a_key(caplog: pytest.LogCaptureFixture) -> None:
    params = dataclasses.replace(PARAMS, providers_per_key_count=3)
    with quiet(caplog):
        async with live(params=params) as node, member() as asker:
            for number in range(6):
                async with member() as provider:
                    added = await provider.ask(add(keys_number(number, 1) + WANTED), node)
                    assert added == (Added(2) if number < 3 else Added(1, b"\x02"))
            found = await asker.ask(GetProviders(WANTED, 255), node)
            assert isinstance(found, Found)
            assert (len(found.providers), found.stored) == (3, 3)


async def test_what_one_datagram_can_ask_for(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live() as node, member() as known:
            # The same key as often as it fits, for longer than anything is kept.
            assert await known.ask(add(WANTED * 48, ttl_s=2**32 - 1), node) == Added(48)
            assert len(node.dht.records) == 1
            now = time.monotonic()
            (saved,) = node.dht.records.entries(now)
            assert saved.remaining_s <= PARAMS.record_ttl_s + 1
            # One that is over at once: ends are whole seconds.
            assert await known.ask(add(key_of("short"), ttl_s=0), node) == Added(1)
            await until(lambda: node.holds(key_of("short")) == set(), within_s=1.5)
            assert await known.ask(RemoveProviders(WANTED * 48), node) == Removed(1)
            # More than was ever there leaves a bounded memory.
            for number in range(20):
                await known.ask(RemoveProviders(keys_number(48 * number, 48)), node)
            assert node.sizes["tombstones"] <= PARAMS.keys_per_provider_count // 4


async def test_quotas_of_claims(caplog: pytest.LogCaptureFixture) -> None:
    params = dataclasses.replace(PARAMS, claims_max_count=8, claims_per_holder_count=5, claim_waiters_count=3)
    with quiet(caplog):
        # A herd that waits: nearer members would be named instead.
        async with live(params=params, node=WANTED) as node, member() as greedy:
            await until(lambda: node.dht.unready is None)

            async def outcomes(who: Member, first: int, count: int) -> list[int]:
                found = []
                for number in range(first, first + count):
                    # All nearest to the node.
                    key = WANTED[:-1] + bytes([number])
                    ruling = await who.ask(Claim(key, Verb.ASK, 0), node)
                    assert isinstance(ruling, Ruling)
                    found.append(ruling.outcome)
                return found

            assert await outcomes(greedy, 0, 7) == [Outcome.GRANTED] * 5 + [Outcome.FULL] * 2
            for _ in range(10):
                async with member() as waiter:
                    assert await outcomes(waiter, 0, 1) == [Outcome.WAIT]
            assert node.sizes["waiters"] == 3
            async with member() as other:
                assert await outcomes(other, 100, 5) == [Outcome.GRANTED] * 3 + [Outcome.FULL] * 2
                assert node.sizes["claims"] == 8
                assert isinstance(await other.ask(Ping(), node), Pong)
