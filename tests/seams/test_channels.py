"""State channels between real daemons' parts over real sockets: one for each pair, all digests on it, no surprises."""

from __future__ import annotations

import asyncio
import time

import pytest

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer.channel import Channel
from mirror.peer.channel_params import ChannelParams
from mirror.peer.errors import PeerError, PeerIncompatible, PeerRefused, PeerUnreachable
from mirror.peer.frames import DeclineReason, LeaveReason
from mirror.peer.news import (
    ChannelDown,
    ChannelEnd,
    ChannelUp,
    News,
    PeerDeclined,
    PeerHas,
    PeerHolds,
    PeerJoined,
    PeerLeft,
    PeerLoad,
    PeerNames,
    PieceDigestsAsked,
    PieceDigestsTold,
)
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.pieces import PieceLayout
from tests.support.channel_hosts import channel_host
from tests.support.mirror_host import mirror_host, subkeys

MIB = 1024 * 1024
SIZE = 200 * MIB
COUNT = PieceLayout.of(SIZE).count
D = Digest.of(b"layer")


def layer(number: int) -> Digest:
    return Digest.of(f"layer {number}".encode())


async def test_all_that_can_be_told() -> None:
    async with channel_host(1, zone="a") as one, channel_host(2, zone="b") as two:
        mine = await one.channels.reach(two.peer)
        yours = await two.channel()
        assert (mine.peer, mine.node, mine.zone) == (two.peer, two.node, "b")
        assert (yours.peer, yours.node, yours.zone) == (one.peer, one.node, "a")

        mine.join(D)
        assert await two.hears(PeerJoined) == PeerJoined(D)
        mine.hold(D, SIZE, Bitfield.prefix(COUNT, 3), True)
        assert await two.hears(PeerHolds) == PeerHolds(D, SIZE, Bitfield.prefix(COUNT, 3), True)
        mine.add(D, [7, 5])
        assert await two.hears(PeerHas) == PeerHas(D, (5, 7))
        mine.hold(D, SIZE, Bitfield.full(COUNT), False)
        assert await two.hears(PeerHolds, 2) == PeerHolds(D, SIZE, Bitfield.full(COUNT), False)
        mine.hold(D, SIZE, Bitfield.holding(COUNT, [9]), False)
        assert await two.hears(PeerHolds, 3) == PeerHolds(D, SIZE, Bitfield.holding(COUNT, [9]), False)

        others = (Peer("127.0.0.1", 4000), Peer("10.1.2.3", 29021), Peer("fd00::7", 29021))
        mine.name(D, (*others, Peer("host.lan", 29021)))
        assert await two.hears(PeerNames) == PeerNames(D, others)
        one.channels.load(0.5)
        assert await two.hears(PeerLoad, 2) == PeerLoad(0.5)

        assert yours.ask_digests(D, 8, 12)
        assert await one.hears(PieceDigestsAsked) == PieceDigestsAsked(D, 8, 12)
        mine.answer_digests(D, 8, 12, {9: b"9" * 32})
        assert await two.hears(PieceDigestsTold) == PieceDigestsTold(D, 8, 12, {9: b"9" * 32})

        yours.decline(D, DeclineReason.ABSENT)
        assert await one.hears(PeerDeclined) == PeerDeclined(D, DeclineReason.ABSENT)
        assert not yours.ask_digests(D, 8, 12)
        mine.leave(D, LeaveReason.DONE)
        mine.hold(D, SIZE, Bitfield.full(COUNT), False)
        assert await two.hears(PeerHolds, 4) == PeerHolds(D, SIZE, Bitfield.full(COUNT), False)
        mine.leave(D, LeaveReason.GIVEN_UP)
        assert await two.hears(PeerLeft) == PeerLeft(D, LeaveReason.GIVEN_UP)


async def test_both_sides_may_tell_of_the_same_digest_with_the_same_number() -> None:
    async with channel_host(1) as one, channel_host(2) as two:
        mine = await one.channels.reach(two.peer)
        yours = await two.channel()
        mine.hold(D, SIZE, Bitfield.prefix(COUNT, 1), True)
        yours.hold(D, SIZE, Bitfield.prefix(COUNT, 2), False)
        assert (await two.hears(PeerHolds)).bitfield.held_count == 1
        assert (await one.hears(PeerHolds)).bitfield.held_count == 2


async def test_sixty_four_digests_on_one_channel() -> None:
    """Each with 200 pieces that come one by one, told at once by both: what arrives is what is held."""
    swarms = [layer(number) for number in range(64)]
    async with channel_host(1) as one, channel_host(2) as two:
        mine = await one.channels.reach(two.peer)
        yours = await two.channel()
        for channel in (mine, yours):
            for digest in swarms:
                channel.hold(digest, SIZE, Bitfield(COUNT), False)
        for piece in range(200):
            for channel in (mine, yours):
                for digest in swarms:
                    channel.add(digest, [piece])
            await asyncio.sleep(0)

        for host in (one, two):
            await host.until(lambda host=host: _count_held(host.news) == 200 * len(swarms))  # type: ignore[misc]
        assert len(one.of(ChannelUp)) == len(two.of(ChannelUp)) == 1


async def test_haves_are_batched() -> None:
    """A thousand pieces in a row cost a handful of news, however they are told."""
    params = ChannelParams(batch_s=0.2)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        channel = await one.channels.reach(two.peer)
        await two.channel()
        channel.hold(D, SIZE, Bitfield(COUNT), False)
        await two.hears(PeerHolds)
        for piece in range(COUNT):
            channel.add(D, [piece])
            await asyncio.sleep(0)
        await two.until(lambda: _count_held(two.news) == COUNT)
        assert len(two.of(PeerHas)) + len(two.of(PeerHolds)) <= 4


async def test_what_somebody_may_be_held_up_by_waits_for_no_batch() -> None:
    """Batches are so long here that one who waits for them hears nothing in this test's time."""
    params = ChannelParams(batch_s=1000.0)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        channel = await one.channels.reach(two.peer)
        await two.channel()
        channel.hold(D, SIZE, Bitfield(COUNT), False)
        await two.hears(PeerHolds)
        channel.add(D, [0])
        assert (await two.hears(PeerHas)).pieces == (0,)
        channel.add(D, [1])
        channel.hold(layer(1), SIZE, Bitfield(COUNT), False)
        await two.until(lambda: len(two.of(PeerHolds)) == 2)
        assert _count_held(two.news) == 2, "what else is due goes with it"
        channel.add(D, range(2, COUNT - 1))
        channel.add(D, [COUNT - 1])
        await two.until(lambda: _count_held(two.news) == COUNT)


def _count_held(told_news: list[tuple[Channel, News]]) -> int:
    """Pieces of all digests, as one was told."""
    masks: dict[Digest, int] = {}
    for _, told in told_news:
        if isinstance(told, PeerHolds):
            masks[told.digest] = told.bitfield.mask
        elif isinstance(told, PeerHas):
            for piece in told.pieces:
                masks[told.digest] |= 1 << piece
    return sum(mask.bit_count() for mask in masks.values())


@pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 1)])
async def test_two_that_call_each_other_at_once_keep_one(low: int, high: int) -> None:
    async with channel_host(low) as one, channel_host(high) as two:
        mine, yours = await asyncio.gather(one.channels.reach(two.peer), two.channels.reach(one.peer))
        mine.hold(D, SIZE, Bitfield.prefix(COUNT, 1), True)
        yours.hold(D, SIZE, Bitfield.prefix(COUNT, 2), True)
        assert (await two.hears(PeerHolds)).bitfield.held_count == 1
        assert (await one.hears(PeerHolds)).bitfield.held_count == 2
        for host in (one, two):
            assert len(host.of(ChannelUp)) == 1
            assert host.of(ChannelDown) == [], "what was told on the one that is kept is not lost"
        assert await one.channels.reach(two.peer) is mine


@pytest.mark.parametrize(("low", "high"), [(1, 2), (2, 1)])
async def test_a_peer_under_another_address_is_the_same(low: int, high: int) -> None:
    async with channel_host(low) as one, channel_host(high) as two:
        channel = await one.channels.reach(two.peer)
        again = Peer("localhost", two.peer.port)
        assert await one.channels.reach(again) is channel
        assert await one.channels.reach(again) is channel
        await two.channel()
        assert len(one.of(ChannelUp)) == len(two.of(ChannelUp)) == 1
        assert one.of(ChannelDown) == two.of(ChannelDown) == []


async def test_who_calls_is_known_by_the_address_that_he_listens_at() -> None:
    # Left to itself, the kernel calls 127.0.0.1 from 127.0.0.1.
    async with channel_host(1, address="127.0.0.7") as caller, channel_host(2) as called:
        await caller.channels.reach(called.peer)
        assert (await called.channel()).peer == caller.peer


async def test_a_herd_that_calls_each_other_has_one_channel_a_pair() -> None:
    async with (
        channel_host(1) as a,
        channel_host(2) as b,
        channel_host(3) as c,
        channel_host(4) as d,
        channel_host(5) as e,
    ):
        herd = [a, b, c, d, e]
        await asyncio.gather(
            *(one.channels.reach(other.peer) for one in herd for other in herd if one is not other)
        )
        for host in herd:
            assert {channel.node for channel in host.channels.open()} == {
                other.node for other in herd if other is not host
            }
            assert (len(host.of(ChannelUp)), host.of(ChannelDown)) == (4, [])


async def test_callers_of_one_peer_share_a_call() -> None:
    async with channel_host(1) as one, channel_host(2) as two:
        found = await asyncio.gather(*(one.channels.reach(two.peer) for _ in range(20)))
        assert len(set(found)) == 1
        await two.channel()
        assert len(two.of(ChannelUp)) == 1
        assert await two.channels.reach(one.peer) is await two.channel()


async def test_a_caller_who_goes_away_does_not_end_the_call() -> None:
    async with channel_host(1) as one, channel_host(2) as two:
        first = asyncio.ensure_future(one.channels.reach(two.peer))
        second = asyncio.ensure_future(one.channels.reach(two.peer))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).node == two.node


async def test_an_idle_channel_ends_and_one_in_use_does_not() -> None:
    params = ChannelParams(idle_s=0.2)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        channel = await one.channels.reach(two.peer)
        channel.join(D)
        await two.hears(PeerJoined)
        before = time.monotonic()
        assert one.channels.open() == [channel]
        two_channel = await two.channel()
        while time.monotonic() < before + 3 * params.idle_s:
            two_channel.join(layer(0))
            two_channel.leave(layer(0), LeaveReason.DONE)
            await asyncio.sleep(0.02)
        assert channel.end_reason is None, "a digest is open on it"
        channel.leave(D, LeaveReason.DONE)
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.IDLE)
        assert await two.hears(ChannelDown) == ChannelDown(ChannelEnd.IDLE)
        assert await one.channels.reach(two.peer) is not channel


async def test_a_daemon_that_stops_says_so() -> None:
    async with channel_host(1) as one:
        async with channel_host(2) as two:
            await one.channels.reach(two.peer)
            await two.channel()
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.STOPPED)
        async with channel_host(3) as three:
            await three.channels.reach(one.peer)
            await one.channel(2)
        assert await one.hears(ChannelDown, 2) == ChannelDown(ChannelEnd.STOPPED)


async def test_a_daemon_that_calls_itself_hears_so() -> None:
    async with channel_host(1) as one:
        with pytest.raises(PeerRefused, match="itself"):
            await one.channels.reach(one.peer)
        assert one.news == []


async def test_nobody_there_is_unreachable() -> None:
    async with channel_host(1) as one:
        async with channel_host(2) as two:
            gone = two.peer
        with pytest.raises(PeerUnreachable):
            await one.channels.reach(gone)
        assert one.channels.open() == []


@pytest.mark.parametrize("keys", [subkeys("garage"), ()], ids=["cluster", "none"])
async def test_a_stranger_gets_no_channel(keys: tuple[object, ...]) -> None:
    async with channel_host(1) as one, channel_host(2, keys=keys) as two:  # type: ignore[arg-type]
        for host, other in ((one, two), (two, one)):
            with pytest.raises(PeerRefused, match="401"):
                await host.channels.reach(other.peer)
        assert one.news == two.news == []


async def test_a_cluster_without_a_secret_has_channels() -> None:
    async with channel_host(1, keys=()) as one, channel_host(2, keys=()) as two:
        assert (await one.channels.reach(two.peer)).node == two.node


async def test_a_wrong_clock_is_learned() -> None:
    async with channel_host(1) as one, channel_host(2, unix_clock=lambda: time.time() - 7200) as two:
        assert (await one.channels.reach(two.peer)).node == two.node


async def test_a_peer_without_state_channels_is_left_aside() -> None:
    async with channel_host(1) as one, mirror_host(has_channels=False) as older:
        with pytest.raises(PeerIncompatible, match="no state channel"):
            await one.channels.reach(older.peer)


async def test_a_peer_that_called_again_replaces_its_channel() -> None:
    """The other side lost the first without our noticing. Within the crossing time it would be a duplicate."""
    params = ChannelParams(crossing_s=0.0)
    async with channel_host(1, params=params) as one:
        async with channel_host(2) as two, channel_host(2) as again:
            first = await two.channels.reach(one.peer)
            second = await again.channels.reach(one.peer)
            assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.DUPLICATE)
            assert await two.hears(ChannelDown) == ChannelDown(ChannelEnd.DUPLICATE)
            assert first.end_reason is ChannelEnd.DUPLICATE
            assert second.end_reason is None
            assert len(one.channels.open()) == 1


async def test_there_is_a_bound_and_a_quiet_channel_makes_room() -> None:
    params = ChannelParams(channels_max_count=2, crossing_s=0.0)
    async with (
        channel_host(1, params=params) as one,
        channel_host(2) as two,
        channel_host(3) as three,
        channel_host(4) as four,
    ):
        kept = await one.channels.reach(two.peer)
        kept.join(D)
        await three.channels.reach(one.peer)
        await one.channel(2)
        # The one of `three` is quiet: it goes.
        await four.channels.reach(one.peer)
        assert await three.hears(ChannelDown) == ChannelDown(ChannelEnd.IDLE)
        (await one.channel(3)).join(D)
        with pytest.raises(PeerError, match="429"):
            await three.channels.reach(one.peer)
        assert kept.end_reason is None
