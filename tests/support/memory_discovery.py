"""Discovery in memory: a registry of keys that several hosts of a test share, which passes the port's conformance
suite; and one that names the same peers for every key, for tests of what comes after discovery.

Providers come complete ones first, in the order in which they announced.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence

from mirror.discovery.base import Peer, Provider, ProviderState


class MemoryCluster:
    """What all hosts have announced."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[Peer, ProviderState]] = {}

    def member(self, peer: Peer) -> MemoryDiscovery:
        return MemoryDiscovery(self, peer)

    def announce(self, key: str, peer: Peer, state: ProviderState = ProviderState.COMPLETE) -> None:
        self._holders.setdefault(key, {})[peer] = state

    def withdraw(self, key: str, peer: Peer) -> None:
        self._holders.get(key, {}).pop(peer, None)

    def holders(self, key: str) -> list[Provider]:
        found = [Provider(peer, state) for peer, state in self._holders.get(key, {}).items()]
        return sorted(found, key=lambda provider: provider.state is not ProviderState.COMPLETE)


class MemoryDiscovery:
    def __init__(self, cluster: MemoryCluster, peer: Peer) -> None:
        self._cluster = cluster
        self.peer = peer

    async def run(self) -> None:
        await asyncio.Event().wait()

    @property
    def unready(self) -> str | None:
        return None

    async def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        for provider in self._cluster.holders(key):
            if provider.peer != self.peer:
                yield provider

    async def announce(self, keys: Collection[str]) -> None:
        for key in keys:
            self._cluster.announce(key, self.peer)

    async def withdraw(self, keys: Collection[str]) -> None:
        for key in keys:
            self._cluster.withdraw(key, self.peer)


class HearsayDiscovery:
    """Says of every key that each of these peers holds it. Whoever believes it finds out by asking them."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._peers = tuple(peers)

    async def run(self) -> None:
        await asyncio.Event().wait()

    @property
    def unready(self) -> str | None:
        return None

    async def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        for peer in self._peers:
            yield Provider(peer, ProviderState.COMPLETE)

    async def announce(self, keys: Collection[str]) -> None:
        del keys

    async def withdraw(self, keys: Collection[str]) -> None:
        del keys
