"""A digest that does not match: who is asked, what is dropped, who is banned."""

from __future__ import annotations

from dataclasses import replace

from mirror.swarm.events import (
    AskPieceDigests,
    Ban,
    BeginAgain,
    Command,
    DigestMatched,
    DigestMismatched,
    DropPieces,
    EndReader,
    Failure,
    Finish,
    GiveUp,
    GiveUpReason,
    GoneReason,
    PieceDigests,
    ReaderClosed,
    ReaderMoved,
    Release,
    RequestRun,
    SourceGone,
)
from mirror.swarm.swarm import Phase
from tests.support.swarm_bed import PARAMS, Bed

# -- wrong bytes -------------------------------------------------------------------------------------------------------


def mismatch(bed: Bed, senders: dict[int, str], liar: str, piece: int) -> list[Command]:
    digests = [b"good"] * bed.count
    if senders[piece] == liar:
        digests[piece] = b"bad"
    return bed.tell(DigestMismatched(tuple(digests)))


def whole(bed: Bed, *names: str) -> dict[int, str]:
    bed.complete(*names)
    senders: dict[int, str] = {}
    while bed.runs:
        for run_id in sorted(bed.runs):
            if run_id in bed.runs:
                source_id, pieces = bed.runs[run_id]
                senders.setdefault(pieces[0], source_id)
                bed.now += 0.01
                bed.arrive(run_id)
    assert bed.swarm.held.is_complete
    return senders


def good(bed: Bed) -> dict[int, bytes]:
    return dict.fromkeys(range(bed.count), b"good")


def test_one_bad_piece_costs_one_piece_and_only_those_who_had_it_are_ended() -> None:
    bed = Bed(12)
    bed.read(reader_id=1)
    senders = whole(bed, "a", "b", "c")
    assert set(senders.values()) == {"a", "b", "c"}
    piece = max(number for number, source_id in senders.items() if source_id == "b" and number < 11)
    bed.read(0, piece * 100, reader_id=2)
    (ask,) = mismatch(bed, senders, "b", piece)
    assert isinstance(ask, AskPieceDigests) and set(ask.source_ids) == {"a", "b", "c"}
    assert bed.swarm.offered.held_count == 0
    assert bed.read(0, 100, reader_id=3) == [], "nothing is released while it is wrong"
    assert bed.tell(PieceDigests("a", good(bed)), PieceDigests("c", good(bed))) == []
    commands = bed.tell(PieceDigests("b", good(bed)))
    assert commands[:3] == [Ban("b", bed.now + PARAMS.ban_s), EndReader(1), DropPieces((piece,))]
    again = commands[3]
    assert isinstance(again, RequestRun) and again.source_id in ("a", "c")
    assert (again.first, again.count) == (piece, 1)
    assert bed.swarm.offered.held_count == 11
    bed.arrive(again.run_id)
    assert bed.tell(DigestMatched({piece: b"good"}))[-1] == Finish()


def test_a_single_sender_is_banned_and_all_is_fetched_again() -> None:
    bed = Bed(3)
    bed.read(reader_id=1)
    bed.read(210, 240, reader_id=2)
    whole(bed, "a")
    bed.partial("b")
    assert bed.tell(DigestMismatched((b"bad",) * 3)) == [
        Ban("a", bed.now + PARAMS.ban_s),
        EndReader(1),
        DropPieces((0, 1, 2)),
    ]
    bed.complete("b")
    bed.bring_all()
    assert bed.tell(DigestMatched(dict.fromkeys(range(3), b"good"))) == [Release(2, 240), Finish()]


def test_of_two_the_liar_is_banned_when_the_right_piece_is_here() -> None:
    bed = Bed(8)
    senders = whole(bed, "a", "b")
    piece = min(number for number, source_id in senders.items() if source_id == "b")
    mismatch(bed, senders, "b", piece)
    commands = bed.tell(PieceDigests("a", good(bed)), PieceDigests("b", good(bed)))
    assert commands == [DropPieces((piece,)), RequestRun(max(bed.runs), "a", piece, 1)]
    bed.bring_all()
    assert bed.tell(DigestMatched({piece: b"good"})) == [Ban("b", bed.now + PARAMS.ban_s), Finish()]


def test_who_was_accused_wrongly_is_not_banned() -> None:
    bed = Bed(8)
    senders = whole(bed, "liar", "b")
    piece = min(number for number, source_id in senders.items() if source_id == "b")
    own = min(number for number, source_id in senders.items() if source_id == "liar")
    mismatch(bed, senders, "liar", own)
    lies = good(bed) | {piece: b"a lie"}
    bed.tell(PieceDigests("b", good(bed)))
    commands = bed.tell(PieceDigests("liar", lies))
    assert commands[0] == DropPieces(tuple(sorted((own, piece))))
    assert (bed.asked("b"), bed.asked("liar")) == ([own], [piece])
    bed.bring_all()
    assert bed.tell(DigestMatched({own: b"good", piece: b"good"})) == [
        Ban("liar", bed.now + PARAMS.ban_s),
        Finish(),
    ]


def test_who_does_not_answer_is_not_waited_for() -> None:
    bed = Bed(8)
    senders = whole(bed, "a", "b", "c", "d")
    piece = min(number for number, source_id in senders.items() if source_id == "b")
    mismatch(bed, senders, "b", piece)
    bed.tell(PieceDigests("a", good(bed)), PieceDigests("c", good(bed)))
    assert bed.tell(SourceGone("d", GoneReason.CLOSED)) == []
    assert bed.wait(4.8) == []
    assert DropPieces((piece,)) in bed.wait(0.3)


def test_who_went_is_not_waited_for() -> None:
    bed = Bed(8)
    senders = whole(bed, "a", "b", "c", "d")
    piece = min(number for number, source_id in senders.items() if source_id == "b")
    mismatch(bed, senders, "b", piece)
    bed.tell(*(PieceDigests(name, good(bed)) for name in "abc"))
    assert DropPieces((piece,)) in bed.tell(SourceGone("d", GoneReason.CLOSED))


def test_the_last_mismatch_ends_it() -> None:
    params = replace(PARAMS, mismatches_max_count=1)
    bed = Bed(4, params)
    whole(bed, "a", "b")
    assert bed.tell(DigestMismatched((b"bad",) * 4)) == [GiveUp(GiveUpReason.WRONG_BYTES)]
    bed = Bed(4, params)
    whole(bed, "a")
    assert bed.tell(DigestMismatched((b"bad",) * 4)) == [
        Ban("a", bed.now + PARAMS.ban_s),
        GiveUp(GiveUpReason.WRONG_BYTES),
    ]


def test_after_wrong_bytes_it_begins_again_with_nothing_and_without_who_sent_them() -> None:
    bed = Bed(4, replace(PARAMS, mismatches_max_count=1))
    whole(bed, "a")
    bed.tell(DigestMismatched((b"bad",) * 4))
    bed.complete("b")
    bed.read()
    assert bed.tell(DigestMatched({})) == [], "of the bytes before"
    assert bed.tell(BeginAgain()) == [DropPieces((0, 1, 2, 3)), RequestRun(2, "b", 0, 4)]
    bed.bring_all()
    assert Finish() in bed.tell(DigestMatched({}))


def test_who_sends_the_second_wrong_piece_is_blamed_for_it() -> None:
    bed = Bed(8)
    senders = whole(bed, "a", "b", "c", "d")
    piece = min(number for number, source_id in senders.items() if source_id == "b")
    mismatch(bed, senders, "b", piece)
    honest = [PieceDigests(name, good(bed)) for name in "abcd"]
    bed.tell(*honest)
    (second,) = {source_id for source_id, _ in bed.runs.values()}
    bed.bring_all()
    digests = [b"good"] * bed.count
    digests[piece] = b"bad"
    (ask,) = bed.tell(DigestMismatched(tuple(digests)))
    assert isinstance(ask, AskPieceDigests)
    assert "b" not in ask.source_ids
    assert Ban(second, bed.now + PARAMS.ban_s) in bed.tell(*honest)


def test_a_piece_that_arrives_forgives_failures() -> None:
    bed = Bed(9)
    bed.complete("a")
    for run_id in range(1, 4):
        bed.fail(run_id, Failure.BROKE)
        assert bed.wait(0.4) == []
        assert bed.wait(0.2) == [RequestRun(run_id + 1, "a", run_id - 1, 10 - run_id)]
        bed.arrive(run_id + 1)


def test_nobody_can_tell_so_all_comes_again_from_others_and_it_ends() -> None:
    bed = Bed(6)
    bed.read()
    rounds = 0
    whole(bed, "a", "b")
    while not bed.swarm.is_over:
        rounds += 1
        bed.tell(DigestMismatched((b"bad",) * 6))
        if bed.swarm.is_over:
            break
        commands = bed.tell(PieceDigests("a", {}), PieceDigests("b", {}))
        assert DropPieces((0, 1, 2, 3, 4, 5)) in commands
        while not bed.swarm.held.is_complete:
            bed.bring_all()
            bed.wait(0.1)
            assert bed.now < 200
    assert rounds == PARAMS.mismatches_max_count
    assert bed.swarm.phase is Phase.GIVEN_UP


def test_a_closed_reader_is_forgotten() -> None:
    bed = Bed(3)
    bed.read()
    bed.complete("a")
    bed.tell(ReaderClosed(1))
    assert bed.arrive(1) == []
    assert bed.tell(ReaderMoved(1, 10), ReaderClosed(1)) == []
