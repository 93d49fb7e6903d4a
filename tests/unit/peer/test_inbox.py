"""What a peer may say: tables for nonsense, for what is passed over, and for what is believed."""

from __future__ import annotations

import pytest

from dht.endpoints import Endpoint, endpoint, pack
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer import frames, news
from mirror.peer.channel_params import ChannelParams
from mirror.peer.frames import DeclineReason, Frame, FrameInvalid, Held, LeaveReason
from mirror.peer.inbox import Inbox
from mirror.peer.news import News
from mirror.peer.outbox import Outbox
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.pieces import PIECE_MIN_BYTES

D = Digest.of(b"layer")
OTHER = Digest.of(b"other")
SIZE = 12 * PIECE_MIN_BYTES


class Side:
    def __init__(self, address: str = "10.0.0.1") -> None:
        self.outbox = Outbox(ChannelParams(streams_max_count=2), 0.0)
        self.inbox = Inbox(Endpoint(address, 29021), self.outbox, ChannelParams(streams_max_count=2))

    def hears(self, *told: Frame) -> list[News | None]:
        return [self.inbox.read(frame) for frame in told]

    def says(self) -> list[Frame]:
        message = self.outbox.next_message(1)
        return [] if message is None else frames.decode_message(message, 1)[0]


def opens(number: int = 0, digest: Digest = D, held: Held = b"") -> Frame:
    return frames.Open(number, str(digest), SIZE, held or [], True)


def holds(*pieces: int, is_fed: bool = True) -> News:
    return news.PeerHolds(D, SIZE, Bitfield.holding(12, pieces), is_fed)


@pytest.mark.parametrize(
    ("held", "pieces"),
    [
        ([], ()),
        (b"\x00\x00", ()),
        (b"\x80\x10", (0, 11)),
        ([(0, 12)], range(12)),
        ([(0, 1), (2, 4), (11, 12)], (0, 2, 3, 11)),
    ],
)
def test_what_is_held(held: Held, pieces: tuple[int, ...]) -> None:
    assert Side().hears(frames.Open(0, str(D), SIZE, held, True)) == [holds(*pieces)]
    assert Side().hears(opens(), frames.State(0, held, False))[1] == holds(*pieces, is_fed=False)


@pytest.mark.parametrize(
    "held",
    [
        b"\x80",
        b"\x80\x00\x00",
        b"\x00\x08",
        [(0, 13)],
        [(5, 5)],
        [(5, 4)],
        [(0, 3), (2, 5)],
        [(0, 3), (3, 5)],
        [(4, 5), (0, 1)],
    ],
)
def test_what_cannot_be_held(held: Held) -> None:
    with pytest.raises(FrameInvalid):
        Side().hears(frames.Open(0, str(D), SIZE, held, True))
    with pytest.raises(FrameInvalid):
        Side().hears(opens(), frames.State(0, held, True))


@pytest.mark.parametrize(
    "nonsense",
    [
        frames.Have(0, [0, 12]),
        frames.Open(0, str(OTHER), 0, [], False),
        frames.Open(1, str(OTHER), 0, [(0, 1)], False),
        frames.Peers(0, [bytes(4) + b"\x01\x01", b"\x0a\x00\x00\x01\x00\x00"]),
        frames.Peers(0, [bytes(10) + b"\xff\xff\x0a\x00\x00\x01\x71\x5d"]),
        frames.Peers(0, [bytes(7)]),
        frames.DigestsAsk(0, 5, 5),
        frames.DigestsAsk(0, 0, 1025),
        frames.Digests(0, 2, 4, {4: bytes(32)}),
    ],
    ids=str,
)
def test_nonsense(nonsense: Frame) -> None:
    side = Side()
    side.hears(opens())
    assert side.inbox.ask(D, 2, 4)
    with pytest.raises(FrameInvalid):
        side.hears(nonsense)


@pytest.mark.parametrize(
    "crossed",
    [
        frames.State(1, b"", True),
        frames.Have(1, [4]),
        frames.Have(0, []),
        frames.Peers(1, []),
        frames.Close(1, 0),
        frames.Decline(0, 0),
        frames.DigestsAsk(0, 0, 1),
        frames.Digests(0, 0, 1, {0: bytes(32)}),
        frames.Open(1, "sha1:abc", SIZE, b"nonsense", True),
        frames.Keep(),
    ],
    ids=str,
)
def test_what_crossed_something_is_passed_over(crossed: Frame) -> None:
    side = Side()
    side.hears(opens())
    assert side.hears(crossed) == [None]
    assert side.inbox.digests() == [D]


def test_pieces_without_a_size_are_passed_over() -> None:
    side = Side()
    assert side.hears(
        frames.Open(0, str(D), 0, [], False), frames.Have(0, [0]), frames.State(0, [], True)
    ) == [
        news.PeerJoined(D),
        None,
        None,
    ]
    assert side.hears(opens(held=[(0, 1)])) == [holds(0)]


def test_too_many_streams_are_declined() -> None:
    side = Side()
    third = Digest.of(b"third")
    assert side.hears(opens(0), opens(1, OTHER), opens(2, third), frames.Have(2, [1]))[2:] == [None, None]
    assert side.says() == [frames.Decline(2, DeclineReason.FULL)]
    assert side.hears(frames.Close(0, 9), opens(3, third)) == [
        news.PeerLeft(D, LeaveReason.DONE),
        news.PeerHolds(third, SIZE, Bitfield(12), True),
    ]


def test_an_open_that_crossed_a_decline_is_passed_over() -> None:
    side = Side()
    side.hears(opens(4))
    side.inbox.decline(D, DeclineReason.ABSENT)
    assert side.hears(opens(4, held=[(0, 1)]), frames.Have(4, [1]), opens(3)) == [None, None, None]
    assert side.inbox.digests() == []
    assert side.hears(opens(5)) == [holds()]


def test_the_same_question_twice_is_one() -> None:
    side = Side()
    side.outbox.tell(D, SIZE, Bitfield(12), False)
    asked = frames.DigestsAsk(0, 0, 2)
    assert side.hears(asked, asked) == [news.PieceDigestsAsked(D, 0, 2), None]
    side.hears(opens())
    side.says()
    assert side.inbox.ask(D, 0, 2) and side.inbox.ask(D, 0, 2)
    assert side.says() == [frames.DigestsAsk(0, 0, 2)]


def test_a_digest_that_is_opened_under_another_number_is_one() -> None:
    side = Side()
    assert side.hears(opens(0), opens(1, held=[(0, 2)]), frames.Have(0, [5]), frames.Have(1, [5])) == [
        holds(),
        holds(0, 1),
        None,
        news.PeerHas(D, (5,)),
    ]
    assert side.inbox.digests() == [D]


@pytest.mark.parametrize(
    ("teller", "believed"),
    [
        ("10.0.0.1", ["10.0.0.2", "192.0.2.1", "fd00::2"]),
        ("127.0.0.1", ["127.0.0.1", "10.0.0.2", "192.0.2.1", "fd00::2"]),
    ],
)
def test_which_addresses_are_believed(teller: str, believed: list[str]) -> None:
    told = [
        "127.0.0.1",
        "10.0.0.2",
        "192.0.2.1",
        "169.254.169.254",
        "224.0.0.1",
        "0.0.0.0",
        "fd00::2",
        "fe80::1",
    ]
    packed = [pack((endpoint(address, 29021),)) for address in told]
    side = Side(teller)
    found = side.hears(opens(), frames.Peers(0, packed))[1]
    assert found == news.PeerNames(D, tuple(Peer(address, 29021) for address in believed))


def test_the_oldest_question_is_given_up() -> None:
    side = Side()
    side.hears(opens())
    for first in range(9):
        assert side.inbox.ask(D, first, first + 1)
    assert side.says() == [frames.DigestsAsk(0, first, first + 1) for first in range(9)]
    answer = {piece: bytes(32) for piece in range(2)}
    assert side.hears(
        frames.Digests(0, 0, 1, {0: answer[0]}),
        frames.Digests(0, 1, 2, {1: answer[1]}),
        frames.Digests(0, 1, 2, {1: answer[1]}),
    ) == [None, news.PieceDigestsTold(D, 1, 2, {1: answer[1]}), None]


def test_who_takes_no_part_cannot_be_asked() -> None:
    side = Side()
    assert not side.inbox.ask(D, 0, 1)
    side.hears(opens())
    assert not side.inbox.ask(D, 0, 13)
    assert side.says() == []


def test_what_is_owed_ends_with_the_stream() -> None:
    side = Side()
    side.outbox.tell(D, SIZE, Bitfield(12), False)
    for first in range(10):
        side.hears(frames.DigestsAsk(0, first, first + 1))
    side.outbox.leave(D, LeaveReason.DONE)
    side.inbox.left(D)
    side.outbox.tell(D, SIZE, Bitfield(12), False)
    assert not side.inbox.answered(D, 0, 1)
    assert side.hears(frames.DigestsAsk(1, 0, 1)) == [news.PieceDigestsAsked(D, 0, 1)]
