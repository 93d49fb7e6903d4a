"""One run of fetching a digest: a few connections to the origin, the spool file they fill, and the hash over it.

Rules
1. A lost connection, a 5xx, a 429 is tried again with back-off, for as long as bytes come within our patience.
2. 401, 403 and 404 are final for a repository that gave no byte; the next that was named for the digest is asked.
3. A 429 with Retry-After holds all connections back.
4. What will be whole is hashed over its in-order prefix while it comes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from mirror.errors import StoreUnavailable, TransferError
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.origin.base import OriginBody, Repository
from mirror.origin.errors import (
    OriginAbsent,
    OriginError,
    OriginForbidden,
    OriginNonsense,
    OriginRateLimited,
    OriginRefused,
)
from mirror.relay.errors import RelayGaveUp, RelayMismatch, SpoolBroken, SpoolFull
from mirror.relay.limits import RelayLimits, RelayPorts
from mirror.relay.ranges import FIRST_RANGE_BYTES, Ranges, range_bytes
from mirror.relay.spool_file import Changes, SpoolFile

log = logging.getLogger(__name__)

# Hashing goes to a thread in portions: a hop costs about 60 µs, hashing 1 MiB 700 µs.
HASH_PORTION_MIN_BYTES = 1024 * 1024
HASH_PORTION_MAX_BYTES = 4 * 1024 * 1024
# An origin that makes no sense so often will make none the next time.
NONSENSE_MAX_COUNT = 3


@dataclass(frozen=True, slots=True)
class Failure:
    """Why nothing more comes. `of_repositories`: these refused, or do not have it; empty: it is not about that."""

    make_error: Callable[[], TransferError]
    lasts_s: float
    of_repositories: frozenset[Repository] = frozenset()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks of the readers, each time anew. `opening`: what to ask for while the size is unknown; `wants`
    gives what they want of a blob of that size; `repositories` in the order in which they were named."""

    opening: Callable[[], ByteSpan]
    wants: Callable[[int], Iterable[ByteSpan]]
    positions: Callable[[], Iterable[int]]
    repositories: Callable[[], Iterable[Repository]]


@dataclass(slots=True)
class Stock:
    """What is known and held of one blob, shared by its runs and its readers. `changes` is notified of all that
    happens to it."""

    changes: Changes
    size_bytes: int | None = None
    file: SpoolFile | None = None
    # Dropped, but perhaps being read at this moment.
    condemned: list[SpoolFile] = field(default_factory=list)

    def condemn(self) -> None:
        """Nothing of the file is to be given to anybody any more."""
        if self.file is not None:
            self.condemned.append(self.file)
        self.file = None
        self.size_bytes = None


@dataclass(slots=True)
class _Lane:
    """One connection at a time. `taken_bytes`: what was new of the last answer."""

    number: int
    length_bytes: int = FIRST_RANGE_BYTES
    failed_count: int = 0
    taken_bytes: int = 0


class Fetch:
    def __init__(
        self,
        digest: Digest,
        stock: Stock,
        demand: Demand,
        ports: RelayPorts,
        limits: RelayLimits,
        connections: asyncio.Semaphore,
    ) -> None:
        self.failure: Failure | None = None
        self.last_reason = ""
        self._digest = digest
        self._demand = demand
        self._ports = ports
        self._limits = limits
        self._connections = connections
        self._stock = stock
        self._changes = stock.changes
        self._ranges: Ranges | None = None
        self._started_s = ports.clock()
        # When the last new byte came.
        self._progress_s = self._started_s
        self._received_bytes = 0
        self._not_before_s = 0.0
        self._nonsense_count = 0
        self._refused: dict[Repository, OriginError] = {}
        # Those that gave bytes.
        self._giving: set[Repository] = set()
        if stock.file is not None:
            self._make_ranges(stock.file)

    # --- what the readers' side asks

    def want(self, span: ByteSpan) -> None:
        if self._ranges is not None:
            self._ranges.want(span)
            self._changes.notify()

    def will_be_whole(self) -> bool:
        return self._ranges is not None and self._ranges.will_be_whole()

    def is_over(self) -> bool:
        if self.failure is not None:
            return True
        if self._ranges is None or self._stock.file is None:
            return self._is_size_all()
        if any(self._stock.file.missing(span) for span in self._ranges.wanted()):
            return False
        return self._stock.file.is_verified or not self._ranges.will_be_whole()

    async def run(self) -> None:
        """Until cancelled: whoever runs it ends it when `is_over`, or when nobody wants it. Raises only what is a
        defect."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._verify(), name=f"hash {self._digest}")
            for number in range(self._limits.connections_per_blob_count):
                tasks.create_task(self._lane(_Lane(number)), name=f"fetch {self._digest} {number}")

    # --- the connections

    async def _lane(self, lane: _Lane) -> None:
        while True:
            while not self._has_next(lane):
                await self._changes.wait()
            if not await self._wait_turn(lane.failed_count):
                continue
            async with self._connections:
                asked = self._next(lane)
                repository = self._repository()
                if asked is None or repository is None:
                    continue
                started_s = self._ports.clock()
                lane.taken_bytes = 0
                error = await self._ask(lane, repository, asked)
                elapsed_s = max(self._ports.clock() - started_s, 0.001)
            if lane.taken_bytes:
                lane.length_bytes = range_bytes(lane.taken_bytes / elapsed_s)
                lane.failed_count = 0
            if error is not None:
                lane.failed_count += 1
                self._book(error, repository)

    def _has_next(self, lane: _Lane) -> bool:
        if self.failure is not None:
            return False
        if self._ranges is None:
            # The other connections wait until the first one has learned the size.
            return lane.number == 0 and not self._is_size_all()
        return self._ranges.has_next()

    def _is_size_all(self) -> bool:
        """Whether the size was all that is asked for, and is known."""
        return self._stock.size_bytes is not None and not list(self._demand.wants(self._stock.size_bytes))

    def _next(self, lane: _Lane) -> ByteSpan | None:
        if self.failure is not None:
            return None
        if self._ranges is None:
            return self._demand.opening() if self._nonsense_count == 0 else ByteSpan(0, FIRST_RANGE_BYTES)
        return self._ranges.next(lane.number, self._demand.positions(), lane.length_bytes)

    def _repository(self) -> Repository | None:
        return next((named for named in self._demand.repositories() if named not in self._refused), None)

    async def _ask(self, lane: _Lane, repository: Repository, asked: ByteSpan) -> OriginError | None:
        """One request. Gives what went wrong with the origin; what went wrong with the spool is the end."""
        try:
            async with self._ports.origin.blob(
                repository, self._digest, asked.start, asked.stop, is_anonymous=self._ports.is_anonymous
            ) as body:
                await self._admit(lane, asked, body)
                if self._ranges is not None and self._stock.file is not None:
                    await self._take(lane, repository, body, self._ranges, self._stock.file)
            return None
        except OriginError as exc:
            log.debug("%s", exc, extra={"digest": str(self._digest)})
            return exc
        except (SpoolFull, SpoolBroken) as exc:
            self._fail(Failure(partial(type(exc), str(exc)), self._limits.failed_s))
            return None
        finally:
            if self._ranges is not None:
                self._ranges.ended(lane.number)
            self._changes.notify()

    async def _admit(self, lane: _Lane, asked: ByteSpan, body: OriginBody) -> None:
        """Raises: OriginNonsense, SpoolFull."""
        if self._stock.size_bytes is None:
            self._stock.size_bytes = body.size_bytes
            self._changes.notify()
        elif self._stock.size_bytes != body.size_bytes:
            raise OriginNonsense(
                str(self._repository()),
                f"says {body.size_bytes} bytes of {self._digest}, and said {self._stock.size_bytes}",
            )
        if self._ranges is None:
            if not list(self._demand.wants(self._stock.size_bytes)):
                return
            self._stock.file = await self._ports.spool.make(self._digest, self._stock.size_bytes)
            self._make_ranges(self._stock.file)
            self._changes.notify()
            if self._ranges is not None:
                self._ranges.claim(lane.number, asked)
        if self._ranges is not None:
            self._ranges.answered(lane.number, body.span)

    def _make_ranges(self, file: SpoolFile) -> None:
        self._stock.size_bytes = file.size_bytes
        self._ranges = Ranges(file.size_bytes, file.have())
        for span in self._demand.wants(file.size_bytes):
            self._ranges.want(span)

    async def _take(
        self, lane: _Lane, repository: Repository, body: OriginBody, ranges: Ranges, file: SpoolFile
    ) -> None:
        """Raises: OriginBroke, OriginStalled, SpoolBroken."""
        position = body.span.start
        if ranges.is_to_be_cut(lane.number):
            return
        async for chunk in body.chunks():
            self._ports.count_bytes(len(chunk))
            for span in ranges.arrived(lane.number, len(chunk)):
                lane.taken_bytes += span.length_bytes
                self._received_bytes += span.length_bytes
                self._progress_s = self._ports.clock()
                self._giving.add(repository)
                whole = span.length_bytes == len(chunk)
                await file.write(
                    span.start, chunk if whole else chunk[span.start - position : span.stop - position]
                )
            position += len(chunk)
            self._changes.notify()
            if ranges.is_to_be_cut(lane.number):
                return

    # --- what goes wrong

    def _book(self, error: OriginError, repository: Repository) -> None:
        self.last_reason = str(error)
        match error:
            case OriginRefused() | OriginAbsent() | OriginForbidden() if repository not in self._giving:
                self._refused[repository] = error
                if self._repository() is None:
                    reason = "; ".join(str(refusal) for refusal in self._refused.values())
                    refused = frozenset(self._refused)
                    self._fail(Failure(self._gave_up(reason), self._limits.failed_s, refused))
            case OriginRateLimited(retry_after_s=retry_after_s) if retry_after_s > 0:
                self._not_before_s = max(self._not_before_s, self._ports.clock() + retry_after_s)
            case OriginNonsense():
                self._nonsense_count += 1
                if self._nonsense_count >= NONSENSE_MAX_COUNT:
                    self._condemn_unverified()  # The size that it told before may have been the lie.
                    self._fail(Failure(self._gave_up(str(error)), self._limits.failed_s))
            case _:
                pass

    async def _wait_turn(self, failed_count: int) -> bool:
        """The pause before the next request of a connection. False: look again whether there is something to do."""
        limits, now_s = self._limits, self._ports.clock()
        pause_s = 0.0
        if failed_count:
            pause_s = min(limits.pause_max_s, limits.pause_min_s * 2.0 ** (min(failed_count, 16) - 1))
            pause_s *= self._ports.rng.uniform(0.5, 1.0)
        held_back_s = self._not_before_s - now_s
        pause_s = max(pause_s, held_back_s)
        if pause_s <= 0:
            return True
        if self._received_bytes:
            is_hopeless = now_s + pause_s > self._progress_s + limits.patience_s
        else:
            is_hopeless = (
                failed_count >= limits.attempts_without_byte_max_count
                or now_s + pause_s > self._started_s + limits.first_byte_patience_s
            )
        is_alone = self._ranges is None or self._ranges.connection_count == 0
        if is_alone and is_hopeless:
            lasts_s = max(limits.failed_s, min(held_back_s, limits.rate_limited_max_s))
            self._fail(Failure(self._gave_up(self.last_reason), lasts_s))
            return False
        await asyncio.sleep(pause_s)
        return True

    def _gave_up(self, reason: str) -> Callable[[], TransferError]:
        return partial(RelayGaveUp, self._digest, reason)

    def _fail(self, failure: Failure) -> None:
        if self.failure is None:
            self.failure = failure
            log.info("nothing more comes from the origin: %s", failure.make_error())
            self._changes.notify()

    # --- the hash

    async def _verify(self) -> None:
        while self._stock.file is None or self._ranges is None or not self._ranges.will_be_whole():
            if self.failure is not None:
                return
            await self._changes.wait()
        file, hasher, hashed = self._stock.file, self._digest.hasher(), 0
        if file.is_verified:
            return
        try:
            while hashed < file.size_bytes:
                stop = file.stop_from(hashed)
                if stop < min(file.size_bytes, hashed + HASH_PORTION_MIN_BYTES):
                    await self._changes.wait()
                    continue
                stop = min(stop, hashed + HASH_PORTION_MAX_BYTES)
                await file.hash_into(hasher, ByteSpan(hashed, stop))
                hashed = stop
        except SpoolBroken as exc:
            self._fail(Failure(partial(SpoolBroken, str(exc)), self._limits.failed_s))
            return
        if hasher.hexdigest() == self._digest.encoded:
            file.is_verified = True
            self._changes.notify()
            if self._ports.keep is not None:
                self._ports.keep(self._digest, file.size_bytes, file.descriptor)
            log.info(
                "fetched from the origin",
                extra={
                    "digest": str(self._digest),
                    "image": str(self._repository()),
                    "bytes": self._received_bytes,
                    "seconds": round(self._ports.clock() - self._started_s, 3),
                },
            )
            return
        await self._mismatch(file)

    async def _mismatch(self, file: SpoolFile) -> None:
        where = f"the origin of {self._repository()}"
        log.warning("%s", RelayMismatch(self._digest, where))
        try:
            await self._ports.discard_ingest(self._digest)
        except StoreUnavailable as exc:
            log.warning("what containerd holds of %s could not be thrown away: %s", self._digest, exc)
        self._condemn_unverified()
        self._fail(Failure(partial(RelayMismatch, self._digest, where), self._limits.give_up_s))

    def _condemn_unverified(self) -> None:
        file = self._stock.file
        if file is not None and not file.is_verified:
            self._ports.spool.drop(file)
            self._stock.condemn()
