"""Hosts of a herd in this process, on loopback: real registry and peer servers, channels, swarms and ladders, with a
runtime of a few lines for containerd and an origin that gives as much as the test lets it.

The runtime does what containerd does (measured): an ingest is born with each pull, and grows with what comes, from
wherever; a 404 sends it to the origin; after a body that ended early it asks the mirror again where it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from yarl import URL

from mirror.discovery.base import Discovery, Peer
from mirror.oci.digest import Digest
from mirror.steer.timers import Rungs
from tests.support.herd_claims import HerdArbiter
from tests.support.memory_discovery import MemoryCluster, MemoryDiscovery
from tests.support.memory_ingests import MemoryIngest, MemoryIngests
from tests.support.mirror_host import SPOOL_BYTES, MirrorHost, mirror_host
from tests.support.store_beds import eventually

MIB = 1024 * 1024
# As containerd writes.
STEP_BYTES = MIB
TRIES_MAX_COUNT = 8
# Longer than any hold of the ladder's: what takes longer hangs.
DONE_S = 60.0

Middleware = Callable[[web.Request, Callable[[web.Request], Awaitable[web.StreamResponse]]], object]


class PullFailed(Exception):
    pass


class Origin:
    """Gives each blob as far as `allow` said, to everybody. `sent_bytes`: by host."""

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {Digest.of(data): data for data in blobs}
        self.sent_bytes: Counter[str] = Counter()
        self.opened: list[tuple[str, int]] = []
        self.refused: set[str] = set()
        self._limit_bytes: int | None = None
        self._moved = asyncio.Event()

    def allow(self, limit_bytes: int | None) -> None:
        self._limit_bytes = limit_bytes
        self._moved.set()

    @property
    def total_bytes(self) -> int:
        return self.sent_bytes.total()

    async def read(self, who: str, digest: Digest, offset: int) -> AsyncIterator[bytes]:
        if who in self.refused:
            raise PullFailed("401 of the origin")
        self.opened.append((who, offset))
        data = self._blobs[digest]
        while offset < len(data):
            limit_bytes = len(data) if self._limit_bytes is None else self._limit_bytes
            step = data[offset : min(offset + STEP_BYTES, limit_bytes)]
            if not step:
                self._moved.clear()
                await self._moved.wait()
                continue
            offset += len(step)
            self.sent_bytes[who] += len(step)
            yield step
            await asyncio.sleep(0)


@dataclass(slots=True)
class Pull:
    """What one pull saw. `statuses`: of the mirror, in order; `starts`: where each request began; `cuts`: where bodies
    ended early; `was_discarded`: whether the ingest was thrown away by then."""

    data: bytearray = field(default_factory=bytearray)
    statuses: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    was_discarded: list[bool] = field(default_factory=list)
    origin_bytes: int = 0


@dataclass(slots=True)
class HerdHost:
    name: str
    mirror: MirrorHost
    ingests: MemoryIngests
    cluster: MemoryCluster
    origin: Origin
    # What its runtime says that it expects.
    media_type: str = ""

    @property
    def peer(self) -> Peer:
        return self.mirror.peer

    async def pull(
        self, digest: Digest, size_bytes: int, pull: Pull | None = None, kind: str = "blobs"
    ) -> Pull:
        """As containerd. Raises: PullFailed."""
        pull = pull or Pull()
        ingest = self.ingests.begin(digest, size_bytes)
        try:
            for _ in range(TRIES_MAX_COUNT):
                if not await self._from_mirror(digest, ingest, pull, kind):
                    await self._from_origin(digest, ingest, pull)
                if len(pull.data) >= size_bytes:
                    self._commit(digest, ingest, pull)
                    return pull
            raise PullFailed(f"too many bodies that ended early: {pull.cuts}")
        except BaseException:
            ingest.cancel()
            raise

    def _commit(self, digest: Digest, ingest: MemoryIngest, pull: Pull) -> None:
        if Digest.of(bytes(pull.data)) != digest:
            raise PullFailed("wrong bytes")
        ingest.commit()
        self.mirror.store.add(bytes(pull.data))
        self.cluster.announce(str(digest), self.peer)

    async def _from_mirror(self, digest: Digest, ingest: MemoryIngest, pull: Pull, kind: str) -> bool:
        """False: to the origin."""
        start = len(pull.data)
        headers = {"User-Agent": "containerd/2.1.0"} | ({"Range": f"bytes={start}-"} if start else {})
        if self.media_type:
            headers["Accept"] = f"{self.media_type}, */*"
        url = URL(f"{self.mirror.registry_url}/v2/team/app/{kind}/{digest}", encoded=True)
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(url, headers=headers) as response,
        ):
            pull.starts.append(start)
            pull.statuses.append(response.status)
            if response.status not in (200, 206):
                return False
            try:
                async for chunk in response.content.iter_any():
                    pull.data += chunk
                    ingest.write(chunk)
            except aiohttp.ClientPayloadError:
                pull.cuts.append(len(pull.data))
                pull.was_discarded.append(digest in self.mirror.store.discarded)
        return True

    async def _from_origin(self, digest: Digest, ingest: MemoryIngest, pull: Pull) -> None:
        async for step in self.origin.read(self.name, digest, len(pull.data)):
            pull.data += step
            pull.origin_bytes += len(step)
            ingest.write(step)


class Herd:
    """`host` makes one more; all end with the block."""

    def __init__(self, stack: AsyncExitStack, *blobs: bytes) -> None:
        self._stack = stack
        self.cluster = MemoryCluster()
        self.arbiter = HerdArbiter(self.cluster)
        self.origin = Origin(*blobs)
        self.hosts: list[HerdHost] = []

    async def host(
        self,
        *stored: bytes,
        middleware: Middleware | None = None,
        rungs: Rungs | None = None,
        spool_bytes: int = SPOOL_BYTES,
        verify_always: bool = True,
    ) -> HerdHost:
        """`stored`: what it holds, and has announced. `verify_always` False: a lone pull may go past the swarm."""
        ingests = MemoryIngests()
        self._stack.callback(ingests.close)
        claims = self.arbiter.member()
        discovery: MemoryDiscovery = self.cluster.member(Peer("127.0.0.1", 0))
        as_discovery: Discovery = discovery
        mirror = await self._stack.enter_async_context(
            mirror_host(
                *stored,
                discovery=as_discovery,
                claims=claims,
                ingests=ingests,
                rungs=rungs,
                spool_bytes=spool_bytes,
                verify_always=verify_always,
                peer_middleware=middleware,
            )
        )
        claims.peer = discovery.peer = mirror.peer
        host = HerdHost(f"host{len(self.hosts)}", mirror, ingests, self.cluster, self.origin)
        self.hosts.append(host)
        for data in stored:
            self.cluster.announce(str(Digest.of(data)), mirror.peer)
        return host

    def named(self, peer: Peer) -> HerdHost:
        return next(one for one in self.hosts if one.peer == peer)


@asynccontextmanager
async def herd(count: int, *blobs: bytes, rungs: Rungs | None = None) -> AsyncIterator[Herd]:
    """`blobs`: what the origin has."""
    async with AsyncExitStack() as stack:
        made = Herd(stack, *blobs)
        for _ in range(count):
            await made.host(rungs=rungs)
        yield made


class Pulls:
    """Under way, one for each host, in order."""

    def __init__(self, hosts: Sequence[HerdHost], data: bytes, kind: str) -> None:
        self._size_bytes = len(data)
        self.pulls = [Pull() for _ in hosts]
        self.tasks = [
            asyncio.ensure_future(host.pull(Digest.of(data), len(data), pull, kind))
            for host, pull in zip(hosts, self.pulls, strict=True)
        ]

    def __iter__(self) -> Iterator[Pull]:
        return iter(self.pulls)

    async def reach(self, count_bytes: int) -> None:
        """All have so much."""
        await eventually(
            lambda: all(len(pull.data) == count_bytes for pull in self.pulls),
            lambda: str([(len(pull.data), pull.statuses, pull.cuts) for pull in self.pulls]),
            # Where a claimant serves nobody, nine seconds go by until another host is granted the claim.
            limit_s=DONE_S,
        )

    async def done(self) -> None:
        """All that were not cancelled. Raises: PullFailed."""
        async with asyncio.timeout(DONE_S):
            await asyncio.gather(*(task for task in self.tasks if not task.cancelling()))

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def pulling(hosts: Sequence[HerdHost], data: bytes, kind: str = "blobs") -> AsyncIterator[Pulls]:
    """Whatever is under way at the end of the block is cancelled."""
    pulls = Pulls(hosts, data, kind)
    try:
        yield pulls
    finally:
        await pulls.end()
