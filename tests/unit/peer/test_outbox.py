"""Which frames tell a change: tables for what a batch holds."""

from __future__ import annotations

import pytest

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer import frames
from mirror.peer.allowance import Allowance
from mirror.peer.channel_params import ChannelParams
from mirror.peer.errors import ChannelFull
from mirror.peer.frames import DeclineReason, Frame, Held, LeaveReason
from mirror.peer.outbox import Outbox, held_of
from mirror.swarm.bitfield import Bitfield

D = Digest.of(b"layer")
SIZE = 100 * 2**20
COUNT = 200


def batch(outbox: Outbox) -> list[Frame]:
    message = outbox.next_message(1)
    assert outbox.next_message(1) is None
    return [] if message is None else frames.decode_message(message, 1)[0]


def opened(*pieces: int) -> Outbox:
    outbox = Outbox(ChannelParams(), 0.0)
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, pieces), False)
    assert len(batch(outbox)) == 1
    return outbox


@pytest.mark.parametrize(
    ("now", "is_fed", "told"),
    [
        ([1], False, []),
        ([1, 2], False, [frames.Have(0, [2])]),
        (range(1, 66), False, [frames.Have(0, list(range(2, 66)))]),
        (range(1, 67), False, [frames.State(0, [(1, 67)], False)]),
        ([2], False, [frames.State(0, [(2, 3)], False)]),
        ([], False, [frames.State(0, [], False)]),
        ([1, 2], True, [frames.State(0, [(1, 3)], True)]),
    ],
    ids=["the same", "one more", "64 more", "65 more", "another", "none", "source"],
)
def test_a_change_is_told_as(now: list[int], is_fed: bool, told: list[Frame]) -> None:
    outbox = opened(1)
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, now), is_fed)
    assert outbox.is_due == bool(told)
    assert batch(outbox) == told
    assert not outbox.is_due


def test_what_comes_and_goes_between_batches_is_not_told() -> None:
    outbox = opened(1)
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, [1, 2]), True)
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, [1]), False)
    assert batch(outbox) == []
    outbox.tell(Digest.of(b"x"), SIZE, Bitfield(COUNT), False)
    outbox.leave(Digest.of(b"x"), LeaveReason.DONE)
    assert batch(outbox) == []


def test_a_size_that_becomes_known_opens_again() -> None:
    outbox = Outbox(ChannelParams(), 0.0)
    outbox.tell(D, 0, Bitfield(0), False)
    assert batch(outbox) == [frames.Open(0, str(D), 0, [], False)]
    outbox.tell(D, SIZE, Bitfield.full(COUNT), False)
    assert batch(outbox) == [frames.Open(0, str(D), SIZE, [(0, COUNT)], False)]


@pytest.mark.parametrize(
    ("piece_count", "mask", "held"),
    [
        (0, 0, []),
        (1, 1, b"\x80"),
        (COUNT, 0, []),
        (COUNT, (1 << COUNT) - 1, [(0, COUNT)]),
        (COUNT, 0b1001011, [(0, 2), (3, 4), (6, 7)]),
        (COUNT, 0b10101011, b"\xd5" + bytes(24)),
    ],
)
def test_the_shorter_form(piece_count: int, mask: int, held: Held) -> None:
    assert held_of(Bitfield(piece_count, mask)) == held


def test_many_gaps_in_a_large_blob_are_a_bitfield() -> None:
    count = 131_072
    every_other = Bitfield(count, int("01" * (count // 2), 2))
    assert held_of(every_other) == every_other.to_bytes()
    most = Bitfield(count, int("01" * frames.RANGES_MAX_COUNT, 2))
    assert isinstance(held_of(most), list)


def test_a_stream_that_was_declined_is_silent_until_it_is_told_anew() -> None:
    outbox = opened(1)
    assert outbox.declined(0) == D
    assert outbox.declined(0) is None
    outbox.tell(D, SIZE, Bitfield.full(COUNT), True)
    outbox.name(D, [Peer("10.0.0.1", 1)])
    assert batch(outbox) == []
    outbox.leave(D, LeaveReason.DONE)
    assert batch(outbox) == []
    outbox.tell(D, SIZE, Bitfield(COUNT), False)
    assert batch(outbox) == [frames.Open(1, str(D), SIZE, [], False)]


def test_an_answer_about_what_was_left_is_not_sent() -> None:
    outbox = opened(1)
    outbox.answer(D, 0, 2, {1: bytes(32)})
    outbox.leave(D, LeaveReason.GIVEN_UP)
    assert batch(outbox) == [frames.Close(0, 1)]
    outbox.answer(D, 0, 2, {1: bytes(32)})
    assert batch(outbox) == []


def test_a_peer_that_reads_nothing_is_not_told_what_it_opens_in_vain() -> None:
    outbox = Outbox(ChannelParams(streams_max_count=3), 0.0)
    for number in range(1000):
        outbox.decline(number, DeclineReason.FULL)
    assert batch(outbox) == [frames.Decline(number, DeclineReason.FULL) for number in range(3)]


def test_too_many_digests() -> None:
    outbox = Outbox(ChannelParams(streams_max_count=2), 0.0)
    first, second, third = (Digest.of(bytes((number,))) for number in range(3))
    outbox.tell(first, 0, Bitfield(0), False)
    outbox.tell(second, 0, Bitfield(0), False)
    with pytest.raises(ChannelFull):
        outbox.tell(third, 0, Bitfield(0), False)
    outbox.tell(first, SIZE, Bitfield(COUNT), False)
    assert len(batch(outbox)) == 2
    outbox.leave(first, LeaveReason.DONE)
    with pytest.raises(ChannelFull):  # its end is not told yet: a peer that reads nothing makes no room
        outbox.tell(third, 0, Bitfield(0), False)
    assert batch(outbox) == [frames.Close(0, 0)]
    outbox.tell(third, 0, Bitfield(0), False)
    assert batch(outbox) == [frames.Open(2, str(third), 0, [], False)]


def test_what_does_not_fit_comes_in_the_next_message() -> None:
    outbox = Outbox(ChannelParams(), 0.0)
    count = 131_072
    odd = Bitfield(count, int("01" * (count // 2), 2))
    digests = [Digest.of(bytes((number,))) for number in range(10)]
    for digest in digests:
        outbox.tell(digest, 1 << 40, odd, False)
    told: list[str] = []
    while (message := outbox.next_message(1)) is not None:
        assert len(message) <= frames.MESSAGE_MAX_BYTES
        found = frames.decode_message(message, 1)[0]
        assert len(found) <= 3
        told += [frame.digest for frame in found if isinstance(frame, frames.Open)]
    assert told == [str(digest) for digest in digests]


def test_a_load_is_told_in_steps() -> None:
    outbox = Outbox(ChannelParams(), 0.5)
    for ratio, told in ((0.5, []), (0.52, []), (0.53, [frames.Load(55)]), (1.7, [frames.Load(100)])):
        outbox.load(ratio)
        assert batch(outbox) == told


def test_an_allowance_makes_wait_for_what_is_missing() -> None:
    allowance = Allowance(10.0, 20.0, 0.0)
    assert allowance.take(20, 0.0) == 0
    assert allowance.take(5, 0.0) == pytest.approx(0.5)
    assert allowance.take(0, 0.6) == 0
    assert allowance.short_s(0.6) == pytest.approx(0.6), "one who waits as told is still as fast as he may be"
    assert allowance.take(0, 5.0) == 0
    assert allowance.short_s(5.0) == 0


@pytest.mark.parametrize(
    ("before", "now", "size_bytes", "is_fed", "is_urgent"),
    [
        ([], [3], SIZE, False, True),
        ([3], [3, 4], SIZE, False, False),
        ([3], [4], SIZE, False, False),
        ([3], [], SIZE, False, False),
        (range(COUNT - 1), range(COUNT), SIZE, False, True),
        ([3], [3], SIZE, True, True),
        ([3], [3], SIZE - 1, False, True),
        ([3], [3], SIZE, False, False),
    ],
    ids=["first piece", "one more", "another", "none", "last piece", "source", "size", "the same"],
)
def test_what_waits_for_no_batch(
    before: list[int], now: list[int], size_bytes: int, is_fed: bool, is_urgent: bool
) -> None:
    outbox = opened(*before)
    assert not outbox.is_urgent, "all of it was told"
    outbox.tell(D, size_bytes, Bitfield.holding(COUNT, now), is_fed)
    assert outbox.is_urgent == is_urgent
    batch(outbox)
    assert not outbox.is_urgent


def test_a_first_word_and_a_last_one_wait_for_no_batch() -> None:
    outbox = Outbox(ChannelParams(), 0.0)
    outbox.tell(D, SIZE, Bitfield(COUNT), False)
    assert outbox.is_urgent
    batch(outbox)
    outbox.name(D, [Peer("10.0.0.1", 7)])
    outbox.load(0.9)
    assert outbox.is_due and not outbox.is_urgent
    outbox.leave(D, LeaveReason.DONE)
    assert outbox.is_urgent
    batch(outbox)
    assert not outbox.is_urgent


def test_what_is_taken_back_or_declined_is_not_urgent() -> None:
    outbox = opened()
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, [1]), False)
    outbox.tell(D, SIZE, Bitfield(COUNT), False)
    assert not outbox.is_urgent
    outbox.tell(D, SIZE, Bitfield.holding(COUNT, [1]), False)
    outbox.declined(0)
    assert not outbox.is_urgent
