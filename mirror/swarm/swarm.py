"""Our side of the download of one blob: events in, commands out. Pure; moves no byte, reads no clock.

Rules
1. `handle` is called with each event in turn, and all of its commands are executed. `next_timer` says when `Timer` is
   due; whoever is late is only slow. What a remote host says never raises; AssertionError is a bug of ours.
2. Nothing is released of the last piece (with `is_whole_first`: of anything) before the digest of the whole matched.
   While it is known not to match nothing is released and nothing is to be offered (`offered`).
3. On a mismatch: a single sender of all pieces is banned and all is asked for again. Else sources say what their pieces
   are (`mirror.swarm.blame`), and what differs is dropped and asked of others. Who was handed a dropped byte is ended;
   everybody else goes on.
4. A byte that a living reader was handed belongs to a piece that is held.
"""

from __future__ import annotations

import random
from enum import Enum, auto
from typing import assert_never

from mirror.swarm.bitfield import Bitfield, lowest, mask_of, pieces_of
from mirror.swarm.blame import Inquiry
from mirror.swarm.events import (
    AskPieceDigests,
    Ban,
    BeginAgain,
    Command,
    DigestMatched,
    DigestMismatched,
    DropPieces,
    EndReader,
    Event,
    FetchAhead,
    FindSources,
    Finish,
    GiveUp,
    GiveUpReason,
    GoneReason,
    Have,
    Lied,
    PieceArrived,
    PieceDigests,
    PrefixHashed,
    ReaderClosed,
    ReaderMoved,
    ReaderOpened,
    Release,
    RunFailed,
    RunProgress,
    SearchEnded,
    SourceFound,
    SourceGone,
    SourceId,
    SourceState,
    Timer,
)
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.requests import Requests
from mirror.swarm.runs import Run, Runs
from mirror.swarm.search import Search
from mirror.swarm.sources import Reach, Source, Sources
from mirror.swarm.window import Window

# Nothing of that is heard after giving up; readers and sources come and go all the same.
_OF_A_DOWNLOAD = (Timer, PrefixHashed, DigestMatched, DigestMismatched)


class Phase(Enum):
    FETCHING = auto()
    # All pieces are here, and together they are wrong.
    BLAMING = auto()
    DONE = auto()
    GIVEN_UP = auto()


class Swarm:
    """Of one blob whose size is known. `is_whole_first`: manifests and configs. `is_for_readers`: others are asked for
    nothing while nobody here reads."""

    def __init__(
        self,
        layout: PieceLayout,
        params: SwarmParams,
        rng: random.Random,
        now: float,
        *,
        is_whole_first: bool = False,
        is_for_readers: bool = False,
    ) -> None:
        self.layout = layout
        self.phase = Phase.FETCHING
        self._params = params
        self._rng = rng
        self._runs = Runs(layout)
        self._held = Bitfield(layout.count)
        self._nothing = self._held
        self._sources = Sources(layout.count, params, rng)
        self._window = Window(layout, params, is_whole_first)
        self._requests = Requests(
            layout,
            params,
            rng,
            self._sources,
            self._runs,
            self._window,
            is_whole_first=is_whole_first,
            is_for_readers=is_for_readers,
        )
        self._inquiry: Inquiry | None = None
        # Who sent a piece that was dropped, and what it was: proof when the right one is here.
        self._accused: list[tuple[SourceId, int, bytes]] = []
        self._mismatch_count = 0
        self._given_up_for: GiveUpReason | None = None
        self._heard_at = now
        self._ticked_at = now
        self._search = Search(params)

    # -- what can be asked -----------------------------------------------------------------------------------------

    @property
    def held(self) -> Bitfield:
        if self._held.mask != self._runs.held:
            self._held = Bitfield(self.layout.count, self._runs.held)
        return self._held

    @property
    def offered(self) -> Bitfield:
        """What peers may be told that we hold (rule 2)."""
        is_served = self.phase is Phase.FETCHING or self.phase is Phase.DONE
        return self.held if is_served else self._nothing

    @property
    def version(self) -> tuple[int, Phase, int]:
        """As long as it is the same, so are `held`, `offered`, and `reach` but for bans that end."""
        return self._runs.held, self.phase, self._sources.version

    @property
    def is_over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.GIVEN_UP)

    def has_source(self, source_id: SourceId) -> bool:
        """It was found, and did not go."""
        return self._sources.present(source_id) is not None

    def is_useless(self, source_id: SourceId, now: float) -> bool:
        source = self._sources.get(source_id)
        return source is not None and self._sources.is_useless(source, now)

    def reach(self, now: float) -> Reach:
        return self._sources.reach(now)

    def has_choice(self, now: float) -> bool:
        """A source that is not resting holds what nobody was asked for yet."""
        return self.phase is Phase.FETCHING and self._requests.has_choice(now)

    def next_timer(self) -> float | None:
        """None: nothing happens by time alone."""
        if self.is_over or (self.phase is Phase.FETCHING and self._runs.is_whole):
            return None
        params, at = self._params, self._ticked_at
        idle_s = params.tick_fed_s if self._requests.is_fed_here else self._sources.tick_s(at)
        return at + (params.tick_busy_s if len(self._runs) else idle_s)

    # -- events ----------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        if self.phase is Phase.GIVEN_UP and isinstance(event, _OF_A_DOWNLOAD):
            return []
        match event:
            case PieceArrived():
                return self._arrived(event, now)
            case RunProgress():
                run = self._runs.get(event.run_id)
                if run is not None:
                    self._progress(run, event.offset, now)
                return []
            case Have():
                return self._have(event, now)
            case ReaderMoved():
                self._window.move(event.reader_id, event.offset, now)
                return []
            case Timer():
                return self._tick(now)
            case SourceState():
                return self._described(event, now)
            case SourceFound():
                source = self._sources.found(event)
                return self._filled(source, now) if source is not None else []
            case SourceGone():
                return self._gone(event, now)
            case SearchEnded():
                self._search.ended()
                return []
            case ReaderOpened():
                self._window.open(event.reader_id, event.span, now)
                return self._releases() + self._filled(None, now)
            case ReaderClosed():
                self._window.close(event.reader_id)
                return []
            case RunFailed():
                return self._failed(event, now)
            case PrefixHashed():
                self._requests.hashed_count = event.piece_count
                return []
            case DigestMatched():
                return self._matched(event, now)
            case DigestMismatched():
                return self._mismatched(event, now)
            case PieceDigests():
                return self._told(event, now)
            case Lied():
                return self._ban(event.source_id, now) + self._filled(None, now)
            case FetchAhead(is_wanted):
                is_begun = is_wanted and not self._requests.is_ahead
                self._requests.is_ahead = is_wanted
                return self._filled(None, now) if is_begun else []
            case BeginAgain():
                return self._begin_again(now)
            case _:
                assert_never(event)

    def _filled(self, source: Source | None, now: float) -> list[Command]:
        """`source` may be asked for more; None: any of them."""
        if self.phase is not Phase.FETCHING or self._runs.is_whole:
            return []
        if source is not None:
            return self._requests.fill(source, now)
        return self._requests.fill_all(now) + self._look_for_more(now)

    # -- runs ------------------------------------------------------------------------------------------------------

    def _progress(self, run: Run, offset: int, now: float) -> None:
        count_bytes = self._runs.progress(run, offset, now)
        if count_bytes:
            self._heard_at = now
            run.source.brought(count_bytes, now, self._params.rate_memory_s)

    def _arrived(self, event: PieceArrived, now: float) -> list[Command]:
        run = self._runs.get(event.run_id)
        if run is None:
            return []
        assert event.piece == run.next, f"piece {event.piece} of run {event.run_id} came out of order"
        self._progress(run, self.layout.start(event.piece + 1), now)
        is_first = self._runs.arrived(run)
        self._sources.forgive(run.source)
        out: list[Command] = []
        if is_first:
            losers = self._requests.cancel_losers(event.piece)
            out += losers
            out += self._releases(event.piece)
            if self._runs.is_whole:
                # A run that lost its end to another source may have nothing to bring.
                return out + self._requests.cancel_all()
            if losers:
                return out + self._filled(None, now)
        if run.next == run.stop:
            out += self._filled(run.source, now)
        return out

    def _failed(self, event: RunFailed, now: float) -> list[Command]:
        run = self._runs.get(event.run_id)
        if run is None:
            return []
        self._runs.end(run)
        self._sources.failed(run.source, event.failure, run.next, now)
        return self._filled(None, now)

    # -- sources ---------------------------------------------------------------------------------------------------

    def _described(self, event: SourceState, now: float) -> list[Command]:
        source = self._sources.present(event.source_id)
        if source is None or event.bitfield.piece_count != self.layout.count:
            return []
        self._sources.described(source, event.load_ratio, event.is_fed_from_origin)
        self._sources.holds(source, event.bitfield.mask)
        return self._filled(source, now)

    def _have(self, event: Have, now: float) -> list[Command]:
        source = self._sources.present(event.source_id)
        if source is None:
            return []
        mask = Bitfield.holding(
            self.layout.count, (piece for piece in event.pieces if 0 <= piece < self.layout.count)
        ).mask
        self._sources.holds(source, source.mask | mask)
        if self.phase is not Phase.FETCHING:
            return []
        return self._requests.fill(source, now, news=mask)

    def _gone(self, event: SourceGone, now: float) -> list[Command]:
        source = self._sources.present(event.source_id)
        if source is None:
            return []
        self._runs.end_of(source)
        self._sources.gone(source)
        if self._inquiry is not None:
            self._inquiry.is_silent(source.source_id)
        out: list[Command] = []
        if event.reason is GoneReason.REPLACED and self.phase is not Phase.DONE:
            mask = 0
            for piece in pieces_of(self._runs.held):
                if self._runs.held_from[piece] == source.source_id:
                    mask |= 1 << piece
            out += self._drop(mask)
            if mask and self._inquiry is not None:
                # What the inquiry is about is gone: the whole is judged anew when it is whole again.
                self._inquiry = None
                self.phase = Phase.FETCHING
        return out + self._judge(now) + self._filled(None, now)

    def _look_for_more(self, now: float) -> list[Command]:
        if self._requests.is_idle or self._requests.is_unread_ahead:
            return []
        is_due = self._search.is_due(len(self._sources), self._heard_at, now, is_idle=not len(self._runs))
        return [FindSources()] if is_due else []

    # -- readers ---------------------------------------------------------------------------------------------------

    def _releases(self, piece: int | None = None) -> list[Command]:
        if self.phase in (Phase.BLAMING, Phase.GIVEN_UP):
            return []
        return [
            Release(reader_id, offset) for reader_id, offset in self._window.releases(self._runs.held, piece)
        ]

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Command]:
        self._ticked_at = now
        if self.phase is Phase.BLAMING:
            return self._judge(now)
        if self.phase is Phase.DONE or self._runs.is_whole:
            return []
        starved_since = max(self._heard_at, self._window.waits_since())
        if now - starved_since >= self._params.give_up_s:
            return self._give_up(GiveUpReason.STARVED)
        out = self._requests.hedge(now) + self._filled(None, now)
        is_stuck = not len(self._runs) and now - self._heard_at >= self._params.silent_max_s
        if is_stuck and self._sources.trust_again(self._runs.free, now):
            out += self._filled(None, now)
        return out

    def _give_up(self, reason: GiveUpReason) -> list[Command]:
        out = self._requests.cancel_all()
        self.phase = Phase.GIVEN_UP
        self._given_up_for = reason
        return [*out, GiveUp(reason)]

    def _begin_again(self, now: float) -> list[Command]:
        if self.phase is not Phase.GIVEN_UP:
            return []
        self.phase = Phase.FETCHING
        self._heard_at = now
        self._mismatch_count = 0
        self._accused.clear()
        is_wrong = self._given_up_for is GiveUpReason.WRONG_BYTES
        out = self._drop(self._runs.held) if is_wrong else []
        return out + self._releases() + self._filled(None, now)

    # -- the digest ------------------------------------------------------------------------------------------------

    def _matched(self, event: DigestMatched, now: float) -> list[Command]:
        assert self._runs.is_whole and self.phase is Phase.FETCHING, "matched, but not whole"
        self.phase = Phase.DONE
        self._window.verified()
        out: list[Command] = []
        proven: dict[SourceId, None] = {}
        for source_id, piece, digest in self._accused:
            if event.piece_digests.get(piece, digest) != digest:
                proven[source_id] = None
        for source_id in proven:
            out += self._ban(source_id, now)
        return [*out, *self._releases(), Finish()]

    def _mismatched(self, event: DigestMismatched, now: float) -> list[Command]:
        assert self._runs.is_whole and self.phase is Phase.FETCHING, "mismatched, but not whole"
        assert len(event.piece_digests) == self.layout.count
        self._mismatch_count += 1
        is_hopeless = self._mismatch_count >= self._params.mismatches_max_count or not self.layout.count
        senders = set(self._runs.held_from.values())
        if len(senders) == 1:
            banned = self._ban(senders.pop(), now)
            if is_hopeless:
                return banned + self._give_up(GiveUpReason.WRONG_BYTES)
            return [*banned, *self._drop(self._runs.held), *self._filled(None, now)]
        if is_hopeless:
            return self._give_up(GiveUpReason.WRONG_BYTES)
        asked = self._sources.witnesses(now)
        self._inquiry = Inquiry(
            event.piece_digests, self._runs.held_from, asked, now + self._params.blame_answer_s
        )
        self.phase = Phase.BLAMING
        ask: list[Command] = [AskPieceDigests(asked)] if asked else []
        return ask + self._judge(now)

    def _told(self, event: PieceDigests, now: float) -> list[Command]:
        if self._inquiry is None:
            return []
        self._inquiry.said(event.source_id, event.piece_digests)
        return self._judge(now)

    def _judge(self, now: float) -> list[Command]:
        inquiry = self._inquiry
        if inquiry is None or not (inquiry.is_over or now >= inquiry.ends_at):
            return []
        self._inquiry = None
        self.phase = Phase.FETCHING
        self._heard_at = now
        verdict = inquiry.verdict()
        out: list[Command] = []
        for source_id in verdict.odd:
            out += self._ban(source_id, now)
        mask = 0
        for piece in verdict.pieces:
            mask |= 1 << piece
            sender = self._sources.get(inquiry.senders[piece])
            if sender is not None:
                sender.distrusted |= 1 << piece
                if piece in verdict.doubtful:
                    self._accused.append((sender.source_id, piece, inquiry.own[piece]))
        return out + self._drop(mask) + self._filled(None, now)

    def _ban(self, source_id: SourceId, now: float) -> list[Command]:
        source = self._sources.get(source_id)
        if source is None or source.banned_until > now:
            return []
        until = self._sources.ban(source, now)
        cancelled = [self._requests.cancel(run) for run in list(self._runs) if run.source is source]
        return [Ban(source_id, until), *cancelled]

    def _drop(self, mask: int) -> list[Command]:
        """Held pieces that are not to be used; who was handed any of it is ended (rule 4)."""
        if not mask:
            return []
        self._runs.drop(mask)
        self._requests.hashed_count = min(self._requests.hashed_count, lowest(mask))
        spoiled = self._window.spoiled_by(mask)
        return [*(EndReader(reader_id) for reader_id in spoiled), DropPieces(tuple(pieces_of(mask)))]

    def check(self) -> None:
        """Raises: AssertionError where an invariant does not hold. Costs as much as thousands of events."""
        self._runs.check()
        self._sources.check()
        self._window.check(self._runs.held)
        assert (self._inquiry is not None) == (self.phase is Phase.BLAMING)
        assert self.phase is not Phase.DONE or self._runs.is_whole
        assert not (self._runs.is_whole and len(self._runs)), "runs go on, but all is here"
        assert not (self.is_over and len(self._runs)), "runs go on, but the swarm is over"
        assert len(self._runs) <= self._params.runs_max_count
        assert mask_of(0, self._requests.hashed_count) & ~self._runs.held == 0, "hashed, but not held"
