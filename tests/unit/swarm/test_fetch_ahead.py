"""What is fetched though nobody reads yet: a piece at a time, of sources that are known, and no more than is wanted."""

from __future__ import annotations

import pytest

from mirror.swarm.events import (
    BeginAgain,
    Failure,
    FetchAhead,
    ReaderClosed,
    Release,
    RequestRun,
    SourceFound,
    SourceKind,
    Timer,
)
from tests.support.swarm_bed import Bed

ON, OFF = FetchAhead(True), FetchAhead(False)


@pytest.fixture
def bed() -> Bed:
    """Of six pieces, for readers only."""
    return Bed(6, is_for_readers=True)


def test_what_nobody_reads_is_fetched_only_when_it_is_wanted(bed: Bed) -> None:
    assert bed.complete("a") == []
    assert [type(command) for command in bed.tell(ON)] == [RequestRun]
    bed.bring_all()
    assert bed.swarm.held.is_complete


def test_it_is_asked_for_a_piece_at_a_time_even_of_the_only_source(bed: Bed) -> None:
    bed.complete("a", "b")
    bed.tell(ON)
    assert [len(pieces) for _, pieces in bed.runs.values()] == [1, 1]


def test_when_it_is_not_wanted_any_more_what_is_under_way_comes_and_that_is_all(bed: Bed) -> None:
    bed.complete("a")
    bed.tell(ON)
    bed.tell(OFF)
    assert bed.arrive(1) == []
    bed.wait(2)
    assert bed.runs == {}
    assert bed.swarm.held.mask.bit_count() == 1


def test_nothing_is_asked_for_twice_and_nobody_is_searched_for(bed: Bed) -> None:
    """Where a reader waits both is done."""
    commands = bed.swarm.handle(ON, bed.now)
    bed.partial("slow", 0)
    bed.partial("quick", 0, 1)
    bed.arrive(2)
    for _ in range(9):
        bed.now += 0.1
        commands += bed.swarm.handle(Timer(), bed.now)
    assert commands == []


def test_a_reader_goes_on_from_there_with_more_at_once(bed: Bed) -> None:
    bed.complete("a")
    bed.tell(ON)
    bed.arrive(1)
    bed.tell(OFF)
    (piece,) = (piece for piece in range(6) if bed.swarm.held.mask >> piece & 1)
    commands = bed.read()
    assert (Release(1, 100) in commands) is (piece == 0)
    bed.bring_all()
    assert bed.swarm.held.is_complete
    bed.tell(ReaderClosed(1))


def test_to_be_told_so_again_changes_nothing(bed: Bed) -> None:
    bed.complete("a")
    bed.tell(ON)
    bed.fail(1, Failure.BROKE)
    bed.now += 1.0
    assert bed.tell(ON) == []
    assert len(bed.wait(0.1)) == 1, "as the clock says"


def test_what_the_own_runtime_downloads_is_fetched_from_nobody(bed: Bed) -> None:
    bed.tell(ON, SourceFound("own", SourceKind.OWN_INGEST, False, 0))
    assert bed.complete("a") == []


def test_after_giving_up_it_does_not_go_on_by_itself(bed: Bed) -> None:
    bed.read()
    bed.wait(20.5)
    assert bed.swarm.is_over
    bed.tell(ReaderClosed(1), ON)
    assert bed.complete("a") == []
    assert bed.tell(BeginAgain()) != []


# -- whether there is a choice -----------------------------------------------------------------------------------------


def test_there_is_a_choice_while_somebody_holds_what_nobody_was_asked_for(bed: Bed) -> None:
    assert not bed.swarm.has_choice(bed.now)
    bed.partial("a", 0, 1)
    assert bed.swarm.has_choice(bed.now)
    bed.tell(ON)
    assert bed.swarm.has_choice(bed.now), "one is under way, one is free"
    bed.arrive(1)
    assert not bed.swarm.has_choice(bed.now)
    bed.arrive(2)
    bed.complete("b")
    assert not bed.swarm.held.is_complete
    assert bed.swarm.has_choice(bed.now)
    bed.bring_all()
    assert not bed.swarm.has_choice(bed.now), "all is here"


def test_a_source_that_rests_gives_no_choice(bed: Bed) -> None:
    bed.partial("a", 0)
    bed.tell(ON)
    bed.fail(1, Failure.BROKE)
    assert not bed.swarm.has_choice(bed.now)
    bed.now += 1.0
    assert bed.swarm.has_choice(bed.now)
