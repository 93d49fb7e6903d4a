"""The neighbours of this host in one digest's swarm: whom to call, what they said they hold, what they are told.

Rules
1. Whoever is named is called until there are enough; whoever calls is let in until there are too many.
2. A neighbour is told exactly what may be offered to him: the difference is found at each `offer`. A host that is fed
   from the origin shows each piece to one of them first (`mirror.swarm.offers`). Of pieces that he has himself he need
   not hear, unless he is such a host: that one must know who has what.
3. What a neighbour says of itself is kept, so that a swarm that is made later hears all of it.
4. A newcomer is told of some of the others; older neighbours need not hear of him: he calls.
5. Hearsay is good for one try: who did not give what others said that he holds is not believed to hold it for a while.
   A neighbour's own word counts as long as it is one.

Decides nothing about pieces.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from mirror.discovery.base import Peer
from mirror.herd.avoided import Avoided
from mirror.herd.neighbour import Neighbour
from mirror.herd.own_word import OwnWords
from mirror.herd.ports import Neighbours
from mirror.herd.runs import Spawn
from mirror.herd.spreading import Spreading
from mirror.oci.digest import Digest
from mirror.peer import news
from mirror.peer.channel import Channel
from mirror.peer.errors import ChannelFull, PeerError, PeerStalled, PeerUnreachable
from mirror.peer.frames import BLOB_MAX_BYTES, DeclineReason, LeaveReason
from mirror.swarm.bitfield import Bitfield, pieces_of
from mirror.swarm.events import (
    Event,
    GoneReason,
    Have,
    SourceFound,
    SourceGone,
    SourceId,
    SourceKind,
    SourceState,
)
from mirror.swarm.lending import Lending
from mirror.swarm.lone_stream import Standing
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout

log = logging.getLogger(__name__)

# In simulations ten were enough and more gained nothing; two are for those who leave.
CALLED_MAX_COUNT = 12
# Those who call come on top. A claimant is called by all who wait for it.
NEIGHBOURS_MAX_COUNT = 48
# What one frame carries.
NAMED_MAX_COUNT = 16
# Longer than a host looks for sources before it asks the origin; shorter than it takes to start a daemon anew.
DISBELIEVED_S = 30.0
# Of what is smaller, the one request would be over before anybody's own word is waited for.
AT_ONCE_MAX_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """What peers may be told. `size_bytes` 0: not known, and nothing is held."""

    size_bytes: int
    bitfield: Bitfield
    is_fed_from_origin: bool


NOTHING = Offer(0, Bitfield(0), False)


class Mesh:
    """`tell` takes what is for the swarm, `size_told` the first size that somebody names, `settled` is called when all
    who were called have answered or failed."""

    def __init__(
        self,
        digest: Digest,
        channels: Neighbours,
        rng: random.Random,
        *,
        tell: Callable[[Event], None],
        size_told: Callable[[int], None],
        settled: Callable[[], None],
        spawn: Spawn,
        clock: Callable[[], float],
        avoided: Avoided,
        lending: Lending[Spreading],
        params: SwarmParams,
    ) -> None:
        self._digest = digest
        self._clock = clock
        self._avoided = avoided
        self._channels = channels
        self._rng = rng
        self._tell = tell
        self._size_told = size_told
        self._settled = settled
        self._spawn = spawn
        self._neighbours: dict[SourceId, Neighbour] = {}
        # Complete by what discovery or a ruling says; they need not be neighbours.
        # The first named is asked first.
        self._complete: dict[SourceId, None] = {}
        # What some of them said of its size.
        self._told_bytes: dict[SourceId, int] = {}
        self._own_words = OwnWords(spawn, self._tell_complete)
        self._peers: dict[SourceId, Peer] = {}
        self._calling: set[SourceId] = set()
        self._disbelieved_until: dict[SourceId, float] = {}
        self._layout: PieceLayout | None = None
        self._offer = NOTHING
        self._loads: dict[SourceId, float] = {}
        self._is_resting = False
        self._is_closed = False
        self._spreading = Spreading(params, rng, clock, self._tell_all, lending)

    # -- what is known ---------------------------------------------------------------------------------------------

    def is_hopeful(self, is_useless: Callable[[SourceId], bool]) -> bool:
        """Somebody is being called, or is said to have it, or is a neighbour that may be of use. One that waits as this
        host does is no hope where those who should have more gave nothing."""
        if self._calling:
            return True
        if any(self._fits(source_id) and not is_useless(source_id) for source_id in self._complete):
            return True
        now = self._clock()
        if any(now < until for until in self._disbelieved_until.values()):
            return False
        return bool(self._neighbours) and not any(map(is_useless, self._neighbours))

    def __len__(self) -> int:
        return len(self._neighbours)

    def peer(self, source_id: SourceId) -> Peer | None:
        return self._peers.get(source_id)

    def standing(self, is_useless: Callable[[SourceId], bool]) -> Standing:
        """Who has it whole, and who else there is."""
        size_bytes = 0 if self._layout is None else self._layout.size_bytes
        whole = [
            source_id
            for source_id, one in self._neighbours.items()
            if one.bitfield is not None and one.bitfield.is_complete and one.size_bytes == size_bytes
        ]
        # Among equals by lot: hosts that come one after the other do not all ask the same one.
        self._rng.shuffle(whole)
        whole.sort(key=lambda source_id: self._loads.get(source_id, 0.0))
        completes = [one for one in (*whole, *self._complete) if self._fits(one) and not is_useless(one)]
        present = self._neighbours.keys() | self._calling
        unheard = [one for one in self._complete if one in present]
        return Standing(completes, unheard, len(present.difference(completes)))

    def channel(self, source_id: SourceId) -> Channel | None:
        one = self._neighbours.get(source_id)
        return None if one is None else one.channel

    def _is_ours(self, one: Neighbour) -> bool:
        return self._layout is not None and one.size_bytes == self._layout.size_bytes

    def _fits(self, source_id: SourceId) -> bool:
        layout = self._layout
        return layout is None or self._told_bytes.get(source_id, layout.size_bytes) == layout.size_bytes

    def sizes(self) -> set[int]:
        """All that were named."""
        told = {one.size_bytes for one in self._neighbours.values() if one.size_bytes}
        return told | {self._told_bytes[one] for one in self._complete if one in self._told_bytes}

    # -- whom to call ----------------------------------------------------------------------------------------------

    def complete(self, peer: Peer) -> None:
        """Said to hold it whole: it may be asked without being a neighbour."""
        if peer in self._avoided:
            return
        source_id = str(peer)
        self._peers[source_id] = peer
        one = self._neighbours.get(source_id)
        is_told = one is not None and one.bitfield is not None
        is_believed = self._disbelieved_until.get(source_id, 0.0) <= self._clock() and not is_told
        self.call(peer)
        if is_believed and source_id not in self._complete:
            self._complete[source_id] = None
            if source_id in self._calling or one is not None:
                self._own_words.expect(source_id)
            self._tell_complete(source_id)

    def failed(self, source_id: SourceId) -> None:
        """It did not give what it was said to hold: hearsay is good for one try. A neighbour's own word stays."""
        if source_id not in self._complete:
            return
        self._complete.pop(source_id, None)
        self._disbelieved_until[source_id] = self._clock() + DISBELIEVED_S
        one = self._neighbours.get(source_id)
        if one is None or one.bitfield is None:
            self._tell(SourceGone(source_id, GoneReason.UNREACHABLE))

    def told_size(self, source_id: SourceId, size_bytes: int) -> None:
        """Of one that is said to hold it whole."""
        if source_id not in self._complete:
            return
        self._told_bytes[source_id] = size_bytes
        if not self._fits(source_id):
            self._tell(SourceGone(source_id, GoneReason.CLOSED))

    @property
    def known_count(self) -> int:
        return len(self._complete) + len(self._neighbours)

    def known(self) -> list[Peer]:
        """Who has some of it, or waits for it."""
        return [self._peers[source_id] for source_id in {**self._complete, **self._neighbours}]

    def completes(self) -> list[Peer]:
        return [self._peers[source_id] for source_id in self._complete]

    def call(self, peer: Peer) -> None:
        source_id = str(peer)
        if self._is_closed or source_id in self._neighbours or source_id in self._calling:
            return
        if len(self._calling) + len(self._neighbours) >= CALLED_MAX_COUNT:
            return
        self._peers[source_id] = peer
        self._calling.add(source_id)
        self._spawn(self._call(peer))

    async def _call(self, peer: Peer) -> None:
        source_id = str(peer)
        try:
            channel = await self._channels.reach(peer)
            if not self._is_closed and channel.end_reason is None:
                self._peers.setdefault(str(channel.peer), channel.peer)
                self._join(channel)
        except (PeerError, ChannelFull) as exc:
            log.debug("%s", exc, extra={"digest": str(self._digest)})
            if isinstance(exc, PeerUnreachable | PeerStalled):
                self._avoided.unreachable(peer)
                self.failed(source_id)
            self._own_words.will_not_come(source_id)
        finally:
            self._calling.discard(source_id)
            if not self._is_closed and not self._calling:
                self._settled()

    def _join(self, channel: Channel) -> Neighbour | None:
        """None: there are too many."""
        source_id = str(channel.peer)
        one = self._neighbours.get(source_id)
        if one is not None and one.channel is channel:
            return one
        if len(self._neighbours) >= NEIGHBOURS_MAX_COUNT:
            return None
        one = self._neighbours[source_id] = Neighbour(channel)
        self._peers[source_id] = channel.peer
        self._spreading.joined(source_id)
        try:
            self._tell_offer(one)
        except ChannelFull:
            del self._neighbours[source_id]
            self._spreading.left(source_id)
            return None
        return one

    # -- what they say ---------------------------------------------------------------------------------------------

    def heard(self, channel: Channel, told: news.News) -> None:
        """Of this digest, or of all of the channel's."""
        source_id = str(channel.peer)
        match told:
            case news.ChannelDown():
                self._lost(source_id, channel, GoneReason.UNREACHABLE)
            case news.PeerLoad(load_ratio):
                self._loads[source_id] = load_ratio
            case news.PeerJoined():
                self._newcomer(channel)
            case news.PeerHolds(_, size_bytes, bitfield, is_fed):
                one = self._newcomer(channel)
                if one is not None:
                    self._holds(one, size_bytes, bitfield, is_fed=is_fed)
            case news.PeerHas(_, pieces):
                one = self._neighbours.get(source_id)
                if one is not None and one.bitfield is not None:
                    mask = one.bitfield.mask
                    for piece in pieces:
                        mask |= 1 << piece
                    one.bitfield = Bitfield(one.bitfield.piece_count, mask)
                    if self._is_ours(one):
                        self._spreading.has(source_id, mask, is_fed=one.is_fed)
                        if not self._is_resting:
                            self._tell(Have(source_id, pieces))
            case news.PeerNames(_, peers):
                for peer in peers:
                    if peer not in self._avoided:
                        self.call(peer)
            case news.PeerLeft(_, reason):
                why = GoneReason.REPLACED if reason is LeaveReason.REPLACED else GoneReason.CLOSED
                self._lost(source_id, channel, why)
            case news.PeerDeclined(_, reason):
                self._declined(source_id, channel, reason)
            case _:
                pass

    def _newcomer(self, channel: Channel) -> Neighbour | None:
        source_id = str(channel.peer)
        is_new = source_id not in self._neighbours
        one = self._join(channel)
        if one is None:
            channel.decline(self._digest, DeclineReason.FULL)
        elif is_new:
            others = [it.channel.peer for it in self._neighbours.values() if it is not one]
            self._rng.shuffle(others)
            if others:
                channel.name(self._digest, others[:NAMED_MAX_COUNT])
        return one

    def _holds(self, one: Neighbour, size_bytes: int, bitfield: Bitfield, *, is_fed: bool) -> None:
        if not 0 < size_bytes <= BLOB_MAX_BYTES or self._avoided.has_lied(str(one.channel.peer)):
            return
        one.size_bytes, one.bitfield, one.is_fed = size_bytes, bitfield, is_fed
        # What it says itself counts.
        self._complete.pop(str(one.channel.peer), None)
        self._own_words.came(str(one.channel.peer))
        if self._layout is None:
            self._size_told(size_bytes)
        elif self._is_ours(one):
            self._spreading.has(str(one.channel.peer), bitfield.mask, is_fed=is_fed)
            self._tell_swarm(one)

    def _tell_swarm(self, one: Neighbour) -> None:
        assert one.bitfield is not None
        if self._is_resting:
            return
        source_id = str(one.channel.peer)
        self._tell(SourceFound(source_id, SourceKind.PEER, is_complete=False, zone_distance=0))
        self._tell(SourceState(source_id, one.bitfield, self._loads.get(source_id, 0.0), one.is_fed))

    def _tell_complete(self, source_id: SourceId) -> None:
        layout = self._layout
        if layout is None or self._is_resting or source_id not in self._complete or not self._fits(source_id):
            return
        if source_id not in self._own_words or layout.size_bytes <= AT_ONCE_MAX_BYTES:
            self._tell(SourceFound(source_id, SourceKind.PEER, is_complete=True, zone_distance=0))

    def _declined(self, source_id: SourceId, channel: Channel, reason: DeclineReason) -> None:
        """It takes no part, perhaps not yet: then it calls, and is told anew."""
        one = self._neighbours.get(source_id)
        if one is None or one.channel is not channel:
            return
        channel.leave(self._digest, LeaveReason.DONE)
        one.is_deaf = True
        if one.bitfield is None:
            del self._neighbours[source_id]
            self._spreading.left(source_id)
            if reason is DeclineReason.ABSENT and source_id in self._complete:
                self.failed(source_id)
            self._own_words.will_not_come(source_id)
            self._settled()

    def _lost(self, source_id: SourceId, channel: Channel, reason: GoneReason) -> None:
        one = self._neighbours.get(source_id)
        if one is None or one.channel is not channel:
            return
        del self._neighbours[source_id]
        self._spreading.left(source_id)
        if reason is not GoneReason.UNREACHABLE:
            channel.leave(self._digest, LeaveReason.DONE)
        self._tell(SourceGone(source_id, reason))
        if reason is GoneReason.UNREACHABLE:
            self._complete.pop(source_id, None)
        elif reason is GoneReason.CLOSED and self._is_ours(one) and one.bitfield and one.bitfield.is_complete:
            # It tells nothing more, and still serves.
            self._complete[source_id] = None
            self._tell_complete(source_id)
        self._settled()

    # -- the swarm -------------------------------------------------------------------------------------------------

    def begin(self, layout: PieceLayout) -> None:
        """The swarm was made, or is to hear of everybody again."""
        self._layout = layout
        self._is_resting = False
        for source_id in list(self._complete):
            self._tell_complete(source_id)
        for one in list(self._neighbours.values()):
            if self._is_ours(one) and one.bitfield is not None:
                self._spreading.has(str(one.channel.peer), one.bitfield.mask, is_fed=one.is_fed)
                self._tell_swarm(one)

    def rest(self) -> None:
        """Nothing is to be fetched: the swarm loses them all, they stay neighbours."""
        self._is_resting = True
        for source_id in {*self._complete, *self._neighbours}:
            self._tell(SourceGone(source_id, GoneReason.CLOSED))

    def offer(self, offer: Offer) -> None:
        """What peers may be told now."""
        if offer == self._offer:
            return
        self._offer = offer
        held, is_fed = offer.bitfield, offer.is_fed_from_origin
        self._spreading.holds(held.mask, is_fed_from_origin=is_fed, is_whole=held.is_complete)
        self._tell_all()

    def _tell_all(self) -> None:
        for one in list(self._neighbours.values()):
            try:
                self._tell_offer(one)
            except ChannelFull:
                self._lost(str(one.channel.peer), one.channel, GoneReason.CLOSED)

    def _tell_offer(self, one: Neighbour) -> None:
        """Raises: ChannelFull."""
        if one.is_deaf:
            return
        offer, channel = self._offer, one.channel
        mask = offer.bitfield.mask
        is_careful = self._spreading.is_careful
        # While it shows pieces to one of them first, it is to hear who has them, and is known to have the rest.
        is_fed = offer.is_fed_from_origin or is_careful
        if is_careful:
            mask &= self._spreading.told(str(channel.peer))
        if one.bitfield is not None and not one.is_fed and not offer.bitfield.is_complete:
            mask &= ~one.bitfield.mask | (one.told_mask or 0)
        if not offer.size_bytes:
            if one.told_mask is None:
                channel.join(self._digest)
                one.told_mask = 0
            return
        is_more = one.told_mask is not None and not one.told_mask & ~mask
        if is_more and one.told_size_bytes == offer.size_bytes and one.told_is_fed == is_fed:
            if mask != one.told_mask:
                channel.add(self._digest, pieces_of(mask & ~(one.told_mask or 0)))
        else:
            told = Bitfield(offer.bitfield.piece_count, mask)
            channel.hold(self._digest, offer.size_bytes, told, is_fed)
        one.told_mask, one.told_size_bytes, one.told_is_fed = mask, offer.size_bytes, is_fed

    def close(self) -> None:
        self._is_closed = True
        self._spreading.close()
        for one in self._neighbours.values():
            one.channel.leave(self._digest, LeaveReason.DONE)
        self._neighbours.clear()
