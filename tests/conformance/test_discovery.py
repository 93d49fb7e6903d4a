"""One suite for every implementation of the discovery port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.discovery.base import Discovery, Peer
from mirror.oci.digest import Digest
from tests.support.dht_hosts import DhtHost, dht_hosts
from tests.support.memory_discovery import MemoryCluster

HOSTS_COUNT = 3


@dataclass(frozen=True, slots=True)
class Site:
    """One host's discovery. `settled`: what was announced and withdrawn is known to the others."""

    discovery: Discovery
    peer: Peer
    settled: Callable[[], Awaitable[None]]

    async def hold(self, data: bytes) -> None:
        await self.discovery.announce([str(Digest.of(data))])
        await self.settled()

    async def drop(self, data: bytes) -> None:
        await self.discovery.withdraw([str(Digest.of(data))])
        await self.settled()


@contextlib.asynccontextmanager
async def memory_sites(tmp_path: Path) -> AsyncIterator[list[Site]]:
    cluster = MemoryCluster()
    peers = [Peer(f"10.0.0.{number}", 29021) for number in range(HOSTS_COUNT)]
    yield [Site(cluster.member(peer), peer, lambda: asyncio.sleep(0)) for peer in peers]


@contextlib.asynccontextmanager
async def open_dht_sites(tmp_path: Path) -> AsyncIterator[list[Site]]:
    async with dht_hosts(HOSTS_COUNT, tmp_path, secret=None) as hosts:
        yield [_site(host) for host in hosts]


@contextlib.asynccontextmanager
async def sealed_dht_sites(tmp_path: Path) -> AsyncIterator[list[Site]]:
    async with dht_hosts(HOSTS_COUNT, tmp_path) as hosts:
        yield [_site(host) for host in hosts]


def _site(host: DhtHost) -> Site:
    return Site(host.discovery, host.peer, host.dht.flush)


Sites = Callable[[Path], AbstractAsyncContextManager[list[Site]]]


@pytest.fixture(params=[memory_sites, open_dht_sites, sealed_dht_sites], ids=["memory", "dht", "dht-sealed"])
async def sites(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Site]]:
    make: Sites = request.param
    async with make(tmp_path) as made:
        yield made


async def providers(site: Site, data: bytes) -> set[Peer]:
    return {found.peer async for found in site.discovery.find_providers(str(Digest.of(data)))}


async def test_an_absent_key_ends_without_a_result(sites: list[Site]) -> None:
    assert await providers(sites[0], b"nobody") == set()


async def test_holders_are_found_by_others_and_never_by_themselves(sites: list[Site]) -> None:
    one, two, three = sites
    await one.hold(b"x")
    await two.hold(b"x")
    assert await providers(three, b"x") == {one.peer, two.peer}
    assert await providers(one, b"x") == {two.peer}


async def test_what_was_dropped_is_no_longer_found(sites: list[Site]) -> None:
    one, two, _ = sites
    await one.hold(b"x")
    await one.drop(b"x")
    assert await providers(two, b"x") == set()


async def test_announcing_and_withdrawing_twice_is_fine(sites: list[Site]) -> None:
    keys = [str(Digest.of(b"x"))]
    for _ in range(2):
        await sites[0].discovery.announce(keys)
    await sites[0].settled()
    assert await providers(sites[2], b"x") == {sites[0].peer}
    for _ in range(2):
        await sites[0].discovery.withdraw(keys)
    await sites[0].settled()
    assert await providers(sites[1], b"x") == set()


async def test_what_came_back_is_found(sites: list[Site]) -> None:
    one, two, _ = sites
    await one.hold(b"x")
    await one.drop(b"x")
    await one.hold(b"x")
    assert await providers(two, b"x") == {one.peer}


async def test_many_keys_at_once(sites: list[Site]) -> None:
    one, two, _ = sites
    many = [b"%d" % number for number in range(300)]
    await one.discovery.announce([str(Digest.of(data)) for data in many])
    await one.settled()
    assert [await providers(two, data) for data in many] == [{one.peer}] * len(many)


async def test_many_may_ask_at_once(sites: list[Site]) -> None:
    one, two, _ = sites
    await one.hold(b"x")
    asked = await asyncio.gather(*(providers(two, data) for data in [b"x", b"y"] * 50))
    assert asked == [{one.peer}, set()] * 50


async def test_a_caller_may_leave_early(sites: list[Site]) -> None:
    one, two, three = sites
    await one.hold(b"x")
    await two.hold(b"x")
    async with contextlib.aclosing(three.discovery.find_providers(str(Digest.of(b"x")))) as found:
        assert (await anext(found)).peer in (one.peer, two.peer)
    assert await providers(three, b"x") == {one.peer, two.peer}


@pytest.mark.parametrize("key", ["", "nonsense", "tag:docker.io/library/nginx:latest"])
async def test_any_key_string_may_be_asked_for(sites: list[Site], key: str) -> None:
    assert [found async for found in sites[0].discovery.find_providers(key)] == []


async def test_a_ready_host_has_no_reason_not_to_be(sites: list[Site]) -> None:
    assert sites[0].discovery.unready is None
