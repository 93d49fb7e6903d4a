"""A relay with the real origin client and a spool on disk, for tests: what it asks of an origin is real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mirror.oci.byterange import ByteRange
from mirror.oci.digest import Digest
from mirror.origin.addresses import Place
from mirror.origin.base import Endpoint, Repository
from mirror.origin.client import OriginClient
from mirror.origin.connections import Timeouts
from mirror.origin.credentials import Credentials
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from mirror.relay.limits import RelayLimits, RelayPorts
from mirror.relay.relay import Relay
from mirror.relay.spool import Spool
from tests.support.token_origin import TokenOrigin

QUOTA_BYTES = 4 << 30
# One byte in so many tells where it stands, so that no misplaced range has the right hash.
MARK_EVERY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class OneRoute:
    """Every registry is at this place, and the user named it."""

    base: str

    async def route(self, registry: str) -> Sequence[Endpoint]:
        return [Endpoint(self.base, named_by_user=True)]


class SkippingClock:
    """Monotonic time, and what tests skip of it."""

    def __init__(self) -> None:
        self._skipped_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self._skipped_s

    def skip(self, seconds: float) -> None:
        self._skipped_s += seconds


@dataclass(slots=True)
class RelayBed:
    relay: Relay
    clock: SkippingClock
    spool: Spool
    spool_folder: Path
    # What was asked of the store, in order.
    discarded: list[Digest] = field(default_factory=list)
    received_bytes: int = 0

    async def read(
        self,
        repository: Repository,
        digest: Digest,
        header: str | None = None,
        *,
        at_most_bytes: int | None = None,
    ) -> bytes:
        """As a client does; `at_most_bytes`: it goes away then."""
        data = bytearray()
        async with self.relay.blob(repository, digest, ByteRange.parse(header)) as reading:
            async for chunk in reading.chunks:
                data += chunk
                if at_most_bytes is not None and len(data) >= at_most_bytes:
                    break
        return bytes(data)

    async def sha256(self, repository: Repository, digest: Digest) -> str:
        """Of what a client of the whole blob gets."""
        hasher = hashlib.sha256()
        async with self.relay.blob(repository, digest, None) as reading:
            async for chunk in reading.chunks:
                hasher.update(chunk)
        return hasher.hexdigest()


@contextlib.asynccontextmanager
async def relay_bed(
    folder: Path,
    base: str,
    *,
    limits: RelayLimits | None = None,
    quota_bytes: int = QUOTA_BYTES,
    redirect_places: Sequence[Place] = (),
    keep: Callable[[Digest, int, int], None] | None = None,
) -> AsyncIterator[RelayBed]:
    """`base` as `Endpoint.base`; `redirect_places`: on loopback, where the origin may send us."""
    clock = SkippingClock()
    guard = AddressGuard(named_with=lambda _endpoint: redirect_places)
    async with (
        OriginClient(
            OneRoute(base),
            Credentials(None, time.monotonic),
            guard,
            time.monotonic,
            proxies=Proxies.of({}),
            timeouts=Timeouts(between_bytes_s=2.0),
        ) as origin,
        Spool(folder / "spool", quota_bytes=quota_bytes, clock=clock, disk_full_ratio=1.0) as spool,
    ):
        discarded: list[Digest] = []

        async def discard_ingest(digest: Digest) -> None:
            discarded.append(digest)

        def count_bytes(count: int) -> None:
            bed.received_bytes += count

        ports = RelayPorts(origin, spool, discard_ingest, count_bytes, clock, random.Random(4), keep=keep)
        bed = RelayBed(Relay(ports, limits), clock, spool, folder / "spool", discarded)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(bed.relay.run())
            await asyncio.sleep(0)
            yield bed
            running.cancel()


def marked_file(path: Path, size_bytes: int) -> Digest:
    """A sparse file in which every place is different; gives its digest."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
        for offset in range(0, size_bytes, MARK_EVERY_BYTES):
            file.seek(offset)
            file.write(offset.to_bytes(8, "big")[: size_bytes - offset])
    with path.open("rb") as file:
        return Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())


def spans_sent(origin: TokenOrigin) -> list[tuple[int, int]]:
    """Which bytes the origin sent, request by request."""
    sent = []
    for exchange in origin.of("blob", "cdn"):
        start = re.match(r"bytes=(\d+)-", exchange.asked.range)
        if exchange.status in (200, 206):
            first = int(start[1]) if start and exchange.status == 206 else 0
            sent.append((first, first + exchange.sent_bytes))
    return sorted(span for span in sent if span[0] < span[1])


def assert_sent_once(origin: TokenOrigin, size_bytes: int) -> None:
    spans = spans_sent(origin)
    assert spans[0][0] == 0
    assert spans[-1][1] == size_bytes
    assert all(before[1] == after[0] for before, after in pairwise(spans)), spans
