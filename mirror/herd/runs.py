"""Carries out the swarm's requests for pieces at peers: bytes from a peer's answer into the spool, piece by piece.

Whom to ask, and what a failure means, is the swarm's to decide.

Rules
1. Of two runs with the same piece the first to complete counts. The second one's bytes wait in memory until they are
   whole, so that no piece is ever of two sources.
2. A run that is trimmed goes on to its new end; one that is cancelled writes nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from mirror.discovery.base import Peer
from mirror.herd.own_bytes import OwnBytes
from mirror.oci.digest import Digest
from mirror.peer.client import PeerBody, PeerClient
from mirror.peer.errors import (
    PeerAbsent,
    PeerBusy,
    PeerDisagrees,
    PeerError,
    PeerIncompatible,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
)
from mirror.relay.errors import SpoolFull
from mirror.swarm.events import (
    Event,
    Failure,
    PieceArrived,
    RequestRun,
    RunFailed,
    RunId,
    RunProgress,
    SourceId,
)
from mirror.swarm.pieces import PieceLayout

# A thread costs 60 us a call on an idle machine, ten times that on a busy one; this is written in about 250. Each run
# holds as much in memory.
WRITE_BYTES = 1024 * 1024
# How often a run tells how far it is, at most.
PROGRESS_EVERY_S = 0.25

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class _Run:
    def __init__(self, request: RequestRun, peer: Peer) -> None:
        self.run_id = request.run_id
        self.source_id: SourceId = request.source_id
        self.peer = peer
        self.next = request.first
        self.stop = request.first + request.count
        # What the peer said of the blob's size.
        self.told_bytes = 0
        # When it was told how far it is.
        self.told_at = 0.0
        self.task: asyncio.Task[None] | None = None


class PeerRuns:
    """Of one blob. `tell` takes what happened, `failed` is told whose run failed, `disagreed` who named another size,
    `no_room` that the disk does not take the blob."""

    def __init__(
        self,
        digest: Digest,
        layout: PieceLayout,
        own: OwnBytes,
        client: PeerClient,
        *,
        tell: Callable[[Event], None],
        failed: Callable[[SourceId], None],
        disagreed: Callable[[SourceId, int], None],
        no_room: Callable[[str], None],
        count_bytes: Callable[[Peer, int], None],
        clock: Callable[[], float],
        spawn: Spawn,
    ) -> None:
        self._digest = digest
        self._layout = layout
        self._own = own
        self._client = client
        self._tell = tell
        self._failed = failed
        self._disagreed = disagreed
        self._no_room = no_room
        self._count_bytes = count_bytes
        self._clock = clock
        self._spawn = spawn
        self._runs: dict[RunId, _Run] = {}
        # Which run writes a piece as it comes.
        self._writers: dict[int, RunId] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def request(self, request: RequestRun, peer: Peer) -> None:
        run = _Run(request, peer)
        self._runs[run.run_id] = run
        run.task = self._spawn(self._carry_out(run))

    def trim(self, run_id: RunId, stop: int) -> None:
        run = self._runs.get(run_id)
        if run is not None:
            run.stop = stop

    def cancel(self, run_id: RunId) -> None:
        run = self._runs.pop(run_id, None)
        if run is not None and run.task is not None:
            run.task.cancel()

    def cancel_all(self) -> None:
        for run_id in list(self._runs):
            self.cancel(run_id)

    # -- one run ---------------------------------------------------------------------------------------------------

    async def _carry_out(self, run: _Run) -> None:
        failure = Failure.BROKE
        try:
            with self._own.hold():
                await self._fetch(run)
            return
        except PeerError as exc:
            failure = _failure(exc)
        except (SpoolFull, OSError) as exc:
            self._no_room(str(exc))
        finally:
            for piece in [piece for piece, run_id in self._writers.items() if run_id == run.run_id]:
                del self._writers[piece]
        if self._runs.pop(run.run_id, None) is not None:
            if failure is Failure.WRONG_SIZE:
                # First: whether there is another size to try is asked when nobody is left.
                self._disagreed(run.source_id, run.told_bytes)
            self._tell(RunFailed(run.run_id, failure))
            if failure not in (Failure.BUSY, Failure.WRONG_SIZE):
                self._failed(run.source_id)

    async def _fetch(self, run: _Run) -> None:
        layout = self._layout
        start, stop = layout.start(run.next), layout.start(run.stop)
        whole = start == 0 and stop == layout.size_bytes
        with await self._client.fetch(run.peer, self._digest, start, None if whole else stop) as body:
            run.told_bytes = body.size_bytes
            if body.size_bytes != layout.size_bytes:
                told = f"says {body.size_bytes} bytes of {self._digest}, not {layout.size_bytes}"
                raise PeerDisagrees(str(run.peer), told)
            self._tell(RunProgress(run.run_id, start))
            run.told_at = self._clock()
            counted_bytes = 0
            try:
                while run.next < run.stop:
                    await self._fetch_piece(run, body)
                    self._count_bytes(run.peer, body.came_bytes - counted_bytes)
                    counted_bytes = body.came_bytes
            finally:
                if body.came_bytes > counted_bytes:
                    self._count_bytes(run.peer, body.came_bytes - counted_bytes)

    async def _fetch_piece(self, run: _Run, body: PeerBody) -> None:
        """In parts, each of which is written when it is whole."""
        piece = run.next
        offset, end = self._layout.start(piece), self._layout.start(piece + 1)
        # Bytes of a piece that another run writes. It must be whole before it is of use: what this run wrote before is
        # none of it.
        kept: bytearray | None = None
        while offset < end:
            part = bytearray(min(WRITE_BYTES, end - offset))
            await body.fill(memoryview(part), self._progress(run, offset))
            if kept is None and not await self._write(run, piece, offset, part):
                kept = bytearray()
            if kept is not None:
                kept += part
            offset += len(part)
        if kept is not None and len(kept) == self._layout.length_bytes(piece):
            await self._write_whole(piece, kept)
        self._arrived(run, piece)

    def _progress(self, run: _Run, offset: int) -> Callable[[int], None]:
        """To be told how many bytes came from there on: a slow source is heard of between its pieces."""

        def came(count_bytes: int) -> None:
            now = self._clock()
            if now - run.told_at >= PROGRESS_EVERY_S:
                run.told_at = now
                if run.run_id in self._runs:
                    self._tell(RunProgress(run.run_id, offset + count_bytes))

        return came

    async def _write(self, run: _Run, piece: int, offset: int, data: bytearray) -> bool:
        """Whether this run writes the piece as it comes; if not, its bytes are to be kept."""
        writer = self._writers.setdefault(piece, run.run_id)
        if writer != run.run_id:
            return False
        async with self._lock(piece):
            if not self._own.mask >> piece & 1:
                await self._own.write(offset, data)
        return True

    async def _write_whole(self, piece: int, data: bytearray) -> None:
        async with self._lock(piece):
            if not self._own.mask >> piece & 1:
                await self._own.write(self._layout.start(piece), data)
                self._own.spooled(piece)

    def _arrived(self, run: _Run, piece: int) -> None:
        run.next = piece + 1
        if run.run_id not in self._runs:
            return
        if not self._own.mask >> piece & 1:
            self._own.spooled(piece)
        self._locks.pop(piece, None)
        if self._writers.get(piece) == run.run_id:
            del self._writers[piece]
        if run.next >= run.stop:
            del self._runs[run.run_id]
        self._tell(PieceArrived(run.run_id, piece))

    def _lock(self, piece: int) -> asyncio.Lock:
        return self._locks.setdefault(piece, asyncio.Lock())


def _failure(exc: PeerError) -> Failure:
    match exc:
        case PeerAbsent():
            return Failure.ABSENT
        case PeerBusy():
            return Failure.BUSY
        case PeerDisagrees():
            return Failure.WRONG_SIZE
        case PeerStalled():
            return Failure.SILENT
        case PeerRefused() | PeerNonsense() | PeerIncompatible():
            return Failure.REFUSED
        case _:
            return Failure.BROKE
