"""Which source is asked for which run now. Pure; the commands it gives are the requests of a swarm.

Rules
1. A source with a free place is asked for what the picker chooses.
2. Where nothing is free to be asked for, it takes over the end of the longest run of another source that is no better,
   in proportion to their rates: so a source that comes late, or is fast, does its share of a stream that somebody else
   began.
3. Where no run has an end to give, the piece under way at a slow source is asked for a second time, if that brings it
   in a fraction of the time. The first to come wins, the other is cancelled. A piece is asked for at most twice, silent
   runs aside. For a piece that a reader has waited for this comes before rule 1.
4. A source that is silent is hedged: its pieces are free for others, and it gets nothing more until it speaks. If it
   does not, its runs are cancelled and it rests.
5. Where our own containerd downloads the blob and nobody here reads it, we want nothing of others. With
   `is_for_readers` nothing is ever wanted of others that nobody here reads: a body may come past the swarm. But for
   what is fetched ahead of readers: a piece at a time, so that it can stop for them, by rule 1 alone.
"""

from __future__ import annotations

import math
import random

from mirror.swarm.bitfield import mask_of
from mirror.swarm.events import CancelRun, Command, Failure, RequestRun, SourceKind, TrimRun
from mirror.swarm.params import SwarmParams
from mirror.swarm.picker import Picker, Wanted
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.runs import Run, Runs
from mirror.swarm.sources import Source, Sources
from mirror.swarm.window import Window


class Requests:
    def __init__(
        self,
        layout: PieceLayout,
        params: SwarmParams,
        rng: random.Random,
        sources: Sources,
        runs: Runs,
        window: Window,
        *,
        is_whole_first: bool,
        is_for_readers: bool = False,
    ) -> None:
        self._is_for_readers = is_for_readers
        self._layout = layout
        self._params = params
        self._sources = sources
        self._runs = runs
        self._window = window
        self._picker = Picker(layout, params, rng)
        # A reader who is handed nothing before the end frees nothing before.
        ahead_max_bytes = layout.size_bytes if is_whole_first else params.ahead_max_bytes
        self._ahead_max_count = max(1, -(-ahead_max_bytes // layout.piece_bytes))
        # The first piece that did not go into the digest. It is in the spool, whatever readers have.
        self.hashed_count = 0
        # Pieces are wanted though nobody reads (rule 5).
        self.is_ahead = False

    # -- requests --------------------------------------------------------------------------------------------------

    def fill_all(self, now: float) -> list[Command]:
        """Every source that may be asked gets what it may get, the best first."""
        if self._runs.is_whole or (self.is_idle and not self._sources.has_own_ingest):
            return []
        sources = [source for source in self._sources if self._may_be_asked(source, now)]
        if not sources:
            return []
        sources.sort(key=Source.rank)
        out: list[Command] = []
        wanted = self._wanted(now)
        for source in sources:
            self._fill(source, wanted, out, now, is_taking_over=True)
        return out

    def fill(self, source: Source, now: float, news: int | None = None) -> list[Command]:
        """One source may have a free place. `news`: it only holds these pieces, too (rule 1 alone)."""
        if self._runs.is_whole or not self._may_be_asked(source, now):
            return []
        if news is not None and not news & self._runs.free:
            return []
        out: list[Command] = []
        self._fill(source, self._wanted(now), out, now, is_taking_over=news is None)
        return out

    def _fill(
        self, source: Source, wanted: Wanted, out: list[Command], now: float, *, is_taking_over: bool
    ) -> None:
        spared = 0 if self._sources.is_level else self._sources.held_by_better(source, now)
        while self._has_place(source):
            if wanted.urgent & source.mask & ~self._runs.free and self._double(
                source, wanted.urgent, spared, out, now
            ):
                continue
            if wanted.room_count <= 0:
                wanted.free &= wanted.near
            pieces = self._picker.pick(source, wanted, spared, self._sources.rarity)
            if pieces is not None:
                self._start(source, pieces.start, pieces.stop, out, now)
                wanted.free &= ~mask_of(pieces.start, pieces.stop)
                wanted.room_count -= len(pieces)
                continue
            if not is_taking_over or self.is_unread_ahead or wanted.free & source.mask & ~source.distrusted:
                return
            if not self._take_over(source, spared, out, now) and not self._double(
                source, -1, spared, out, now
            ):
                return

    @property
    def is_idle(self) -> bool:
        """Rule 5."""
        if len(self._window):
            return False
        return self._sources.has_own_ingest or (self._is_for_readers and not self.is_ahead)

    @property
    def is_fed_here(self) -> bool:
        """Rule 5, its first case."""
        return self._sources.has_own_ingest and not len(self._window)

    @property
    def is_unread_ahead(self) -> bool:
        return self.is_ahead and not len(self._window)

    def has_choice(self, now: float) -> bool:
        free = self._runs.free
        return bool(free) and any(
            source.mask & ~source.distrusted & free and source.is_usable(now) for source in self._sources
        )

    def _may_be_asked(self, source: Source, now: float) -> bool:
        """For anything at all."""
        return (
            bool(source.mask & ~self._runs.held)
            and source.is_usable(now)
            and self._has_place(source)
            and (source.kind is SourceKind.OWN_INGEST or not self.is_idle)
        )

    def _has_place(self, source: Source) -> bool:
        if len(self._runs) >= self._params.runs_max_count:
            return False
        limit_count = self._params.source_runs_max_count
        return not source.run_count or source.run_count < source.runs_max_count(
            self._layout.piece_bytes, limit_count
        )

    def _wanted(self, now: float) -> Wanted:
        runs, window = self._runs, self._window
        free = runs.free
        floor = self.hashed_count
        windows = urgent = near = 0
        if len(window):
            floor = min(floor, self._layout.piece_at(window.lowest))
            windows, urgent = window.wanted(runs.held, now)
            near = window.near()
        taken = mask_of(floor, self._layout.count) & ~free
        peers_count, is_warm = 0, True
        for source in self._sources:
            if source.kind is not SourceKind.OWN_INGEST and source.is_usable(now):
                peers_count += 1
                is_warm = is_warm and source.is_complete
        is_for_reader = not self.is_unread_ahead
        return Wanted(
            free=free,
            window=windows,
            urgent=urgent,
            near=near | mask_of(floor, floor + self._params.window_pieces_count),
            peers_count=max(1, peers_count),
            is_sole=is_for_reader and peers_count == 1,
            is_warm=is_for_reader and is_warm,
            room_count=self._ahead_max_count - taken.bit_count(),
        )

    def _start(self, source: Source, first: int, stop: int, out: list[Command], now: float) -> None:
        run = self._runs.start(source, first, stop, now)
        out.append(RequestRun(run.run_id, source.source_id, first, stop - first))

    def _take_over(self, source: Source, spared: int, out: list[Command], now: float) -> bool:
        if source.kind is not SourceKind.PEER:
            return False
        usable = source.mask & ~source.distrusted & ~spared
        best: Run | None = None
        longest_s = self._params.double_min_s
        for run in self._runs:
            if run.stop - run.next < 2 or run.source is source:
                continue
            if run.is_silent or run.source.kind is SourceKind.OWN_INGEST or not usable >> (run.stop - 1) & 1:
                continue
            left_bytes = self._layout.start(run.stop) - run.offset
            rate = run.source.rate_bytes_per_s / run.source.run_count
            left_s = left_bytes / rate if rate else math.inf
            if left_s > longest_s:
                best, longest_s = run, left_s
        if best is None:
            return False
        own, other = source.rate_bytes_per_s, best.source.rate_bytes_per_s
        share = own / (own + other) if own and other else 0.5
        gap = mask_of(best.next + 1, best.stop) & ~usable
        first = max(best.next + 1, gap.bit_length(), best.stop - max(1, int((best.stop - best.next) * share)))
        stop = best.stop
        if mask_of(first, stop) & (self._runs.held | self._runs.free):
            return False
        self._runs.trim(best, first)
        out.append(TrimRun(best.run_id, first))
        self._start(source, first, stop, out, now)
        return True

    def _double(self, source: Source, mask: int, spared: int, out: list[Command], now: float) -> bool:
        """Only pieces of `mask`."""
        usable = source.mask & ~source.distrusted & mask
        if source.kind is SourceKind.ORIGIN:
            usable &= ~spared
        rate = source.rate_bytes_per_s / (source.run_count + 1)
        for run in self._runs:
            piece = run.next
            if not usable >> piece & 1 or run.source is source or self._runs.held >> piece & 1:
                continue
            own_s = self._layout.length_bytes(piece) / rate if rate else 0.0
            if self._left_s(run, now) * self._params.double_gain_ratio <= own_s:
                continue
            if self._left_s(run, now) > self._params.double_min_s and len(self._runs.with_piece(piece)) == 1:
                self._start(source, piece, piece + 1, out, now)
                return True
        return False

    def _left_s(self, run: Run, now: float) -> float:
        """Until its piece under way is complete. A run that said nothing for a while may be as long silent again."""
        rate = run.source.rate_bytes_per_s / run.source.run_count
        left_bytes = self._layout.start(run.next + 1) - run.offset
        return max(left_bytes / rate if rate else 0.0, now - run.heard_at)

    # -- ends ------------------------------------------------------------------------------------------------------

    def cancel(self, run: Run) -> Command:
        self._runs.end(run)
        return CancelRun(run.run_id)

    def cancel_all(self) -> list[Command]:
        return [self.cancel(run) for run in list(self._runs)]

    def cancel_losers(self, piece: int) -> list[Command]:
        """`piece` is here. Runs that have nothing else to bring are over."""
        losers = [run for run in self._runs.with_piece(piece) if self._runs.is_useless(run)]
        return [self.cancel(run) for run in losers]

    def hedge(self, now: float) -> list[Command]:
        """Rule 4."""
        out: list[Command] = []
        for run in list(self._runs):
            silent_s = now - run.heard_at
            if silent_s >= self._params.silent_max_s:
                out.append(self.cancel(run))
                self._sources.failed(run.source, Failure.SILENT, run.next, now)
            elif silent_s >= self._params.hedge_s and not run.is_silent:
                self._runs.silence(run)
        return out
