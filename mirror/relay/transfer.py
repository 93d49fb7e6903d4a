"""The readers of one digest that comes from the origin, and the runs that fetch it for them.

Rules
1. What the readers want is fetched once, whoever asks and however often. When the last one has left, the run goes on
   for `linger_s`, then stops; what came stays in the spool.
2. Of a blob that will be whole the last piece is given to nobody before the digest matched; of a small one nothing is.
   Where only ranges of it are wanted (a client resumes after this daemon was restarted), fetching the rest for the
   hash would cost the origin a second copy: the client checks.
3. After wrong bytes the digest is given up for `give_up_s`, after another failure for `failed_s`: further clients get
   the same answer at once, but what lies in the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest
from mirror.origin.base import Repository
from mirror.relay.errors import RelayGaveUp
from mirror.relay.fetch import Demand, Failure, Fetch, Stock
from mirror.relay.limits import RelayLimits, RelayPorts
from mirror.relay.ranges import opening
from mirror.relay.reading import Reading
from mirror.relay.spool_file import Changes, SpoolFile

log = logging.getLogger(__name__)

# Configs and manifests are below, and buffering one costs less than a wrong byte.
VERIFY_WHOLE_MAX_BYTES = 1024 * 1024
# Of a larger blob so much is withheld until the digest matches: nobody completes it before.
LAST_PIECE_BYTES = 1024 * 1024
READ_MAX_BYTES = 1024 * 1024
# The same layer may lie in several repositories; so many are tried for it.
REPOSITORIES_MAX_COUNT = 8


class Reader:
    """`position`: its next byte, None before the size is known. A reader of the size alone wants no bytes."""

    def __init__(self, byte_range: ByteRange | None, wants_bytes: bool) -> None:
        self.byte_range = byte_range
        self.wants_bytes = wants_bytes
        self.position: int | None = None

    def wants(self, size_bytes: int) -> ByteSpan | None:
        if not self.wants_bytes:
            return None
        try:
            span = self.byte_range.resolve(size_bytes) if self.byte_range else ByteSpan(0, size_bytes)
        except RangeInvalid:
            return None
        return ByteSpan(0, size_bytes) if size_bytes <= VERIFY_WHOLE_MAX_BYTES else span


class Transfer:
    """One per digest; made and kept by `Relay`, which runs `fetch` in a task where `is_due`."""

    def __init__(
        self, digest: Digest, ports: RelayPorts, limits: RelayLimits, connections: asyncio.Semaphore
    ) -> None:
        self.digest = digest
        self.idle_since_s = ports.clock()
        self._ports = ports
        self._limits = limits
        self._connections = connections
        # Its file is held while there are readers or a run.
        self._stock = Stock(Changes())
        self._readers: set[Reader] = set()
        self._repositories: list[Repository] = []
        self._is_running = False
        self._fetch: Fetch | None = None
        self._failure: Failure | None = None
        self._failed_until_s = 0.0

    @property
    def is_idle(self) -> bool:
        return not self._readers and not self._is_running

    @property
    def is_failed(self) -> bool:
        """Whether a failure is still to be remembered."""
        return self._failure is not None and self._ports.clock() < self._failed_until_s

    # --- the runs

    def is_due(self) -> bool:
        """Whether `fetch` is to be run, in a task of its own."""
        return not self._is_running and self._is_run_due()

    def fetch_begins(self) -> None:
        self._is_running = True
        self._failure = None

    async def fetch(self) -> None:
        """Fetches until the readers have what they want, or nobody wants it, or the origin gives nothing."""
        try:
            while self._is_run_due():
                self._failure = None
                await self._run()
        finally:
            self._is_running = False
            self._let_go()
            self._stock.changes.notify()

    async def _run(self) -> None:
        demand = Demand(self._opening, self._wants, self._positions, lambda: tuple(self._repositories))
        fetch = Fetch(self.digest, self._stock, demand, self._ports, self._limits, self._connections)
        self._fetch = fetch
        try:
            async with asyncio.TaskGroup() as tasks:
                run = tasks.create_task(fetch.run(), name=f"relay {self.digest}")
                await self._until_over(fetch)
                run.cancel()
        except* Exception as defects:
            # A task boundary: a defect in one fetch ends this fetch, not the daemon.
            log.error("the fetch of %s failed", self.digest, exc_info=defects)
            self._failed(Failure(lambda: RelayGaveUp(self.digest, "a defect"), self._limits.failed_s))
        finally:
            self._fetch = None
            if fetch.failure is not None:
                self._failed(fetch.failure)
            self._stock.changes.notify()

    async def _until_over(self, fetch: Fetch) -> None:
        while not fetch.is_over():
            if self._readers:
                await self._stock.changes.wait()
                continue
            left_s = self.idle_since_s + self._limits.linger_s - self._ports.clock()
            if left_s <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._stock.changes.wait()

    def _failed(self, failure: Failure) -> None:
        self._failure = failure
        self._failed_until_s = self._ports.clock() + failure.lasts_s

    def _is_run_due(self) -> bool:
        if not any(self._lacks(reader) for reader in self._readers):
            return False
        if self._failure is None or not self.is_failed:
            return True
        untried = set(self._repositories) - self._failure.of_repositories
        return bool(self._failure.of_repositories and untried)

    def _lacks(self, reader: Reader) -> bool:
        if self._stock.size_bytes is None:
            return True
        wanted = reader.wants(self._stock.size_bytes)
        if wanted is None:
            return False
        if self._stock.file is None or self._stock.file.missing(wanted):
            return True
        return self._stock.file.is_whole and not self._stock.file.is_verified

    # --- what a run asks

    def _opening(self) -> ByteSpan:
        wanting = next((reader for reader in self._readers if reader.wants_bytes), None)
        # For the size one byte is enough.
        return opening(wanting.byte_range) if wanting else ByteSpan(0, 1)

    def _wants(self, size_bytes: int) -> Iterable[ByteSpan]:
        return [span for reader in self._readers if (span := reader.wants(size_bytes)) is not None]

    def _positions(self) -> Iterable[int]:
        return [reader.position for reader in self._readers if reader.position is not None]

    # --- the readers

    @contextlib.contextmanager
    def join(
        self, repository: Repository, byte_range: ByteRange | None, *, wants_bytes: bool
    ) -> Iterator[Reader]:
        """Makes the run, if there is one, want what this reader wants."""
        reader = Reader(byte_range, wants_bytes)
        self._readers.add(reader)
        if self._stock.file is None and not self._is_running:
            self._stock.file = self._ports.spool.find(self.digest)
            if self._stock.file is not None:
                self._stock.size_bytes = self._stock.file.size_bytes
        if repository not in self._repositories and len(self._repositories) < REPOSITORIES_MAX_COUNT:
            self._repositories.append(repository)
        if self._fetch is not None and self._stock.size_bytes is not None:
            wanted = reader.wants(self._stock.size_bytes)
            if wanted is not None:
                self._fetch.want(wanted)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            self.idle_since_s = self._ports.clock()
            self._let_go()
            self._stock.changes.notify()

    async def size_bytes(self) -> int:
        """For a reader that has joined. Raises: RelayGaveUp, RelayMismatch, SpoolFull."""
        async with self._patience(self._limits.first_byte_patience_s):
            return await self._known_size_bytes()

    @contextlib.asynccontextmanager
    async def read(self, reader: Reader) -> AsyncIterator[Reading]:
        """For a reader that has joined. Raises, before the first byte: RelayGaveUp, RelayMismatch, SpoolFull,
        RangeInvalid. While the chunks are read: RelayGaveUp, RelayMismatch, SpoolBroken."""
        async with contextlib.AsyncExitStack() as stack:
            async with self._patience(self._limits.first_byte_patience_s):
                size_bytes = await self._known_size_bytes()
                span = reader.byte_range.resolve(size_bytes) if reader.byte_range else ByteSpan(0, size_bytes)
                chunks = await stack.enter_async_context(contextlib.aclosing(self._chunks(reader, span)))
                first = await anext(chunks)
            yield Reading(span, size_bytes, _prepend(first, chunks))

    async def _chunks(self, reader: Reader, span: ByteSpan) -> AsyncGenerator[bytes, None]:
        position = reader.position = span.start
        while (file := self._stock.file) is None:
            self._raise_failure()
            await self._stock.changes.wait()
        while position < span.stop:
            stop = self._may_be_given(file, position)
            if stop == position:
                async with self._patience(self._limits.patience_s):
                    stop = await self._given_to(file, position)
            stop = min(stop, span.stop, position + READ_MAX_BYTES)
            chunk = await file.read(ByteSpan(position, stop))
            position = reader.position = stop
            yield chunk

    async def _known_size_bytes(self) -> int:
        while self._stock.size_bytes is None:
            self._raise_failure()
            await self._stock.changes.wait()
        return self._stock.size_bytes

    async def _given_to(self, file: SpoolFile, position: int) -> int:
        """Waits until the byte at `position` may be given; gives the first one that may not."""
        while (stop := self._may_be_given(file, position)) == position:
            self._raise_failure()
            if self._stock.file not in (file, None):
                raise RelayGaveUp(self.digest, "it was begun anew")
            await self._stock.changes.wait()
        return stop

    def _may_be_given(self, file: SpoolFile, position: int) -> int:
        """The first byte at or behind `position` that may not be given. What was condemned is given no further,
        whatever a new run brings."""
        if self._stock.file is not file:
            return position
        stop = file.stop_from(position)
        if file.is_verified:
            return stop
        is_small = file.size_bytes <= VERIFY_WHOLE_MAX_BYTES
        if is_small or file.is_whole or (self._fetch is not None and self._fetch.will_be_whole()):
            stop = min(stop, 0 if is_small else file.size_bytes - LAST_PIECE_BYTES)
        return max(stop, position)

    def _raise_failure(self) -> None:
        """Not before the run has ended: until then it may be that a further repository is asked."""
        if self._failure is not None:
            raise self._failure.make_error()

    @contextlib.asynccontextmanager
    async def _patience(self, patience_s: float) -> AsyncIterator[None]:
        """Raises: RelayGaveUp when the block takes longer."""
        try:
            async with asyncio.timeout(patience_s):
                yield
        except TimeoutError as exc:
            last = f"; last: {self._fetch.last_reason}" if self._fetch and self._fetch.last_reason else ""
            told = f"the origin gave no byte that is asked for within {patience_s:g} s{last}"
            raise RelayGaveUp(self.digest, told) from exc

    def _let_go(self) -> None:
        if not self.is_idle:
            return
        for file in (self._stock.file, *self._stock.condemned):
            if file is not None:
                self._ports.spool.release(file)
        self._stock.file = None
        self._stock.condemned.clear()


async def _prepend(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
