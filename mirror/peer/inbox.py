"""What one peer told: its frames become news, or an error. Pure.

Rules
1. What a peer says about itself must fit together: a bitfield of another length, or a piece digest that nobody asked
   for in that range, is nonsense and ends the channel.
2. What crossed on the way is no nonsense: frames about a stream that is not known, or not any more, are passed over.
3. A peer can open only so many streams; more are declined.
"""

from __future__ import annotations

from dataclasses import dataclass

import mirror.peer.frames as frames
import mirror.peer.news as news
from dht.endpoints import Endpoint, EndpointInvalid, may_be_told, unpack
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest, DigestInvalid
from mirror.peer.channel_params import ChannelParams
from mirror.peer.frames import DeclineReason, Frame, FrameInvalid, Held, LeaveReason
from mirror.peer.news import News
from mirror.peer.outbox import Outbox
from mirror.swarm.bitfield import Bitfield, BitfieldInvalid, mask_of
from mirror.swarm.pieces import PieceLayout


@dataclass(slots=True)
class _Stream:
    digest: Digest
    size_bytes: int
    piece_count: int


class Inbox:
    """`teller`: where the peer's HTTP listens; tells which addresses may be believed of it."""

    def __init__(self, teller: Endpoint, outbox: Outbox, params: ChannelParams) -> None:
        self._teller = teller
        self._outbox = outbox
        self._params = params
        self._streams: dict[int, _Stream] = {}
        self._numbers: dict[Digest, int] = {}
        self._highest = -1
        # In the order in which they were asked.
        self._asked: dict[tuple[int, int, int], None] = {}
        # Asked of us and not answered yet.
        self._owed: set[tuple[Digest, int, int]] = set()

    @property
    def is_quiet(self) -> bool:
        return not self._streams

    def digests(self) -> list[Digest]:
        return list(self._numbers)

    def ask(self, digest: Digest, first: int, stop: int) -> bool:
        """False: the peer does not take part. The oldest of too many questions is not waited for any longer."""
        assert 0 <= first < stop <= first + frames.DIGESTS_MAX_COUNT, (first, stop)
        number = self._numbers.get(digest)
        if number is None or stop > self._streams[number].piece_count:
            return False
        if (number, first, stop) in self._asked:
            return True
        if len(self._asked) >= self._params.digest_asks_max_count:
            del self._asked[next(iter(self._asked))]
        self._asked[number, first, stop] = None
        self._outbox.ask(number, first, stop)
        return True

    def decline(self, digest: Digest, reason: DeclineReason) -> None:
        """What the peer tells of it is not wanted."""
        number = self._numbers.get(digest)
        if number is not None:
            self._forget(number)
            self._outbox.decline(number, reason)

    def left(self, digest: Digest) -> None:
        """We do not take part any more: what was asked of us is not owed."""
        self._owed = {owed for owed in self._owed if owed[0] != digest}

    def answered(self, digest: Digest, first: int, stop: int) -> bool:
        """We answer. False: that was not asked."""
        if (digest, first, stop) not in self._owed:
            return False
        self._owed.remove((digest, first, stop))
        return True

    def read(self, frame: Frame) -> News | None:
        """Raises: FrameInvalid."""
        match frame:
            case frames.Open():
                return self._opened(frame)
            case frames.State(number, held, is_fed):
                stream = self._streams.get(number)
                return None if stream is None or not stream.size_bytes else _holds(stream, held, is_fed)
            case frames.Have(number, pieces):
                return self._has(number, pieces)
            case frames.Load(load):
                return news.PeerLoad(min(load, 100) / 100)
            case frames.Peers(number, packed):
                return self._names(number, packed)
            case frames.Close(number, reason):
                digest = self._forget(number)
                return None if digest is None else news.PeerLeft(digest, _leave_reason(reason))
            case frames.Decline(number, reason):
                digest = self._outbox.declined(number)
                return None if digest is None else news.PeerDeclined(digest, _decline_reason(reason))
            case frames.DigestsAsk(number, first, stop):
                return self._digests_asked(number, first, stop)
            case frames.Digests():
                return self._digests_told(frame)
            case frames.Keep():
                return None

    def _opened(self, frame: frames.Open) -> News | None:
        stream = self._streams.get(frame.stream)
        if stream is not None and str(stream.digest) != frame.digest:
            raise FrameInvalid(f"stream {frame.stream} was opened for two digests")
        if stream is None and frame.stream <= self._highest:
            # It crossed our DECLINE.
            return None
        self._highest = max(self._highest, frame.stream)
        try:
            digest = Digest.parse(frame.digest)
        except DigestInvalid:
            # Perhaps an algorithm of a later release.
            self._outbox.decline(frame.stream, DeclineReason.ABSENT)
            return None
        self._forget(self._numbers.get(digest, frame.stream))
        if len(self._streams) >= self._params.streams_max_count:
            self._outbox.decline(frame.stream, DeclineReason.FULL)
            return None
        piece_count = PieceLayout.of(frame.size).count
        stream = _Stream(digest, frame.size, piece_count)
        found = _holds(stream, frame.held, frame.is_fed) if frame.size else _joined(digest, frame.held)
        self._streams[frame.stream] = stream
        self._numbers[digest] = frame.stream
        return found

    def _has(self, number: int, pieces: list[int]) -> News | None:
        stream = self._streams.get(number)
        if stream is None or not stream.size_bytes:
            return None
        if any(piece >= stream.piece_count for piece in pieces):
            raise FrameInvalid(f"a piece outside of the {stream.piece_count} of {stream.digest}")
        return news.PeerHas(stream.digest, tuple(pieces)) if pieces else None

    def _names(self, number: int, packed: list[bytes]) -> News | None:
        stream = self._streams.get(number)
        if stream is None:
            return None
        found = []
        for one in packed:
            try:
                (told,) = unpack(one)
            except EndpointInvalid as exc:
                raise FrameInvalid(f"no endpoint: {exc}") from exc
            if may_be_told(told, self._teller):
                found.append(Peer(told.address, told.port))
        return news.PeerNames(stream.digest, tuple(found))

    def _digests_asked(self, number: int, first: int, stop: int) -> News | None:
        if not first < stop <= first + frames.DIGESTS_MAX_COUNT:
            raise FrameInvalid(f"the digests of the pieces {first} to {stop} were asked for")
        digest = self._outbox.digest_of(number)
        if digest is None or len(self._owed) >= self._params.digest_asks_max_count:
            return None
        if (digest, first, stop) in self._owed:
            return None
        self._owed.add((digest, first, stop))
        return news.PieceDigestsAsked(digest, first, stop)

    def _digests_told(self, frame: frames.Digests) -> News | None:
        asked = (frame.stream, frame.first, frame.stop)
        stream = self._streams.get(frame.stream)
        if stream is None or asked not in self._asked:
            return None
        if any(not frame.first <= piece < frame.stop for piece in frame.digests):
            raise FrameInvalid("a piece digest that was not asked for")
        del self._asked[asked]
        return news.PieceDigestsTold(stream.digest, frame.first, frame.stop, frame.digests)

    def _forget(self, number: int) -> Digest | None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return None
        del self._numbers[stream.digest]
        self._asked = {asked: None for asked in self._asked if asked[0] != number}
        return stream.digest


def _holds(stream: _Stream, held: Held, is_fed: bool) -> News:
    return news.PeerHolds(stream.digest, stream.size_bytes, _bitfield(stream.piece_count, held), is_fed)


def _joined(digest: Digest, held: Held) -> News:
    if held:
        raise FrameInvalid(f"pieces of {digest} without a size")
    return news.PeerJoined(digest)


def _bitfield(piece_count: int, held: Held) -> Bitfield:
    if isinstance(held, bytes):
        try:
            return Bitfield.from_bytes(held, piece_count)
        except BitfieldInvalid as exc:
            raise FrameInvalid(str(exc)) from exc
    mask = 0
    end = -1
    for first, stop in held:
        if not end < first < stop <= piece_count:
            raise FrameInvalid(f"the pieces {first} to {stop} of {piece_count} behind {end}")
        mask |= mask_of(first, stop)
        end = stop
    return Bitfield(piece_count, mask)


def _leave_reason(number: int) -> LeaveReason:
    """A reason of a later release is the plainest of this one."""
    return LeaveReason(number) if number in list(LeaveReason) else LeaveReason.DONE


def _decline_reason(number: int) -> DeclineReason:
    return DeclineReason(number) if number in list(DeclineReason) else DeclineReason.ABSENT
