"""What a swarm asks for, and what it releases: scenarios, one a rule."""

from __future__ import annotations

import random
from dataclasses import replace

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import (
    BeginAgain,
    CancelRun,
    DigestMatched,
    Failure,
    FindSources,
    Finish,
    GiveUp,
    GiveUpReason,
    GoneReason,
    Have,
    PrefixHashed,
    ReaderClosed,
    ReaderMoved,
    ReaderOpened,
    Release,
    RequestRun,
    RunProgress,
    SearchEnded,
    SourceFound,
    SourceGone,
    SourceKind,
    SourceState,
    Timer,
    TrimRun,
)
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.swarm import Phase, Swarm
from tests.support.swarm_bed import PARAMS, PEER, Bed

# -- one source --------------------------------------------------------------------------------------------------------


def test_a_stream_from_the_only_source_is_one_request() -> None:
    bed = Bed(6)
    assert bed.read() == []
    assert bed.complete("a") == [RequestRun(1, "a", 0, 6)]
    assert bed.arrive(1) == [Release(1, 100)]
    assert bed.arrive(1, 4) == [Release(1, 200), Release(1, 300), Release(1, 400), Release(1, 500)]
    assert bed.arrive(1) == [], "the last piece is withheld"
    assert bed.swarm.held.is_complete
    assert bed.tell(DigestMatched({})) == [Release(1, 550), Finish()]
    assert bed.swarm.phase is Phase.DONE
    assert bed.swarm.next_timer() is None
    assert bed.read(30, 200, reader_id=2) == [Release(2, 200)], "who comes later is served"


def test_a_blob_of_one_piece_goes_the_same_way() -> None:
    bed = Bed(1)
    bed.read()
    assert bed.complete("a") == [RequestRun(1, "a", 0, 1)]
    assert bed.arrive(1) == []
    assert bed.tell(DigestMatched({})) == [Release(1, 50), Finish()]


def test_an_empty_blob_needs_nobody() -> None:
    swarm = Swarm(PieceLayout.of(0), PARAMS, random.Random(1), 0.0)
    assert swarm.handle(ReaderOpened(1, ByteSpan(0, 0)), 0.0) == []
    assert swarm.handle(SourceFound("a", PEER, True, 0), 0.0) == []
    assert swarm.handle(DigestMatched({}), 0.0) == [Finish()]


def test_a_manifest_leaves_when_the_whole_is_verified() -> None:
    bed = Bed(3, is_whole_first=True)
    bed.read()
    bed.complete("a")
    assert bed.arrive(1, 3) == []
    assert bed.tell(DigestMatched({})) == [Release(1, 250), Finish()]


def test_readers_of_other_places_share_the_download() -> None:
    bed = Bed(6)
    bed.read(0, 150, reader_id=1)
    bed.read(120, 420, reader_id=2)
    bed.read(420, 550, reader_id=3)
    bed.complete("a")
    assert bed.arrive(1) == [Release(1, 100)]
    assert bed.arrive(1) == [Release(1, 150), Release(2, 200)]
    assert bed.arrive(1, 3) == [Release(2, 300), Release(2, 400), Release(2, 420), Release(3, 500)]


def test_the_first_stream_is_short_while_nobody_knows_the_rate() -> None:
    bed = Bed(8, replace(PARAMS, run_first_bytes=300))
    bed.read()
    assert bed.complete("a") == [RequestRun(1, "a", 0, 3)]
    bed.now += 1.0
    assert bed.arrive(1, 3)[-1] == RequestRun(2, "a", 3, 5)


# -- several sources ---------------------------------------------------------------------------------------------------


def test_who_comes_later_takes_over_half_of_a_stream() -> None:
    bed = Bed(9)
    bed.read()
    bed.complete("a")
    assert bed.complete("b") == [TrimRun(1, 5), RequestRun(2, "b", 5, 4)]
    assert (bed.asked("a"), bed.asked("b")) == ([0, 1, 2, 3, 4], [5, 6, 7, 8])


def test_who_is_faster_takes_over_more() -> None:
    bed = Bed(20)
    bed.read()
    bed.complete("slow")
    bed.now += 1.0
    bed.arrive(1)
    bed.partial("fast", 0)
    bed.tell(SourceGone("fast", GoneReason.CLOSED))
    bed.complete("fast")
    bed.now += 0.1
    fast = max(bed.runs)
    bed.arrive(fast, len(bed.runs[fast][1]))
    slow_left, fast_left = len(bed.asked("slow")), len(bed.asked("fast"))
    assert fast_left > 4 * slow_left


def test_a_herd_asks_each_for_one_piece_the_rarest_first() -> None:
    bed = Bed(6)
    bed.partial("a")
    bed.partial("b")
    bed.partial("c")
    for name in ("b", "c"):
        bed.tell(SourceGone(name, GoneReason.CLOSED))
    bed.partial("b", 1, 2)
    bed.tell(SourceState("c", Bitfield.holding(6, [1, 2, 4]), 0.0, False))
    assert len(bed.asked("b")) == 1, "its rate is unknown"
    assert bed.tell(SourceState("a", Bitfield.holding(6, [1, 2, 4]), 0.0, False)) == [
        RequestRun(2, "a", 4, 1)
    ]


def test_a_have_is_taken_at_once() -> None:
    bed = Bed(4)
    bed.read()
    bed.partial("a")
    bed.partial("b")
    assert bed.tell(Have("a", (3,))) == [RequestRun(1, "a", 3, 1)]
    assert bed.tell(Have("b", (3,))) == [], "it is under way"


def test_the_zone_is_asked_first_and_a_farther_one_for_the_rest() -> None:
    bed = Bed(6)
    bed.partial("far", distance=1)
    bed.partial("near", 1, 2, 3)
    bed.tell(SourceState("far", Bitfield.full(6), 0.0, False))
    assert set(bed.asked("far")) <= {0, 4, 5}
    for run_id in [run_id for run_id, run in bed.runs.items() if run[0] == "far"]:
        bed.now += 0.2
        bed.arrive(run_id)
    assert not set(bed.asked("far")) & {1, 2, 3}


def test_the_claimant_is_left_what_only_it_has() -> None:
    bed = Bed(6)
    bed.partial("other", 0, 1, 2)
    bed.partial("claimant", is_fed=True)
    bed.tell(Have("claimant", (0, 1, 2, 3)))
    assert bed.asked("claimant") == [3]
    bed.now += 0.2
    bed.arrive(2)
    bed.wait(0.1)
    assert bed.asked("claimant") == [], "nobody waits for what the other brings"


def test_our_own_ingest_is_read_before_anybody_is_asked() -> None:
    bed = Bed(6)
    bed.read()
    bed.tell(SourceFound("own", SourceKind.OWN_INGEST, False, 0))
    bed.complete("a")
    taken = bed.asked("a")
    bed.tell(SourceState("own", Bitfield.prefix(6, 2), 0.0, True))
    assert bed.asked("own") == [piece for piece in (0, 1) if piece not in taken]


def test_while_our_own_containerd_brings_all_the_clock_is_looked_at_seldom() -> None:
    bed = Bed(4, is_for_readers=True)
    bed.tell(SourceFound("own", SourceKind.OWN_INGEST, False, 0))
    assert bed.swarm.next_timer() == bed.now + PARAMS.tick_fed_s
    bed.complete("a")
    bed.read()
    assert bed.asked("a")
    assert bed.swarm.next_timer() == bed.now + PARAMS.tick_busy_s, (
        "a request is under way, and may need a hedge"
    )


def test_nobody_else_is_asked_while_our_own_containerd_downloads_for_itself() -> None:
    bed = Bed(4)
    bed.tell(SourceFound("own", SourceKind.OWN_INGEST, False, 0))
    assert bed.complete("a") == []
    assert bed.tell(Have("own", (0,))) == [RequestRun(1, "own", 0, 1)]
    assert bed.swarm.handle(Timer(), bed.now + 60) == [CancelRun(1)], "and nobody is searched for"


def test_the_registry_brings_what_nobody_has() -> None:
    bed = Bed(4)
    bed.read()
    bed.partial("a", 0, 1, 2)
    bed.tell(SourceFound("registry", SourceKind.ORIGIN, True, 0))
    for _ in range(3):
        bed.wait(0.1)
    assert set(bed.asked("registry")) <= {3}


# -- searching, waiting, giving up -------------------------------------------------------------------------------------


def searches(bed: Bed, seconds: float) -> int:
    found = 0
    for _ in range(round(seconds * 10)):
        bed.now += 0.1
        for command in bed.swarm.handle(Timer(), bed.now):
            if isinstance(command, FindSources):
                found += 1
                bed.swarm.handle(SearchEnded(), bed.now)
    return found


def test_sources_are_searched_for_at_once_and_more_often_without_any() -> None:
    bed = Bed(4)
    assert bed.swarm.handle(ReaderOpened(1, ByteSpan(0, 350)), bed.now) == [FindSources()]
    assert searches(bed, 3) == 0, "one search at a time"
    bed.tell(SearchEnded())
    assert 9 <= searches(bed, 10) <= 11
    bed.complete("a")
    for _ in range(4):
        bed.now += 0.5
        bed.tell(RunProgress(1, 1))
    assert searches(bed, 0.9) <= 1
    bed = Bed(4)
    bed.read()
    bed.tell(SearchEnded())
    for number in range(PARAMS.sources_wanted_count):
        bed.partial(f"s{number}")
    assert searches(bed, 15) <= 4, "nobody has anything, but there are enough of them"


def test_nobody_is_searched_for_between_pieces_that_come_one_by_one() -> None:
    """Of what a claimant is given piece by piece nothing is under way every other moment."""
    bed = Bed(40)
    bed.read()
    bed.tell(SearchEnded())
    bed.partial("a", is_fed=True)
    for piece in range(8):
        (asked,) = bed.tell(Have("a", (piece,)))
        assert isinstance(asked, RequestRun)
        bed.arrive(asked.run_id)
        assert searches(bed, 0.6) == 0
    assert searches(bed, 0.6) == 1, "nothing came for a second"


def test_while_nothing_is_under_way_the_clock_is_looked_at_often_only_for_a_source_that_rests() -> None:
    bed = Bed(4)
    bed.read()
    bed.partial("a")
    assert bed.swarm.next_timer() == bed.now + PARAMS.tick_busy_s
    bed.tell(Have("a", (0,)))
    bed.fail(1, Failure.BUSY)
    assert bed.swarm.next_timer() == bed.now + PARAMS.tick_s
    bed.wait(PARAMS.busy_rest_s)
    assert bed.asked("a") == [0], "it was asked again as soon as it could be"
    bed.fail(2, Failure.ABSENT)
    bed.wait(2 * PARAMS.failure_rest_s)
    assert bed.swarm.next_timer() == bed.now + PARAMS.tick_busy_s


def test_a_reader_without_a_byte_for_long_is_given_up() -> None:
    bed = Bed(2)
    assert bed.wait(60) == [], "nobody reads"
    bed.read()
    assert bed.wait(19.8) == []
    assert bed.wait(0.3) == [GiveUp(GiveUpReason.STARVED)]
    assert bed.swarm.is_over
    assert bed.complete("a") == []


def test_after_giving_up_it_begins_again_with_what_it_holds_and_who_came_meanwhile() -> None:
    bed = Bed(3)
    bed.read()
    bed.partial("a", 0)
    bed.arrive(1)
    bed.tell(ReaderMoved(1, 100))
    assert bed.wait(20.1) == [GiveUp(GiveUpReason.STARVED)]
    bed.tell(ReaderClosed(1))
    assert bed.complete("b") == []
    assert bed.read(reader_id=2) == []
    assert Release(2, 100) in bed.tell(BeginAgain())
    assert bed.tell(BeginAgain()) == [], "it had not given up"
    bed.wait(0.1)
    bed.bring_all()
    assert bed.swarm.held.is_complete, "the time before does not count"


def test_bytes_put_off_giving_up() -> None:
    bed = Bed(3)
    bed.read()
    bed.complete("a")
    for number in range(30):
        bed.tell(RunProgress(1, number))
        assert bed.wait(0.9) == []


def test_a_reader_who_has_not_taken_what_is_there_does_not_wait() -> None:
    bed = Bed(3)
    bed.read()
    bed.partial("a", 0)
    bed.arrive(1)
    assert bed.wait(60) == []
    bed.tell(ReaderMoved(1, 100))
    assert bed.wait(19.8) == []
    assert bed.wait(0.3) == [GiveUp(GiveUpReason.STARVED)]


def test_a_waiting_reader_comes_first() -> None:
    bed = Bed(40, replace(PARAMS, window_ratio=0.0))
    bed.read(2000, 2100)
    bed.partial("a")
    bed.partial("b")
    bed.wait(0.6)
    assert bed.partial("a", *range(40)) == [RequestRun(1, "a", 20, 1)]


def test_the_spool_has_an_end_and_the_reader_moves_it() -> None:
    bed = Bed(20, replace(PARAMS, ahead_max_bytes=400, window_pieces_count=2))
    bed.read()
    bed.complete("a")
    bed.bring_all()
    assert list(bed.swarm.held) == [0, 1, 2, 3], "the reader stands still"
    bed.tell(PrefixHashed(4), ReaderMoved(1, 300))
    bed.wait(0.1)
    bed.bring_all()
    assert list(bed.swarm.held) == list(range(7))
