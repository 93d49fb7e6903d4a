"""Who of the neighbours of one digest counts, who is let go, and who is never heard."""

from __future__ import annotations

import pytest

from mirror.herd.mesh import CALLED_MAX_COUNT, NEIGHBOURS_MAX_COUNT
from mirror.peer import frames, news
from mirror.peer.channel_params import ChannelParams
from mirror.peer.frames import DeclineReason, LeaveReason
from mirror.peer.news import ChannelEnd
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import GoneReason, SourceGone
from mirror.swarm.lone_stream import Standing
from mirror.swarm.pieces import PIECE_MIN_BYTES
from tests.support.mesh_bed import (
    LAYOUT,
    D,
    MeshBed,
    channel_to,
    none_useless,
    offer,
    peer,
    told,
)

# -- who has it whole ------------------------------------------------------------------------------------------------


async def test_of_those_who_have_it_whole_the_least_loaded_comes_first() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    for number, load_ratio in ((1, 0.5), (2, 0.25), (3, 1.0)):
        bed.mesh.heard(bed.holder(number, 0, 1, 2, 3), news.PeerLoad(load_ratio))
    bed.holder(4, 0, 1, 2)
    bed.holder(5, 0, 1, 2, size_bytes=3 * PIECE_MIN_BYTES)
    names = [str(peer(number)) for number in (2, 1, 3)]
    assert bed.mesh.standing(none_useless) == Standing(names, [], 2)
    without = bed.mesh.standing(lambda name: name == str(peer(1)))
    assert without == Standing([names[0], names[2]], [], 3), "one of no use is one of the others"


async def test_among_equals_the_first_is_by_lot() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    for number in range(3):
        bed.holder(number, 0, 1, 2, 3)
    firsts = {bed.mesh.standing(none_useless).completes[0] for _ in range(50)}
    assert len(firsts) == 3


async def test_hearsay_comes_behind_and_is_unheard_while_it_is_called() -> None:
    bed = MeshBed(has_none={peer(1), peer(2)})
    bed.mesh.begin(LAYOUT)
    bed.holder(3, 0, 1, 2, 3)
    bed.mesh.complete(peer(1))
    bed.mesh.complete(peer(2))
    bed.mesh.told_size(str(peer(2)), 3 * PIECE_MIN_BYTES)
    first, *rest = bed.mesh.standing(none_useless).completes
    assert (first, rest) == (str(peer(3)), [str(peer(1))])
    assert bed.mesh.standing(none_useless).unheard == [str(peer(1)), str(peer(2))]
    await bed.calls_end()
    assert bed.mesh.standing(none_useless) == Standing([str(peer(3)), str(peer(1))], [], 0)


async def test_more_may_be_said_to_have_it_than_are_called() -> None:
    bed = MeshBed()
    for number in range(CALLED_MAX_COUNT + 1):
        bed.mesh.complete(peer(number))
    assert bed.mesh.completes()[-1] == peer(CALLED_MAX_COUNT)
    assert bed.mesh.peer(str(peer(CALLED_MAX_COUNT))) == peer(CALLED_MAX_COUNT)
    await bed.calls_end()
    assert peer(CALLED_MAX_COUNT) not in bed.called


async def test_what_a_neighbour_says_itself_replaces_hearsay() -> None:
    bed = MeshBed(has_none={peer(1)})
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    bed.holder(1, 0)
    assert bed.mesh.completes() == []
    await bed.calls_end()


# -- who is not heard ------------------------------------------------------------------------------------------------


async def test_a_liar_is_not_heard() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    bed.avoided.lied(str(peer(1)))
    bed.holder(1, 0, 1, 2, 3)
    assert bed.new_events() == []
    assert bed.mesh.standing(none_useless).completes == []


async def test_whoever_comes_when_there_are_too_many_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    bed = MeshBed()
    for number in range(NEIGHBOURS_MAX_COUNT):
        bed.comes(number)
    late = channel_to(NEIGHBOURS_MAX_COUNT)
    declined: list[DeclineReason] = []
    monkeypatch.setattr(late, "decline", lambda _digest, reason: declined.append(reason))
    bed.mesh.heard(late, news.PeerJoined(D))
    assert declined == [DeclineReason.FULL]
    assert bed.mesh.channel(str(late.peer)) is None


async def test_who_does_not_answer_is_avoided() -> None:
    bed = MeshBed(has_none={peer(2)})
    bed.mesh.call(peer(1))
    bed.mesh.call(peer(2))
    await bed.calls_end()
    assert peer(1) in bed.avoided
    assert peer(2) not in bed.avoided, "it is there, and may be asked for pieces"


async def test_who_has_no_room_for_what_is_told_is_no_neighbour() -> None:
    bed = MeshBed()
    full = channel_to(1, ChannelParams(streams_max_count=0))
    bed.reachable[peer(1)] = full
    bed.mesh.call(peer(1))
    await bed.calls_end()
    assert len(bed.mesh) == 0
    assert bed.settled_count == 1


# -- who goes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "is_left"),
    [
        (news.ChannelDown(ChannelEnd.LOST), False),
        (news.PeerLeft(D, LeaveReason.DONE), True),
    ],
)
async def test_a_neighbour_that_leaves_is_told_no_more(last: news.News, is_left: bool) -> None:
    """Over a channel that is down nothing is told."""
    bed = MeshBed()
    channel = bed.comes(1)
    told(channel)
    bed.mesh.heard(channel, last)
    closed = [frames.Close(0, LeaveReason.DONE)]
    assert told(channel) == (closed if is_left else [])
    assert bed.settled_count == 1
    assert bed.mesh.channel(str(peer(1))) is None


async def test_who_was_said_to_have_it_and_is_gone_has_it_no_more() -> None:
    bed = MeshBed()
    channel = await bed.has_all(1)
    bed.mesh.heard(channel, news.ChannelDown(ChannelEnd.LOST))
    assert bed.new_events() == [SourceGone(str(peer(1)), GoneReason.UNREACHABLE)]
    assert bed.mesh.completes() == []


@pytest.mark.parametrize("is_lost", [False, True])
async def test_what_was_shown_to_one_who_goes_is_shown_to_another(is_lost: bool) -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channels = [bed.comes(1), bed.comes(2)]
    bed.mesh.offer(offer(0, is_fed=True))
    opens = [[one for one in told(channel) if isinstance(one, frames.Open)][-1] for channel in channels]
    ((shown, other),) = [
        (channel, other)
        for channel, other, last in zip(channels, channels[::-1], opens, strict=True)
        if last.held
    ]
    if is_lost:
        bed.mesh.heard(shown, news.PeerLeft(D, LeaveReason.DONE))
    else:
        bed.mesh.heard(shown, news.PeerDeclined(D, DeclineReason.ABSENT))
    bed.mesh.offer(offer(0, 1, is_fed=True))
    (now,) = told(other)
    assert now == frames.Have(0, [0, 1])
    bed.mesh.close()


async def test_one_who_declined_and_gives_is_told_nothing_and_heard() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channel = bed.holder(1, 0)
    told(channel)
    bed.mesh.heard(channel, news.PeerDeclined(D, DeclineReason.FULL))
    told(channel)
    bed.mesh.offer(offer(3))
    assert told(channel) == []
    assert bed.mesh.is_hopeful(none_useless)


async def test_a_decline_over_a_former_channel_changes_nothing() -> None:
    bed = MeshBed()
    channel = bed.comes(1)
    told(channel)
    bed.mesh.heard(channel_to(1), news.PeerDeclined(D, DeclineReason.ABSENT))
    assert bed.mesh.channel(str(peer(1))) is channel


async def test_one_whose_declining_ends_all_hope_is_reported() -> None:
    bed = MeshBed()
    channel = bed.comes(1)
    bed.mesh.heard(channel, news.PeerDeclined(D, DeclineReason.ABSENT))
    assert bed.settled_count == 1


# -- what need not be told -------------------------------------------------------------------------------------------


async def test_what_a_neighbour_has_itself_it_is_not_told() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channel = bed.holder(1, 0, 1)
    told(channel)
    bed.mesh.offer(offer(0, 1, 2))
    (now,) = told(channel)
    assert isinstance(now, frames.Open | frames.State)
    assert now.held == Bitfield.holding(LAYOUT.count, [2]).to_bytes()
