"""One suite for every implementation of the discovery port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import pytest

from mirror.discovery.base import Discovery, Peer
from mirror.discovery.static_discovery import STRIKES_COUNT, StaticDiscovery
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerUnreachable
from tests.support.memory_discovery import MemoryCluster
from tests.support.mirror_host import mirror_host


@dataclass(frozen=True, slots=True)
class Site:
    """One host's discovery, with what brings content to that host and takes it away."""

    discovery: Discovery
    peer: Peer
    hold: Callable[[bytes], None]
    drop: Callable[[bytes], None]


@contextlib.asynccontextmanager
async def memory_sites() -> AsyncIterator[list[Site]]:
    cluster = MemoryCluster()
    peers = [Peer(f"10.0.0.{n}", 29021) for n in range(3)]
    yield [
        Site(
            cluster.member(peer),
            peer,
            lambda data, peer=peer: cluster.announce(str(Digest.of(data)), peer),  # type: ignore[misc]
            lambda data, peer=peer: cluster.withdraw(str(Digest.of(data)), peer),  # type: ignore[misc]
        )
        for peer in peers
    ]


@contextlib.asynccontextmanager
async def static_sites() -> AsyncIterator[list[Site]]:
    async with mirror_host() as one, mirror_host() as two, mirror_host() as three:
        hosts = [one, two, three]
        yield [
            Site(
                StaticDiscovery(
                    [other.peer for other in hosts if other is not host], host.client.size_bytes, lambda: 0.0
                ),
                host.peer,
                lambda data, host=host: host.store.add(data) and None,  # type: ignore[misc]
                lambda data, host=host: host.store.remove(Digest.of(data)),  # type: ignore[misc]
            )
            for host in hosts
        ]


Sites = Callable[[], AbstractAsyncContextManager[list[Site]]]


@pytest.fixture(params=[memory_sites, static_sites], ids=["memory", "static"])
async def sites(request: pytest.FixtureRequest) -> AsyncIterator[list[Site]]:
    make: Sites = request.param
    async with make() as made:
        yield made


async def providers(site: Site, data: bytes) -> set[Peer]:
    return {found.peer async for found in site.discovery.find_providers(str(Digest.of(data)))}


async def test_an_absent_key_ends_without_a_result(sites: list[Site]) -> None:
    assert await providers(sites[0], b"nobody") == set()


async def test_holders_are_found_by_others_and_never_by_themselves(sites: list[Site]) -> None:
    one, two, three = sites
    one.hold(b"x")
    two.hold(b"x")
    assert await providers(three, b"x") == {one.peer, two.peer}
    assert await providers(one, b"x") == {two.peer}


async def test_what_was_dropped_is_no_longer_found(sites: list[Site]) -> None:
    one, two, _ = sites
    one.hold(b"x")
    one.drop(b"x")
    assert await providers(two, b"x") == set()


async def test_announcing_and_withdrawing_twice_is_fine(sites: list[Site]) -> None:
    keys = [str(Digest.of(b"x"))]
    for _ in range(2):
        await sites[0].discovery.announce(keys)
    for _ in range(2):
        await sites[0].discovery.withdraw(keys)
    assert await providers(sites[1], b"x") == set()


async def test_a_caller_may_leave_early(sites: list[Site]) -> None:
    one, two, three = sites
    one.hold(b"x")
    two.hold(b"x")
    async with contextlib.aclosing(three.discovery.find_providers(str(Digest.of(b"x")))) as found:
        assert (await anext(found)).peer in (one.peer, two.peer)
    assert await providers(three, b"x") == {one.peer, two.peer}


@pytest.mark.parametrize("key", ["", "nonsense", "tag:docker.io/library/nginx:latest"])
async def test_any_key_string_may_be_asked_for(sites: list[Site], key: str) -> None:
    assert [found async for found in sites[0].discovery.find_providers(key)] == []


async def test_a_ready_host_has_no_reason_not_to_be(sites: list[Site]) -> None:
    assert sites[0].discovery.unready is None


async def test_a_dead_static_peer_is_not_asked_again_and_again() -> None:
    asked, now = 0, 0.0

    async def ask(peer: Peer, digest: Digest) -> int:
        nonlocal asked
        asked += 1
        raise PeerUnreachable(str(peer), "no route")

    discovery = StaticDiscovery([Peer("10.0.0.1", 1)], ask, lambda: now)
    for _ in range(10):
        assert [found async for found in discovery.find_providers(str(Digest.of(b"x")))] == []
    assert asked == STRIKES_COUNT
    now = 60.0
    assert [found async for found in discovery.find_providers(str(Digest.of(b"x")))] == []
    assert asked == STRIKES_COUNT + 1
