"""Which pieces are here, which are under way, and which are free to be asked for. Pure; chooses nothing.

Rules
1. A piece is held, or covered by a run that is not silent, or free.
2. A silent run keeps its pieces only as long as nobody else is asked for them: they are free.
3. The first run that completes a piece is the one that it is of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mirror.swarm.bitfield import mask_of
from mirror.swarm.events import RunId, SourceId
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.sources import Source


@dataclass(slots=True)
class Run:
    """`next` is the piece under way, `offset` the end of what came of it."""

    run_id: RunId
    source: Source
    next: int
    stop: int
    offset: int
    asked_at: float
    heard_at: float
    is_answered: bool = False
    is_silent: bool = False


class Runs:
    def __init__(self, layout: PieceLayout) -> None:
        self._layout = layout
        self._all = mask_of(0, layout.count)
        self._by_id: dict[RunId, Run] = {}
        self._last_id = 0
        self.held = 0
        self.free = self._all
        self.held_from: dict[int, SourceId] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def is_whole(self) -> bool:
        return self.held == self._all

    def get(self, run_id: RunId) -> Run | None:
        return self._by_id.get(run_id)

    def start(self, source: Source, first: int, stop: int, now: float) -> Run:
        assert 0 <= first < stop <= self._layout.count
        self._last_id += 1
        run = Run(self._last_id, source, first, stop, self._layout.start(first), now, now)
        self._by_id[run.run_id] = run
        self.free &= ~mask_of(first, stop)
        source.asked(now)
        return run

    def progress(self, run: Run, offset: int, now: float) -> int:
        """How many bytes are new. A silent run speaks again: what nobody else was asked for meanwhile is its own."""
        count_bytes = max(0, min(offset, self._layout.start(run.next + 1)) - run.offset)
        run.offset += count_bytes
        run.heard_at = now
        if not run.is_answered:
            run.is_answered = True
            run.source.answered(now - run.asked_at)
        if run.is_silent:
            run.is_silent = False
            run.source.silent_count -= 1
            self.free &= ~mask_of(run.next, run.stop)
        return count_bytes

    def arrived(self, run: Run) -> bool:
        """Its piece under way is complete. Whether it is the first of that piece. A run without a further piece is
        over."""
        piece = run.next
        bit = 1 << piece
        run.next += 1
        run.offset = self._layout.start(run.next)
        is_first = not self.held & bit
        if is_first:
            self.held |= bit
            self.free &= ~bit
            self.held_from[piece] = run.source.source_id
        if run.next == run.stop:
            self._forget(run)
        return is_first

    def with_piece(self, piece: int) -> list[Run]:
        return [run for run in self._by_id.values() if run.next <= piece < run.stop]

    def is_useless(self, run: Run) -> bool:
        return not mask_of(run.next, run.stop) & ~self.held

    def silence(self, run: Run) -> None:
        assert not run.is_silent
        run.is_silent = True
        run.source.silent_count += 1
        self._release(run, run.next, run.stop)

    def trim(self, run: Run, stop: int) -> None:
        assert run.next < stop < run.stop
        was_stop = run.stop
        run.stop = stop
        self._release(run, stop, was_stop)

    def end(self, run: Run) -> None:
        self._forget(run)
        self._release(run, run.next, run.stop)

    def end_of(self, source: Source) -> None:
        for run in [run for run in self._by_id.values() if run.source is source]:
            self.end(run)

    def drop(self, mask: int) -> None:
        """Held pieces that are not held any more."""
        assert not mask & ~self.held
        self.held &= ~mask
        self.free |= mask & ~self._covered()

    def _forget(self, run: Run) -> None:
        del self._by_id[run.run_id]
        run.source.run_count -= 1
        if run.is_silent:
            run.source.silent_count -= 1

    def _release(self, run: Run, first: int, stop: int) -> None:
        """These are free, but for what is held or covered by another run."""
        mask = mask_of(first, stop) & ~self.held
        for other in self._by_id.values():
            if other is not run and not other.is_silent and other.next < stop and other.stop > first:
                mask &= ~mask_of(other.next, other.stop)
        self.free |= mask

    def _covered(self) -> int:
        covered = 0
        for run in self._by_id.values():
            if not run.is_silent:
                covered |= mask_of(run.next, run.stop)
        return covered

    def check(self) -> None:
        covered = self._covered()
        assert not self.held & self.free
        # A silent run whose pieces were asked of another leaves them covered by that one: rule 2.
        assert self._all & ~self.held & ~covered == self.free, "a piece is neither held, under way nor free"
        for run in self._by_id.values():
            assert 0 <= run.next < run.stop <= self._layout.count
            assert self._layout.start(run.next) <= run.offset <= self._layout.start(run.next + 1)
        for source in {id(run.source): run.source for run in self._by_id.values()}.values():
            own = [run for run in self._by_id.values() if run.source is source]
            assert source.is_present
            assert source.run_count == len(own)
            assert source.silent_count == sum(run.is_silent for run in own)
        assert all(
            self.held >> piece & 1 == 0 or piece in self.held_from for piece in range(self._layout.count)
        )
