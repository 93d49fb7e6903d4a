"""What is held open until it is known whether it stays: bounded in count, bytes and time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirror.keep.fates import Fate
from mirror.keep.holds import ASK_AFTER_S, HELD_MAX_COUNT, Holds, Judgement
from mirror.oci.digest import Digest

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))
MANY = [Digest.of(bytes([number])) for number in range(8)]
NOTHING = Judgement((), (), ())
LONGEST_S = ASK_AFTER_S[-1]


def test_nothing_is_asked_before_something_is_held() -> None:
    holds = Holds(100)
    assert holds.wait_s(5.0) is None
    assert holds.due(5.0) == ()


def test_layers_that_come_together_are_one_question() -> None:
    holds = Holds(100)
    holds.hold(A, 1, 10.0)
    holds.hold(B, 1, 10.02)
    assert holds.wait_s(10.0) == pytest.approx(ASK_AFTER_S[0])
    assert holds.due(10.0) == ()
    assert holds.due(10.0 + ASK_AFTER_S[0] + 0.02) == (A, B)
    assert holds.wait_s(20.0) == 0.0


def test_what_is_told_is_let_go() -> None:
    holds = Holds(100)
    for digest in (A, B, C):
        holds.hold(digest, 1, 10.0)
    assert holds.judge((A, B, C), {A: Fate.GOES, B: Fate.STAYS}) == Judgement((A,), (B,), ())
    assert holds.due(10.0 + LONGEST_S) == (C,)


def test_what_nobody_can_tell_is_asked_again_and_let_go_in_the_end() -> None:
    holds = Holds(100)
    holds.hold(A, 1, 10.0)
    for after_s in ASK_AFTER_S[:-1]:
        assert holds.due(10.0 + after_s - 0.001) == ()
        assert holds.due(10.0 + after_s) == (A,)
        assert holds.judge((A,), {}) == NOTHING
    assert holds.due(10.0 + LONGEST_S) == (A,)
    assert holds.judge((A,), {}) == Judgement((), (), (A,))
    assert holds.wait_s(100.0) is None


def test_of_too_many_the_oldest_are_let_go() -> None:
    holds = Holds(1000)
    digests = [Digest.of(b"%d" % number) for number in range(HELD_MAX_COUNT + 1)]
    dropped = [holds.hold(digest, 1, 10.0) for digest in digests]
    assert dropped == [()] * HELD_MAX_COUNT + [(digests[0],)]


def test_more_than_the_cache_could_take_is_not_held() -> None:
    holds = Holds(100)
    assert holds.hold(A, 60, 10.0) == ()
    assert holds.hold(B, 60, 10.0) == (A,)
    assert holds.hold(C, 101, 10.0) == (C,)
    assert holds.due(20.0) == (B,)


def test_a_blob_that_is_committed_again_is_held_anew() -> None:
    holds = Holds(100)
    holds.hold(A, 60, 10.0)
    holds.judge((A,), {})
    assert holds.hold(A, 70, 20.0) == ()
    assert holds.wait_s(20.0) == pytest.approx(ASK_AFTER_S[0])
    assert holds.hold(B, 30, 20.0) == ()


def test_what_was_dropped_while_it_was_asked_about_is_not_judged() -> None:
    holds = Holds(100)
    holds.hold(A, 60, 10.0)
    holds.hold(B, 60, 10.0)
    assert holds.judge((A,), {A: Fate.GOES}) == NOTHING


class Holding(RuleBasedStateMachine):
    """Whoever holds the descriptors: he has exactly those that are held, never too many, none too long."""

    def __init__(self) -> None:
        super().__init__()
        self.holds = Holds(100)
        self.now = 100.0
        self.open: dict[Digest, tuple[int, float]] = {}

    @rule(digest=st.sampled_from(MANY), size_bytes=st.integers(0, 120))
    def commit(self, digest: Digest, size_bytes: int) -> None:
        self.open.pop(digest, None)
        self.open[digest] = (size_bytes, self.now)
        self.close(self.holds.hold(digest, size_bytes, self.now))

    @rule(
        after_s=st.sampled_from([0.0, 0.04, 0.3, 1.0, 5.0]),
        told=st.dictionaries(st.sampled_from(MANY), st.sampled_from(Fate)),
    )
    def ask(self, after_s: float, told: dict[Digest, Fate]) -> None:
        self.now += after_s
        due = self.holds.due(self.now)
        wait_s = self.holds.wait_s(self.now)
        assert (wait_s == 0.0) == bool(due)
        judgement = self.holds.judge(due, told)
        assert set(judgement.keep) == {digest for digest in due if told.get(digest) is Fate.GOES}
        assert set(judgement.stays) == {digest for digest in due if told.get(digest) is Fate.STAYS}
        assert not set(judgement.let_go) & told.keys()
        self.close([*judgement.keep, *judgement.stays, *judgement.let_go])

    @rule()
    def ask_until_nobody_waits(self) -> None:
        for _ in range(len(ASK_AFTER_S)):
            self.now += LONGEST_S
            self.close(self.holds.judge(self.holds.due(self.now), {}).let_go)
        assert not self.open

    @invariant()
    def is_bounded(self) -> None:
        self.holds.check()
        assert sum(size_bytes for size_bytes, _ in self.open.values()) <= 100

    @invariant()
    def has_what_is_held(self) -> None:
        assert set(self.holds.due(self.now + LONGEST_S)) == self.open.keys()

    def close(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            del self.open[digest]


TestHolding = Holding.TestCase
