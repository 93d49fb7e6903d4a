"""Silence, failures and the end of the game: scenarios, one a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirror.swarm.events import (
    CancelRun,
    DigestMatched,
    DropPieces,
    EndReader,
    Failure,
    Finish,
    GoneReason,
    Have,
    Release,
    RequestRun,
    RunProgress,
    SourceFound,
    SourceGone,
    SourceKind,
)
from tests.support.swarm_bed import PARAMS, Bed

# -- silence, failures, the end of the game ----------------------------------------------------------------------------


def test_a_silent_source_is_hedged_after_a_second_and_given_up_after_five() -> None:
    bed = Bed(4, replace(PARAMS, double_min_s=100.0))
    bed.read()
    bed.complete("a", "b")
    bed.arrive(2)
    bed.arrive(2)
    bed.arrive(3)
    assert (bed.asked("a"), bed.asked("b")) == ([0], [])
    assert bed.wait(0.9) == []
    (hedge,) = bed.wait(0.2)
    assert isinstance(hedge, RequestRun)
    assert (hedge.source_id, hedge.first, hedge.count) == ("b", 0, 1)
    for number in range(1, 40):
        assert 1 in bed.runs, "it may still come"
        bed.tell(RunProgress(hedge.run_id, number))
        if CancelRun(1) in bed.wait(0.1):
            break
    assert 104.9 < bed.now < 105.2
    assert bed.partial("a", 0, 1) == [], "and rests"


def test_a_silent_run_that_speaks_again_keeps_its_pieces() -> None:
    bed = Bed(3)
    bed.read()
    bed.complete("a")
    bed.wait(1.5)
    assert bed.complete("b") == [RequestRun(2, "b", 0, 3)], "its pieces are free"
    bed.tell(RunProgress(1, 10))
    assert bed.arrive(1)[0] == Release(1, 100)
    bed.arrive(1)
    assert 1 in bed.runs and 2 in bed.runs
    assert CancelRun(2) in bed.arrive(1), "nothing is left for the other"


def test_the_last_piece_at_a_slow_source_is_asked_for_twice_and_the_loser_is_cancelled() -> None:
    bed = Bed(2, replace(PARAMS, hedge_s=50.0, silent_max_s=60.0))
    bed.read()
    bed.complete("slow")
    bed.complete("fast")
    assert (bed.asked("slow"), bed.asked("fast")) == ([0], [1])
    bed.now += 0.1
    bed.tell(RunProgress(1, 1))
    commands = bed.arrive(2)
    assert commands == [RequestRun(3, "fast", 0, 1)]
    assert bed.wait(0.5) == [], "twice is enough"
    assert bed.arrive(3) == [CancelRun(1), Release(1, 100)]
    assert bed.swarm.held.is_complete


def test_two_fast_sources_do_not_bring_the_same() -> None:
    bed = Bed(2)
    bed.read()
    bed.complete("a", "b")
    for _ in range(2):
        bed.now += 0.06
        bed.tell(RunProgress(1, 60))
    assert bed.arrive(2) == []


def test_a_failed_run_is_asked_of_another_at_once() -> None:
    bed = Bed(4)
    bed.read()
    bed.complete("a", "b")
    of_a = bed.asked("a")
    bed.fail(1, Failure.BROKE)
    bed.now += 0.3
    bed.arrive(2, len(bed.runs[2][1]))
    assert bed.asked("b") == of_a
    assert not bed.asked("a")


@pytest.mark.parametrize("failure", list(Failure))
def test_the_only_source_fails_and_is_asked_again_later(failure: Failure) -> None:
    bed = Bed(2)
    bed.read()
    bed.complete("a")
    assert bed.fail(1, failure) == []
    again = bed.wait(1.0)
    if failure in (Failure.ABSENT, Failure.WRONG_SIZE):
        assert again == []
        again = bed.complete("a")
    assert again == [RequestRun(2, "a", 0, 2)]


def test_a_source_that_lies_about_its_pieces_is_asked_once_a_piece() -> None:
    bed = Bed(4)
    bed.partial("a", 0, 1, 2)
    asked = []
    for _ in range(100):
        for run_id in list(bed.runs):
            asked.append(bed.runs[run_id][1][0])
            bed.fail(run_id, Failure.ABSENT)
        bed.wait(0.1)
    assert sorted(asked) == [0, 1, 2]


def test_what_went_with_a_source_is_asked_of_others() -> None:
    bed = Bed(4)
    bed.read()
    bed.complete("a")
    del bed.runs[1]
    assert bed.tell(SourceGone("a", GoneReason.CLOSED)) == []
    assert bed.complete("b") == [RequestRun(2, "b", 0, 4)]


def test_an_ingest_that_was_replaced_takes_its_pieces_along() -> None:
    bed = Bed(4)
    bed.read()
    bed.read(250, 340, reader_id=2)
    bed.tell(SourceFound("own", SourceKind.OWN_INGEST, False, 0))
    bed.tell(Have("own", (0, 1)))
    bed.arrive(1, 2)
    assert bed.tell(SourceGone("own", GoneReason.REPLACED)) == [EndReader(1), DropPieces((0, 1))]
    assert bed.swarm.held.held_count == 0
    bed.complete("a")
    bed.bring_all()
    assert bed.swarm.held.is_complete
    assert bed.tell(DigestMatched({0: b"good", 1: b"good"})) == [Release(2, 340), Finish()]
