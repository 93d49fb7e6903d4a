"""Hosts that keep tags, with registries and a cluster in memory: the real keeper, probe and memory, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.origin.base import FetchedManifest, ManifestHead, OriginBody, Repository
from mirror.origin.errors import OriginError
from mirror.origin.memory import OriginMemory
from mirror.origin.probe import OriginProbe
from mirror.tags.attest import ASKED_MAX_COUNT
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.keeper import TagKeeper
from mirror.tags.rules import TagPolicy
from tests.support.memory_discovery import MemoryCluster
from tests.support.memory_tags import MemoryTags
from tests.support.virtual_time import VirtualLoop

DIGEST = Digest.of(b"manifest")
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
# How long a registry takes to answer.
QUESTION_S = 0.05


class Registries:
    """All registries, asked by HEAD only. `failures`: what a repository answers; without one it is public. `asked` has
    the loop's time of each question."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.failures: dict[Repository, OriginError] = {}
        self.asked: list[tuple[float, Repository, str]] = []

    async def head(self, repository: Repository, reference: str, *, is_anonymous: bool) -> ManifestHead:
        assert is_anonymous
        self.asked.append((self._loop.time(), repository, reference))
        await asyncio.sleep(QUESTION_S)
        failure = self.failures.get(repository)
        if failure is not None:
            raise failure
        return ManifestHead(DIGEST, MEDIA_TYPE, 500)

    async def manifest(
        self, repository: Repository, reference: str, *, is_anonymous: bool
    ) -> FetchedManifest:
        raise AssertionError(f"nobody needs the manifest of {repository}:{reference}")

    def blob(
        self, repository: Repository, digest: Digest, start: int, stop: int | None, *, is_anonymous: bool
    ) -> AbstractAsyncContextManager[OriginBody]:
        raise AssertionError(f"nobody needs {digest}")


class TagHost:
    """One host. `witnesses`: the others of the same cluster, each asked as a peer would be."""

    def __init__(
        self,
        site: TagSite,
        number: int,
        *,
        policy: TagPolicy,
        is_named: Callable[[Repository], bool],
        probes: bool,
    ) -> None:
        self.peer = Peer(f"10.0.{number // 256}.{number % 256}", 29021)
        self.source = MemoryTags()
        self.memory = OriginMemory()
        self.gauge: list[float] = []
        self._site = site
        self._rng = random.Random(-number)
        loop = site.loop
        probe = OriginProbe(site.registries, self.memory, loop.time, loop.wall())
        self.keeper = TagKeeper(
            self.source,
            site.cluster.member(self.peer),
            probe if probes else None,
            self.memory,
            self,
            policy=policy,
            is_named=is_named,
            unix_clock=loop.wall(),
            clock=loop.time,
            rng=random.Random(number),
            gauge=self.gauge.append,
        )

    def pull(self, name: TagName) -> None:
        self.source.put(OwnTag(name, DIGEST, self._site.loop.wall()()))

    async def ask(self, name: TagName) -> Sequence[Attestation]:
        await asyncio.sleep(0.02)
        told = []
        for provider in self._site.cluster.holders(name.key):
            answer = self._site.hosts[provider.peer].keeper.told(name)
            if provider.peer != self.peer and answer is not None:
                told.append(
                    Attestation(provider.peer.address, answer.digest, answer.pulled_at_s, answer.public_at_s)
                )
        # As the DHT, which names some of them in no order.
        return self._rng.sample(told, min(ASKED_MAX_COUNT, len(told)))


class TagSite:
    """`async with site.host():` runs a keeper meanwhile."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.cluster = MemoryCluster()
        self.registries = Registries(loop)
        self.hosts: dict[Peer, TagHost] = {}

    @asynccontextmanager
    async def host(
        self,
        *,
        policy: TagPolicy = TagPolicy.UPSTREAM,
        is_named: Callable[[Repository], bool] = lambda _: False,
        probes: bool = True,
    ) -> AsyncIterator[TagHost]:
        host = TagHost(self, len(self.hosts) + 1, policy=policy, is_named=is_named, probes=probes)
        self.hosts[host.peer] = host
        async with asyncio.TaskGroup() as group:
            task = group.create_task(host.keeper.run())
            yield host
            assert not task.done(), "run ended by itself"
            task.cancel()

    def announcers(self, name: TagName) -> set[Peer]:
        return {provider.peer for provider in self.cluster.holders(name.key)}
