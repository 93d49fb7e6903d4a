"""Which pieces are free when runs overlap."""

from __future__ import annotations

from mirror.swarm.bitfield import pieces_of
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.runs import Run, Runs
from mirror.swarm.sources import Source

LAYOUT = PieceLayout(60, 10)


def source(name: str) -> Source:
    made = Source(name)
    made.is_present = True
    return made


def free(runs: Runs) -> list[int]:
    runs.check()
    return list(pieces_of(runs.free))


def overlapping() -> tuple[Runs, Run, Run]:
    runs = Runs(LAYOUT)
    return runs, runs.start(source("a"), 0, 4, 1.0), runs.start(source("b"), 2, 5, 1.0)


def test_what_an_ended_run_leaves_is_free_but_for_what_another_covers() -> None:
    runs, first, second = overlapping()
    assert free(runs) == [5]
    runs.end(first)
    assert free(runs) == [0, 1, 5]
    runs.end(second)
    assert free(runs) == [0, 1, 2, 3, 4, 5]


def test_what_a_silent_run_covers_is_free_until_it_speaks() -> None:
    runs, first, second = overlapping()
    runs.silence(first)
    assert free(runs) == [0, 1, 5]
    runs.silence(second)
    assert free(runs) == [0, 1, 2, 3, 4, 5]
    assert runs.progress(first, 3, 2.0) == 3
    assert free(runs) == [4, 5]


def test_a_piece_is_of_the_first_that_completes_it() -> None:
    runs, first, second = overlapping()
    assert runs.arrived(second)
    assert [runs.arrived(first) for _ in range(4)] == [True, True, False, True]
    assert runs.held_from == {0: "a", 1: "a", 2: "b", 3: "a"}
    assert runs.get(first.run_id) is None
    assert free(runs) == [5]


def test_a_dropped_piece_that_is_under_way_is_not_free() -> None:
    runs, first, second = overlapping()
    runs.arrived(second)
    runs.drop(0b100)
    assert free(runs) == [5], "the first still brings it"
    assert runs.arrived(first) and runs.arrived(first) and runs.arrived(first)
    assert runs.held_from[2] == "a"
    runs.drop(0b001)
    assert free(runs) == [0, 5]


def test_progress_is_counted_once_and_within_the_piece_under_way() -> None:
    runs, first, _ = overlapping()
    assert [runs.progress(first, offset, 2.0) for offset in (4, 4, 3, 30)] == [4, 0, 0, 6]
    runs.arrived(first)
    assert runs.progress(first, 15, 2.0) == 5


def test_the_end_that_was_taken_over_is_free() -> None:
    runs, first, _ = overlapping()
    runs.trim(first, 1)
    assert free(runs) == [1, 5]
