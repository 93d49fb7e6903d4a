"""The neighbours of one digest: whom this host calls, what it believes, and exactly what it tells to whom."""

from __future__ import annotations

import asyncio

import pytest

from mirror.herd.avoided import AVOIDED_S
from mirror.herd.mesh import (
    AT_ONCE_MAX_BYTES,
    CALLED_MAX_COUNT,
    DISBELIEVED_S,
    NEIGHBOURS_MAX_COUNT,
    NOTHING,
)
from mirror.peer import frames, news
from mirror.peer.channel import Channel
from mirror.peer.channel_params import ChannelParams
from mirror.peer.frames import DeclineReason, LeaveReason
from mirror.peer.news import ChannelEnd, News
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import GoneReason, Have, SourceFound, SourceGone, SourceKind, SourceState
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PIECE_MIN_BYTES, PieceLayout
from tests.support.mesh_bed import (
    LAYOUT,
    SIZE,
    D,
    MeshBed,
    channel_to,
    none_useless,
    offer,
    opened,
    peer,
    told,
)

# -- whom it calls ---------------------------------------------------------------------------------------------------


async def test_it_calls_whoever_is_named_until_there_are_enough() -> None:
    bed = MeshBed()
    for number in range(30):
        bed.reachable[peer(number)] = channel_to(number)
        bed.mesh.call(peer(number))
        bed.mesh.call(peer(number))
    await bed.calls_end()
    assert bed.called == [peer(number) for number in range(CALLED_MAX_COUNT)]
    assert len(bed.mesh) == CALLED_MAX_COUNT
    assert bed.settled_count == 1, "once, when all have answered"


async def test_whoever_calls_is_let_in_until_there_are_too_many() -> None:
    bed = MeshBed()
    channels = [bed.comes(number) for number in range(NEIGHBOURS_MAX_COUNT + 1)]
    assert len(bed.mesh) == NEIGHBOURS_MAX_COUNT
    assert told(channels[0]) == [opened(0)]
    assert not any(isinstance(frame, frames.Open) for frame in told(channels[-1]))


async def test_a_newcomer_is_told_of_some_of_the_others() -> None:
    bed = MeshBed()
    bed.comes(1)
    bed.comes(2)
    (first,) = [frame for frame in told(bed.comes(3)) if isinstance(frame, frames.Peers)]
    assert len(first.peers) == 2


async def test_names_of_others_are_called() -> None:
    bed = MeshBed()
    channel = bed.comes(1)
    bed.avoided.unreachable(peer(3))
    bed.mesh.heard(channel, news.PeerNames(D, (peer(2), peer(3))))
    await bed.calls_end()
    assert bed.called == [peer(2)]


# -- what it believes ------------------------------------------------------------------------------------------------


async def test_hearsay_is_good_for_one_try() -> None:
    bed = MeshBed(has_none={peer(1)})
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    name = str(peer(1))
    assert bed.new_events() == [SourceFound(name, SourceKind.PEER, True, 0)], "it may have no channel"
    assert bed.mesh.is_hopeful(none_useless)
    bed.mesh.failed(name)
    assert bed.new_events() == [SourceGone(name, GoneReason.UNREACHABLE)]
    assert not bed.mesh.is_hopeful(none_useless)
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    assert bed.new_events() == []
    bed.now += DISBELIEVED_S
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    assert bed.new_events() == [SourceFound(name, SourceKind.PEER, True, 0)]


async def test_the_own_word_of_one_who_is_said_to_have_all_comes_first() -> None:
    """A host whose uplink is needed elsewhere says that it has less."""
    bed = MeshBed()
    channel = bed.reachable[peer(1)] = channel_to(1)
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    bed.mesh.heard(channel, news.PeerHolds(D, SIZE, Bitfield.holding(4, [2]), True))
    await bed.calls_end()
    assert bed.new_events() == [
        SourceFound(str(peer(1)), SourceKind.PEER, False, 0),
        SourceState(str(peer(1)), Bitfield.holding(4, [2]), 0.0, True),
    ]


async def test_who_says_nothing_is_asked_for_what_others_say_that_he_has() -> None:
    bed = MeshBed()
    bed.reachable[peer(1)] = channel_to(1)
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    await asyncio.sleep(0)
    assert bed.new_events() == []
    await bed.calls_end()
    assert bed.new_events() == [SourceFound(str(peer(1)), SourceKind.PEER, True, 0)]


async def test_a_small_blob_waits_for_nobodys_word() -> None:
    bed = MeshBed()
    bed.reachable[peer(1)] = channel_to(1)
    bed.mesh.begin(PieceLayout.of(AT_ONCE_MAX_BYTES))
    bed.mesh.complete(peer(1))
    assert bed.new_events() == [SourceFound(str(peer(1)), SourceKind.PEER, True, 0)]
    await bed.calls_end()


async def test_an_unreachable_peer_is_not_called_for_each_digest() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    assert not bed.mesh.is_hopeful(none_useless)
    bed.mesh.complete(peer(1))
    assert bed.called == [peer(1)]
    bed.mesh.call(peer(1))
    await bed.calls_end()
    assert bed.called == [peer(1)] * 2, "whom an arbiter names is called"
    bed.now += AVOIDED_S
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    assert bed.called == [peer(1)] * 3


async def test_a_neighbours_own_word_is_better_than_hearsay() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    bed.holder(1, 0)
    bed.mesh.complete(peer(1))
    assert bed.mesh.completes() == []
    assert [event for event in bed.new_events() if isinstance(event, SourceFound)] == [
        SourceFound(str(peer(1)), SourceKind.PEER, False, 0)
    ]
    await bed.calls_end()


async def test_what_was_said_before_the_swarm_began_is_told_then() -> None:
    bed = MeshBed()
    channel = bed.holder(1, 0)
    bed.mesh.heard(channel, news.PeerHas(D, (2,)))
    assert bed.new_events() == []
    assert bed.sizes == [SIZE]
    bed.mesh.begin(LAYOUT)
    name = str(peer(1))
    assert bed.new_events() == [
        SourceFound(name, SourceKind.PEER, False, 0),
        SourceState(name, Bitfield.holding(4, [0, 2]), 0.0, False),
    ]
    bed.mesh.heard(channel, news.PeerHas(D, (1,)))
    assert bed.new_events() == [Have(name, (1,))]


async def test_a_neighbour_with_another_size_is_no_source() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channel = bed.holder(1, 0, size_bytes=3 * PIECE_MIN_BYTES)
    bed.mesh.heard(channel, news.PeerHas(D, (1,)))
    assert bed.new_events() == []
    assert bed.mesh.sizes() == {3 * PIECE_MIN_BYTES}


async def test_a_complete_peer_that_names_another_size_does_not_count() -> None:
    bed = MeshBed(has_none={peer(1)})
    bed.mesh.begin(LAYOUT)
    bed.mesh.complete(peer(1))
    await bed.calls_end()
    bed.new_events()
    bed.mesh.told_size(str(peer(1)), 3 * PIECE_MIN_BYTES)
    assert bed.new_events() == [SourceGone(str(peer(1)), GoneReason.CLOSED)]
    assert not bed.mesh.is_hopeful(none_useless)
    bed.mesh.begin(PieceLayout.of(3 * PIECE_MIN_BYTES))
    assert bed.new_events() == [SourceFound(str(peer(1)), SourceKind.PEER, True, 0)]


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (news.ChannelDown(ChannelEnd.LOST), GoneReason.UNREACHABLE),
        (news.PeerLeft(D, LeaveReason.DONE), GoneReason.CLOSED),
        (news.PeerLeft(D, LeaveReason.REPLACED), GoneReason.REPLACED),
    ],
)
async def test_a_neighbour_that_goes(last: News, reason: GoneReason) -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channel = bed.holder(1, 0)
    bed.new_events()
    bed.mesh.heard(channel_to(1), last)
    assert bed.new_events() == [], "a channel that was replaced before"
    bed.mesh.heard(channel, last)
    assert bed.new_events() == [SourceGone(str(peer(1)), reason)]
    assert not bed.mesh.is_hopeful(none_useless)


async def test_who_left_with_all_of_it_still_serves() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    channel = bed.holder(1, 0, 1, 2, 3)
    bed.mesh.heard(channel, news.PeerLeft(D, LeaveReason.DONE))
    assert bed.new_events()[-1] == SourceFound(str(peer(1)), SourceKind.PEER, True, 0)
    assert bed.mesh.completes() == [peer(1)]


async def test_neighbours_that_wait_are_hope_while_nobody_was_useless() -> None:
    bed = MeshBed(has_none={peer(2)})
    bed.mesh.begin(LAYOUT)
    assert not bed.mesh.is_hopeful(none_useless)
    bed.comes(1)
    assert bed.mesh.is_hopeful(none_useless)
    assert not bed.mesh.is_hopeful(lambda name: name == str(peer(1)))
    bed.mesh.complete(peer(2))
    await bed.calls_end()
    bed.mesh.failed(str(peer(2)))
    assert not bed.mesh.is_hopeful(none_useless), "who was said to have all gave nothing"
    bed.now += DISBELIEVED_S
    assert bed.mesh.is_hopeful(none_useless)


async def test_at_rest_the_swarm_hears_of_nobody_until_it_begins_again() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    first = bed.holder(1, 0)
    bed.new_events()
    bed.mesh.rest()
    assert bed.new_events() == [SourceGone(str(peer(1)), GoneReason.CLOSED)]
    bed.mesh.heard(first, news.PeerHas(D, (1,)))
    bed.holder(2, 3)
    assert bed.new_events() == []
    bed.mesh.begin(LAYOUT)
    states = [event for event in bed.new_events() if isinstance(event, SourceState)]
    assert [event.bitfield.mask for event in states] == [0b0011, 0b1000]


# -- what it tells ---------------------------------------------------------------------------------------------------


async def test_it_tells_the_difference() -> None:
    bed = MeshBed()
    channel = bed.comes(1)
    assert told(channel) == [opened(0)]
    bed.mesh.offer(offer(0, 1))
    assert told(channel) == [opened(SIZE, 0, 1)]
    bed.mesh.offer(offer(0, 1))
    assert told(channel) == []
    bed.mesh.offer(offer(0, 1, 3))
    assert told(channel) == [frames.Have(0, [3])]
    bed.mesh.offer(offer(3))
    assert [type(frame) for frame in told(channel)] == [frames.State], "what was taken back is told, too"


async def test_who_comes_late_is_told_all_at_once() -> None:
    bed = MeshBed()
    bed.mesh.offer(offer(0, 1))
    assert told(bed.comes(1)) == [opened(SIZE, 0, 1)]


async def test_who_declined_is_told_anew_when_it_calls() -> None:
    """Its own pull began a moment later than this host's."""
    bed = MeshBed()
    channel = bed.reachable[peer(1)] = channel_to(1)
    bed.mesh.call(peer(1))
    await bed.calls_end()
    assert told(channel) == [opened(0)]
    channel._outbox.declined(0)
    bed.mesh.heard(channel, news.PeerDeclined(D, DeclineReason.ABSENT))
    bed.mesh.offer(offer(0))
    assert told(channel) == []
    assert len(bed.mesh) == 0
    bed.mesh.heard(channel, news.PeerJoined(D))
    (frame,) = told(channel)
    assert isinstance(frame, frames.Open)
    assert (frame.stream, frame.held) == (1, b"\x80")


async def test_who_says_that_it_has_not_what_others_said_is_not_believed() -> None:
    bed = MeshBed()
    channel = await bed.has_all(1)
    bed.mesh.heard(channel, news.PeerDeclined(D, DeclineReason.ABSENT))
    assert bed.new_events() == [SourceGone(str(peer(1)), GoneReason.UNREACHABLE)]
    assert not bed.mesh.is_hopeful(none_useless)


async def test_what_one_was_shown_first_the_others_are_told_when_he_has_it() -> None:
    """Also when nothing else happens at this host: it has all, and rests."""
    bed = MeshBed()
    channels = [bed.holder(number, 1, 2, 3) for number in range(3)]
    bed.mesh.begin(LAYOUT)
    bed.mesh.offer(offer(0, 1, 2, 3, is_fed=True))
    bed.mesh.offer(offer(0, 1, 2, 3))
    bed.mesh.rest()
    shown = [number for number in range(3) if offered(bed, number)]
    assert len(shown) == 1
    for channel in channels:
        told(channel)
    bed.mesh.heard(channels[shown[0]], news.PeerHolds(D, SIZE, Bitfield.holding(4, range(4)), False))
    assert all(told(channel) for number, channel in enumerate(channels) if number not in shown)
    bed.mesh.close()


def last_state(channel: Channel) -> frames.Open | frames.State:
    return [frame for frame in told(channel) if isinstance(frame, frames.Open | frames.State)][-1]


async def test_who_does_not_tell_all_wants_to_hear_what_others_have() -> None:
    """Also after the origin's end: a neighbour that does not know would say nothing of pieces that are here."""
    bed = MeshBed()
    channels = [bed.comes(number) for number in range(2)]
    bed.mesh.begin(LAYOUT)
    bed.mesh.offer(offer(0, 1, 2, 3, is_fed=True))
    bed.mesh.offer(offer(0, 1, 2, 3))
    assert [last_state(channel).is_fed for channel in channels] == [True, True]
    for channel in channels:
        bed.mesh.heard(channel, news.PeerHolds(D, SIZE, Bitfield.holding(4, range(4)), False))
    assert [last_state(channel).is_fed for channel in channels] == [False, False], "all are told of all"
    bed.mesh.close()


async def test_a_host_whose_origin_was_lost_says_so_and_tells_all() -> None:
    bed = MeshBed()
    channels = [bed.comes(number) for number in range(2)]
    bed.mesh.begin(LAYOUT)
    bed.mesh.offer(offer(0, 1, is_fed=True))
    bed.mesh.offer(offer(0, 1))
    states = [last_state(channel) for channel in channels]
    assert [state.is_fed for state in states] == [False, False]
    assert [offered(bed, number) for number in range(2)] == [0b11, 0b11]
    bed.mesh.close()


async def test_care_that_ends_since_somebody_left_ends_for_those_who_stay() -> None:
    bed = MeshBed()
    bed.mesh.begin(LAYOUT)
    first, _ = bed.holder(1, 1, 2, 3), bed.holder(2, 2, 3)
    bed.mesh.offer(offer(0, 1, 2, 3, is_fed=True))
    bed.mesh.offer(offer(0, 1, 2, 3))
    bed.mesh.heard(first, news.PeerLeft(D, LeaveReason.DONE))
    bed.mesh.heard(first, news.ChannelDown(ChannelEnd.LOST))
    bed.now = SwarmParams().offers_after_s
    bed.comes(3)
    # An alarm that was set for earlier rings by the loop's clock, which is not the bed's.
    async with asyncio.timeout(10.0):
        while [offered(bed, number) for number in (2, 3)] != [0b1111, 0b1111]:
            await asyncio.sleep(0)
    bed.mesh.close()


async def test_nothing_is_shown_to_one_whose_channel_took_no_more_digests() -> None:
    bed = MeshBed()
    full = channel_to(1, ChannelParams(streams_max_count=0))
    bed.mesh.heard(full, news.PeerJoined(D))
    channel = bed.comes(2)
    bed.mesh.begin(LAYOUT)
    bed.mesh.offer(offer(0, 1, is_fed=True))
    assert len(bed.mesh) == 1
    (last,) = [frame for frame in told(channel) if isinstance(frame, frames.Open)][-1:]
    assert last.held == Bitfield.holding(LAYOUT.count, [0, 1]).to_bytes()
    bed.mesh.close()


async def test_at_the_end_all_are_told() -> None:
    bed = MeshBed()
    channel = bed.comes(1)
    told(channel)
    bed.mesh.offer(NOTHING)
    bed.mesh.close()
    assert told(channel) == [frames.Close(0, LeaveReason.DONE)]
    bed.mesh.call(peer(2))
    assert bed.called == []


@pytest.mark.parametrize("is_size_known", [False, True])
async def test_what_a_neighbour_had_before_the_origin_fed_this_host_is_shown_to_nobody_first(
    is_size_known: bool,
) -> None:
    bed = MeshBed()
    if is_size_known:
        bed.mesh.begin(LAYOUT)
    channels = [bed.holder(1, 0, 1), bed.comes(2)]
    if not is_size_known:
        bed.mesh.begin(LAYOUT)
    bed.mesh.offer(offer(0, 1, 2, is_fed=True))
    opens = [[frame for frame in told(channel) if isinstance(frame, frames.Open)] for channel in channels]
    shown = [frame.held for frames_of_one in opens for frame in frames_of_one if frame.held]
    assert shown == [Bitfield.holding(LAYOUT.count, [2]).to_bytes()]
    bed.mesh.close()


def offered(bed: MeshBed, number: int) -> int:
    """All that this neighbour was told of."""
    return bed.mesh._neighbours[str(peer(number))].told_mask or 0


async def test_a_blob_that_nobody_lacks_waits_for_another_ones_neighbours() -> None:
    """Of one host: what the neighbours have among them is not offered while another blob needs the uplink."""
    bed = MeshBed()
    other = MeshBed(lending=bed.lending)
    for one in (bed, other):
        one.mesh.begin(LAYOUT)
        one.mesh.offer(offer(0, is_fed=True))
    first, waiting = bed.comes(1), other.comes(8)
    bed.mesh.heard(first, news.PeerHolds(D, SIZE, Bitfield.holding(4, range(4)), False))
    bed.mesh.offer(offer(0, 1, 2, 3))
    bed.comes(2)
    assert offered(bed, 2) == 0, "the first one has it all"
    # Nobody needs the other one any more: at once, and not when somebody starves.
    other.mesh.offer(offer(0, 1, 2, 3))
    other.mesh.heard(waiting, news.PeerHolds(D, SIZE, Bitfield.holding(4, range(4)), False))
    async with asyncio.timeout(SwarmParams().offers_starved_s / 2):
        while offered(bed, 2) != 0b1111:
            await asyncio.sleep(0)
    bed.mesh.close()
    other.mesh.close()
