from __future__ import annotations

import dataclasses
import itertools
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dht.contacts import epoch_of, stamp
from dht.params import Params
from dht.wire.replay import Replay, Verdict

PARAMS = Params()
SMALL = dataclasses.replace(
    PARAMS, replay_window_count=8, freshness_s=10.0, members_max_count=2, strangers_max_count=1
)
NODE = b"n" * 20
FORGET_S = 2.5 * SMALL.freshness_s


def accepted(replay: Replay, *stamps: int, now: float = 0.0) -> list[Verdict]:
    return [replay.accept(NODE, one, now) for one in stamps]


def test_each_verdict() -> None:
    replay = Replay(PARAMS)
    assert accepted(replay, stamp(2, 10), stamp(2, 12), stamp(2, 11), stamp(2, 11), stamp(1, 99)) == [
        Verdict.NEWEST,
        Verdict.NEWEST,
        Verdict.LATE,
        Verdict.REPLAYED,
        Verdict.STALE_EPOCH,
    ]


def test_a_restart_makes_all_before_it_old() -> None:
    replay = Replay(PARAMS)
    accepted(replay, stamp(2, 500))
    assert accepted(replay, stamp(3, 0), stamp(2, 501), stamp(3, 0)) == [
        Verdict.NEWEST,
        Verdict.STALE_EPOCH,
        Verdict.REPLAYED,
    ]


def test_the_window_has_an_edge() -> None:
    replay = Replay(PARAMS)
    top = 5000
    accepted(replay, stamp(1, top))
    assert accepted(replay, stamp(1, top - 1023), stamp(1, top - 1024)) == [Verdict.LATE, Verdict.REPLAYED]


def test_a_long_leap_forgets_nothing_that_could_come_again() -> None:
    replay = Replay(PARAMS)
    assert accepted(replay, stamp(1, 1), stamp(1, 1024), stamp(1, 1), stamp(1, 2)) == [
        Verdict.NEWEST,
        Verdict.NEWEST,
        Verdict.REPLAYED,
        Verdict.LATE,
    ]
    assert accepted(replay, stamp(1, 100_000), stamp(1, 1024), stamp(1, 99_999)) == [
        Verdict.NEWEST,
        Verdict.REPLAYED,
        Verdict.LATE,
    ]


def test_a_node_restored_from_a_backup_is_not_locked_out() -> None:
    """Nor does it lock itself out by trying."""
    replay = Replay(SMALL)
    accepted(replay, stamp(9, 0))
    for second in range(int(FORGET_S) + 1):
        assert replay.accept(NODE, stamp(4, second), float(second)) is Verdict.STALE_EPOCH
    assert replay.accept(NODE, stamp(4, 99), FORGET_S + 0.1) is Verdict.NEWEST


def test_a_memory_of_bounded_size() -> None:
    replay = Replay(SMALL)
    for number in range(100):
        replay.accept(number, stamp(1, 1), number * 0.01)
        assert len(replay) <= 3
    assert replay.accept(99, stamp(1, 1), 1.0) is Verdict.REPLAYED
    assert replay.accept(0, stamp(1, 1), 1.0) is Verdict.NEWEST


def test_who_spoke_last_is_not_pushed_out_by_newcomers() -> None:
    replay = Replay(SMALL)
    for sender in ("speaker", "a", "b"):
        replay.accept(sender, stamp(1, 1), 0.0)
    replay.accept("speaker", stamp(1, 2), 0.0)
    replay.accept("c", stamp(1, 1), 0.0)
    assert replay.accept("speaker", stamp(1, 2), 0.0) is Verdict.REPLAYED


def test_the_time_to_forget_begins_anew_with_each_datagram() -> None:
    replay = Replay(SMALL)
    replay.accept(NODE, stamp(1, 0), 0.0)
    replay.accept(NODE, stamp(1, 1), FORGET_S - 1)
    assert replay.accept(NODE, stamp(1, 1), FORGET_S + 1) is Verdict.REPLAYED


def test_a_sender_costs_the_same_whatever_it_sends() -> None:
    replay = Replay(PARAMS)
    replay.accept(NODE, stamp(1, 0), 0.0)
    tracemalloc.start()
    try:
        for sequence in itertools.chain(range(1000, 2_000_000, 1000), [10**9]):
            replay.accept(NODE, stamp(1, sequence), 0.0)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024
    finally:
        tracemalloc.stop()


def test_who_speaks_is_kept_and_who_is_silent_goes() -> None:
    replay = Replay(dataclasses.replace(SMALL, members_max_count=1000))
    for number in range(10):
        replay.accept(number, stamp(1, 1), 0.0)
    for second in range(1, 60):
        replay.accept("speaker", stamp(1, second), float(second))
    assert len(replay) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=80))
def test_against_a_memory_without_bounds(sent: list[tuple[int, int]]) -> None:
    replay = Replay(SMALL)
    seen: list[int] = []
    for epoch, sequence in sent:
        stamped = stamp(epoch, sequence)
        newest = max(seen, default=-1)
        verdict = replay.accept(NODE, stamped, 0.0)
        if stamped > newest:
            assert verdict is Verdict.NEWEST
        elif epoch < epoch_of(newest):
            assert verdict is Verdict.STALE_EPOCH
        elif stamped in seen or newest - stamped >= SMALL.replay_window_count:
            assert verdict is Verdict.REPLAYED
        else:
            assert verdict is Verdict.LATE
        if verdict in (Verdict.NEWEST, Verdict.LATE):
            seen.append(stamped)


class ManySenders(RuleBasedStateMachine):
    """Nothing that could still be fresh is accepted twice while its sender is remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.replay = Replay(SMALL)
        self.now = 0.0
        self.accepted_at: dict[tuple[int, int], float] = {}

    @rule(sender=st.integers(0, 2), epoch=st.integers(0, 2), sequence=st.integers(0, 20))
    def receive(self, sender: int, epoch: int, sequence: int) -> None:
        stamped = stamp(epoch, sequence)
        verdict = self.replay.accept(sender, stamped, self.now)
        if verdict in (Verdict.NEWEST, Verdict.LATE):
            before = self.accepted_at.get((sender, stamped))
            assert before is None or self.now - before > FORGET_S
            self.accepted_at[sender, stamped] = self.now

    @rule(passed_s=st.floats(0.0, 15.0))
    def wait(self, passed_s: float) -> None:
        self.now += passed_s

    @invariant()
    def is_bounded(self) -> None:
        assert len(self.replay) <= 3


TestManySenders = ManySenders.TestCase
