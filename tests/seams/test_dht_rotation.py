"""A secret is changed in a running cluster, host by host, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time

import pytest

from dht.endpoints import Endpoint
from dht.ids import key_of
from dht.wire.codec import GetProviders
from dht.wire.envelope import Key
from tests.support.dht_attackers import member
from tests.support.dht_nodes import PARAMS, Kept, Live, knows_all, live, quiet, until

OLD, NEW = Key(b"old.", b"o" * 32), Key(b"new.", b"n" * 32)
STEPS = ((OLD, NEW), (NEW, OLD), (NEW,))
# Every lookup asks the others.
UNCACHED = dataclasses.replace(PARAMS, lookup_cache_s=0.0, lookup_miss_cache_s=0.0)
HOSTS_COUNT = 5
KEYS_COUNT = 3


class Host:
    def __init__(self, number: int) -> None:
        self.keys = [key_of(f"key {number}.{one}") for one in range(KEYS_COUNT)]
        self._node = os.urandom(20)
        self._epoch = 0
        self._listen = Endpoint("127.0.0.1", 0)
        self._kept = Kept()
        self._stack = contextlib.AsyncExitStack()

    async def start(self, secret: tuple[Key, ...], others: list[Host]) -> None:
        self._epoch += 1
        running = live(
            *(one.live for one in others),
            keys=secret,
            node=self._node,
            epoch=self._epoch,
            listen=self._listen,
            params=UNCACHED,
            kept=self._kept,
        )
        self.live: Live = await self._stack.enter_async_context(running)
        self._listen = self.live.endpoint

    async def provide(self) -> None:
        self.live.dht.provide(self.keys)
        await self.live.dht.flush()

    async def stop(self) -> None:
        await self._stack.aclose()


async def find_all(hosts: list[Host]) -> int:
    """Every host every record of every other; how many that were."""
    wanted = [(asker, key, one) for asker in hosts for one in hosts if one is not asker for key in one.keys]
    found = await asyncio.gather(*(asker.live.find(key) for asker, key, _ in wanted))
    for (asker, _, one), providers in zip(wanted, found, strict=True):
        assert providers.keys() == {one.live.id}, (hosts.index(asker), hosts.index(one))
    return len(wanted)


async def test_a_secret_is_rotated_without_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    hosts = [Host(number) for number in range(HOSTS_COUNT)]
    found_count = 0
    started = time.perf_counter()
    with quiet(caplog):
        async with contextlib.AsyncExitStack() as stack:
            for number, host in enumerate(hosts):
                stack.push_async_callback(host.stop)
                await host.start((OLD,), hosts[:number][:1])
            await until(lambda: all(knows_all(one.live, [each.live for each in hosts]) for one in hosts))
            for host in hosts:
                await host.provide()
            found_count += await find_all(hosts)
            for secret in STEPS:
                for host in hosts:
                    others = [one for one in hosts if one is not host]
                    await host.stop()
                    found_count += await find_all(others)
                    await host.start(secret, others[:2])
                    await until(
                        lambda: all(knows_all(one.live, [each.live for each in hosts]) for one in hosts)
                    )
                    await host.provide()
                    found_count += await find_all(hosts)
            for host in hosts:
                assert {"foreign", "mac"}.isdisjoint(host.live.drops), host.live.drops
            # The old one is worth nothing now.
            async with member(keys=(OLD,)) as left_behind, member(keys=(NEW,)) as known:
                with pytest.raises(TimeoutError):
                    await left_behind.ask(GetProviders(hosts[1].keys[0], 16), hosts[0].live, within_s=0.05)
                assert hosts[0].live.drops == {"foreign": 1}
                await known.ask(GetProviders(hosts[1].keys[0], 16), hosts[0].live)
    print(
        f"\n{HOSTS_COUNT} hosts, {len(STEPS)} steps, {found_count} of {found_count} records found, "
        f"{time.perf_counter() - started:.1f} s"
    )
