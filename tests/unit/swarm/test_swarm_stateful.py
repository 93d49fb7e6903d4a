"""A swarm among honest and lying sources, under any order of events: what it holds, releases and finishes is right."""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import (
    AskPieceDigests,
    Ban,
    CancelRun,
    Command,
    DigestMatched,
    DigestMismatched,
    DropPieces,
    EndReader,
    Event,
    Failure,
    FindSources,
    Finish,
    GiveUp,
    GiveUpReason,
    GoneReason,
    Have,
    PieceArrived,
    PieceDigests,
    PrefixHashed,
    ReaderClosed,
    ReaderMoved,
    ReaderOpened,
    Release,
    RequestRun,
    RunFailed,
    RunProgress,
    SearchEnded,
    SourceFound,
    SourceGone,
    SourceKind,
    SourceState,
    Timer,
    TrimRun,
)
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.swarm import Phase, Swarm
from tests.support.examples import examples

PIECE_BYTES = 4
PIECES_MAX_COUNT = 9
SOURCES = [f"s{number}" for number in range(6)]
SAVIOUR = "saviour"
PARAMS = SwarmParams(
    window_pieces_count=2,
    window_readers_count=2,
    run_first_bytes=3 * PIECE_BYTES,
    run_max_bytes=4 * PIECE_BYTES,
    ahead_max_bytes=5 * PIECE_BYTES,
    runs_max_count=5,
    sources_max_count=4,
    sources_wanted_count=3,
)
SOURCE = st.sampled_from(SOURCES)
PIECES = st.sets(st.integers(0, PIECES_MAX_COUNT - 1))


# Of which nothing follows.
NOTES = (ReaderMoved, RunProgress, PrefixHashed)


class SwarmMachine(RuleBasedStateMachine):
    """The executor's side of every command. Bytes are tokens: `right` or the name of who made them up."""

    liars = frozenset({"s0"})

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.runs: dict[int, tuple[str, int, int]] = {}
        self.past_runs: set[int] = set()
        self.store: dict[int, bytes] = {}
        # Who sent the bytes that are in the store.
        self.dropped: set[int] = set()
        self.spans: dict[int, ByteSpan] = {}
        self.released: dict[int, int] = {}
        self.next_reader = 0
        self.asked: list[str] = []
        self.is_searching = False
        self.ends: list[Command] = []
        self.said: dict[str, set[int]] = {}

    @initialize(
        count=st.integers(1, PIECES_MAX_COUNT),
        short=st.integers(0, PIECE_BYTES - 1),
        is_whole_first=st.booleans(),
        seed=st.integers(0, 1000),
    )
    def start(self, count: int, short: int, is_whole_first: bool, seed: int) -> None:
        self.layout = PieceLayout(count * PIECE_BYTES - short, PIECE_BYTES)
        self.is_whole_first = is_whole_first
        self.swarm = Swarm(self.layout, PARAMS, random.Random(seed), self.now, is_whole_first=is_whole_first)

    # -- the executor ----------------------------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        swarm = self.swarm
        before, shown = swarm.version, (swarm.held, swarm.offered, swarm.reach(self.now))
        timer_at = swarm.next_timer()
        commands = swarm.handle(event, self.now)
        if swarm.version == before:
            assert (swarm.held, swarm.offered, swarm.reach(self.now)) == shown, (
                "changed, and said to be the same"
            )
        if isinstance(event, NOTES):
            assert not commands and (swarm.version, swarm.next_timer()) == (before, timer_at)
        assert not (
            self.ends and self.ends[-1] == Finish() and any(isinstance(c, RequestRun) for c in commands)
        )
        for command in commands:
            self.execute(command)

    def execute(self, command: Command) -> None:
        match command:
            case RequestRun():
                pieces = range(command.first, command.first + command.count)
                assert command.count >= 1 and command.run_id not in self.runs | dict.fromkeys(self.past_runs)
                assert set(pieces) <= self.said[command.source_id], "asked of somebody who does not hold it"
                assert not set(pieces) & set(self.store), "asked for what is here"
                self.runs[command.run_id] = (command.source_id, pieces.start, pieces.stop)
            case TrimRun():
                source_id, first, stop = self.runs[command.run_id]
                assert first < command.stop < stop
                self.runs[command.run_id] = (source_id, first, command.stop)
            case CancelRun():
                del self.runs[command.run_id]
                self.past_runs.add(command.run_id)
            case FindSources():
                assert not self.is_searching
                self.is_searching = True
            case Release():
                span = self.spans[command.reader_id]
                assert self.released[command.reader_id] < command.upto_offset <= span.stop
                self.released[command.reader_id] = command.upto_offset
                for piece in self.layout.touched(ByteSpan(span.start, command.upto_offset)):
                    assert piece in self.store
                is_matched = self.swarm.phase is Phase.DONE
                assert is_matched or not self.is_whole_first
                assert is_matched or command.upto_offset <= self.layout.start(self.layout.count - 1)
                if is_matched:
                    assert set(self.store.values()) == {b"right"}
            case EndReader():
                assert self.released[command.reader_id] > self.spans[command.reader_id].start
                del self.spans[command.reader_id], self.released[command.reader_id]
            case AskPieceDigests():
                assert len(set(command.source_ids)) == len(command.source_ids) > 0
                self.asked = list(command.source_ids)
            case Ban():
                assert command.until > self.now
                assert len(self.liars) > 1 or command.source_id in self.liars, "an honest source was banned"
            case DropPieces():
                for piece in command.pieces:
                    del self.store[piece]
                    self.dropped.add(piece)
            case Finish() | GiveUp():
                assert not self.ends and not self.runs
                self.ends.append(command)
                if command == Finish():
                    assert self.store == dict.fromkeys(range(self.layout.count), b"right")

    def drop_runs_of(self, source_id: str) -> None:
        for run_id in [run_id for run_id, run in self.runs.items() if run[0] == source_id]:
            del self.runs[run_id]
            self.past_runs.add(run_id)

    def deliver(self, run_id: int, token: bytes) -> None:
        source_id, first, stop = self.runs[run_id]
        self.store.setdefault(first, token)
        if first + 1 == stop:
            del self.runs[run_id]
            self.past_runs.add(run_id)
        else:
            self.runs[run_id] = (source_id, first + 1, stop)
        self.tell(PieceArrived(run_id, first))

    def digest(self) -> None:
        tokens = tuple(self.store[piece] for piece in range(self.layout.count))
        if set(tokens) <= {b"right"}:
            self.tell(DigestMatched({piece: tokens[piece] for piece in self.dropped}))
        else:
            self.tell(DigestMismatched(tokens))

    def is_whole(self) -> bool:
        return len(self.store) == self.layout.count and self.swarm.phase is Phase.FETCHING

    # -- sources ---------------------------------------------------------------------------------------------------

    @rule(
        source_id=SOURCE,
        is_complete=st.booleans(),
        distance=st.integers(0, 1),
        kind=st.sampled_from(SourceKind),
    )
    def found(self, source_id: str, is_complete: bool, distance: int, kind: SourceKind) -> None:
        self.said.setdefault(source_id, set())
        if is_complete:
            self.said[source_id] |= set(range(self.layout.count))
        self.tell(SourceFound(source_id, kind, is_complete, distance))

    @rule(source_id=SOURCE, pieces=PIECES, load=st.floats(0, 1), is_fed=st.booleans())
    def described(self, source_id: str, pieces: set[int], load: float, is_fed: bool) -> None:
        self.said[source_id] = pieces & set(range(self.layout.count))
        bitfield = Bitfield.holding(self.layout.count, self.said[source_id])
        self.tell(SourceState(source_id, bitfield, load, is_fed))

    @rule(source_id=SOURCE)
    def described_another_blob(self, source_id: str) -> None:
        bitfield = Bitfield.full(self.layout.count + 1)
        self.tell(SourceState(source_id, bitfield, 0.0, False))

    @rule(source_id=SOURCE, pieces=PIECES)
    def have(self, source_id: str, pieces: set[int]) -> None:
        self.said.setdefault(source_id, set()).update(pieces)
        self.tell(Have(source_id, (*pieces, -1, PIECES_MAX_COUNT + 3)))

    @rule(source_id=SOURCE, reason=st.sampled_from(GoneReason))
    def gone(self, source_id: str, reason: GoneReason) -> None:
        self.drop_runs_of(source_id)
        self.tell(SourceGone(source_id, reason))

    @precondition(lambda self: self.is_searching)
    @rule()
    def search_ended(self) -> None:
        self.is_searching = False
        self.tell(SearchEnded())

    # -- runs ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), count=st.integers(1, 3), is_lie=st.booleans())
    def arrive(self, data: st.DataObject, count: int, is_lie: bool) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.runs)))
        source_id = self.runs[run_id][0]
        for _ in range(count):
            if run_id in self.runs:
                self.deliver(run_id, source_id.encode() if is_lie and source_id in self.liars else b"right")

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), count_bytes=st.integers(0, PIECE_BYTES))
    def progress(self, data: st.DataObject, count_bytes: int) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.runs)))
        self.tell(RunProgress(run_id, self.runs[run_id][1] * PIECE_BYTES + count_bytes))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), failure=st.sampled_from(Failure))
    def fail(self, data: st.DataObject, failure: Failure) -> None:
        run_id = data.draw(st.sampled_from(sorted(self.runs)))
        del self.runs[run_id]
        self.past_runs.add(run_id)
        self.tell(RunFailed(run_id, failure))

    @precondition(lambda self: self.past_runs)
    @rule(data=st.data())
    def late(self, data: st.DataObject) -> None:
        """What a cancelled run still brings is ignored."""
        run_id = data.draw(st.sampled_from(sorted(self.past_runs)))
        held = self.swarm.held
        self.tell(RunProgress(run_id, 3))
        self.tell(PieceArrived(run_id, 0))
        self.tell(RunFailed(run_id, Failure.BROKE))
        assert self.swarm.held == held

    # -- readers ---------------------------------------------------------------------------------------------------

    @rule(bounds=st.tuples(st.integers(0, 40), st.integers(0, 40)))
    def open_reader(self, bounds: tuple[int, int]) -> None:
        start, stop = sorted(min(bound, self.layout.size_bytes) for bound in bounds)
        self.next_reader += 1
        self.spans[self.next_reader] = ByteSpan(start, stop)
        self.released[self.next_reader] = start
        self.tell(ReaderOpened(self.next_reader, ByteSpan(start, stop)))

    @precondition(lambda self: self.spans)
    @rule(data=st.data(), is_all=st.booleans())
    def move_reader(self, data: st.DataObject, is_all: bool) -> None:
        reader_id = data.draw(st.sampled_from(sorted(self.spans)))
        low, high = self.spans[reader_id].start, self.released[reader_id]
        self.tell(ReaderMoved(reader_id, high if is_all else data.draw(st.integers(low, high))))

    @precondition(lambda self: self.spans)
    @rule(data=st.data())
    def close_reader(self, data: st.DataObject) -> None:
        reader_id = data.draw(st.sampled_from(sorted(self.spans)))
        del self.spans[reader_id], self.released[reader_id]
        self.tell(ReaderClosed(reader_id))

    # -- the digest and time ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.is_whole())
    @rule()
    def hashed(self) -> None:
        self.digest()

    @rule()
    def prefix_hashed(self) -> None:
        self.tell(PrefixHashed(self.swarm.held.prefix_count))

    @precondition(lambda self: self.asked)
    @rule(word=st.sampled_from([b"right", b"s0", b"other"]), pieces=PIECES, is_first=st.booleans())
    def told(self, word: bytes, pieces: set[int], is_first: bool) -> None:
        source_id = self.asked.pop(0 if is_first else -1)
        held = self.said[source_id]
        if source_id in self.liars:
            self.tell(PieceDigests(source_id, dict.fromkeys(pieces | {-1, 99}, word)))
        else:
            self.tell(PieceDigests(source_id, dict.fromkeys(held, b"right")))

    @rule(passed_s=st.sampled_from([0.01, 0.1, 0.3, 1.0, 2.0, 6.0]))
    def time_passes(self, passed_s: float) -> None:
        self.now += passed_s
        self.tell(Timer())

    # -- what holds always -----------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "swarm"):
            return
        self.swarm.check()
        assert set(self.swarm.held) == set(self.store)
        if self.swarm.phase is Phase.BLAMING:
            assert not self.swarm.offered.mask
        elif self.swarm.phase in (Phase.FETCHING, Phase.DONE):
            assert self.swarm.offered == self.swarm.held
        assert (self.swarm.phase in (Phase.DONE, Phase.GIVEN_UP)) == bool(self.ends)

    def teardown(self) -> None:
        """With one honest, complete source that nobody knew before, every swarm comes to its end."""
        if not hasattr(self, "swarm") or self.swarm.is_over:
            return
        for source_id in SOURCES:
            self.gone(source_id, GoneReason.CLOSED)
        self.open_reader((0, 40))
        self.said[SAVIOUR] = set(range(self.layout.count))
        self.tell(SourceFound(SAVIOUR, SourceKind.PEER, True, 0))
        for _ in range(400):
            if self.swarm.is_over:
                break
            self.now += 0.1
            self.tell(Timer())
            for run_id in sorted(self.runs):
                if run_id in self.runs:
                    self.deliver(run_id, b"right")
            self.prefix_hashed()
            if self.is_whole():
                self.digest()
            for reader_id, offset in list(self.released.items()):
                self.tell(ReaderMoved(reader_id, offset))
            self.holds()
        assert self.ends in ([Finish()], [GiveUp(GiveUpReason.WRONG_BYTES)])
        if self.ends == [Finish()]:
            assert self.released == {reader_id: span.stop for reader_id, span in self.spans.items()}


class LiarsMachine(SwarmMachine):
    """Several, who may agree: honest sources may be banned, but nothing wrong comes through."""

    liars = frozenset({"s0", "s1", "s2"})


TestOneLiar = SwarmMachine.TestCase
TestOneLiar.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
TestLiars = LiarsMachine.TestCase
TestLiars.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
