"""What is still to be told to one peer: merged, never queued. Pure.

Rules
1. Per digest there is one state: what the peer was told, and what holds now. A batch carries the difference: new pieces
   as HAVE, many or fewer pieces as STATE. However long the peer takes nothing, this does not grow.
2. A stream is named when its digest is first told, its number never comes again on that channel.
3. A stream that the peer declined is silent until the digest is left and told anew.
4. Some news waits for no batch (`is_urgent`): what somebody may be held up by until he hears it, and comes but a few
   times a stream. A stream's first word, its first piece, its last one, where its bytes come from, its end; a question,
   and an answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import mirror.peer.frames as frames
from dht.endpoints import EndpointInvalid, endpoint, pack
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer.channel_params import ChannelParams
from mirror.peer.errors import ChannelFull
from mirror.peer.frames import Frame, Held
from mirror.swarm.bitfield import Bitfield, lowest, ones_from, pieces_of

# The array's head and the version.
_MESSAGE_HEAD_BYTES = 4
# A finer step would be told again and again.
_LOAD_STEP_PERCENT = 5


@dataclass(slots=True)
class _Stream:
    """`size_bytes` 0: not known. `told_size_bytes` -1: not opened yet."""

    number: int
    digest: Digest
    size_bytes: int
    bitfield: Bitfield
    is_fed: bool
    told_size_bytes: int = -1
    told_mask: int = 0
    told_is_fed: bool = False
    peers: tuple[bytes, ...] = ()
    told_peers: tuple[bytes, ...] = ()
    is_declined: bool = False


def packed_peers(peers: Iterable[Peer]) -> tuple[bytes, ...]:
    """The first of them that can be told: host names mean nothing elsewhere."""
    found = []
    for peer in peers:
        try:
            found.append(pack((endpoint(peer.address, peer.port),)))
        except EndpointInvalid:
            continue
        if len(found) == frames.PEERS_MAX_COUNT:
            break
    return tuple(found)


def load_percent(load_ratio: float) -> int:
    steps_count = 100 // _LOAD_STEP_PERCENT
    return round(min(1.0, max(0.0, load_ratio)) * steps_count) * _LOAD_STEP_PERCENT


def held_of(bitfield: Bitfield) -> Held:
    """The shorter of the two forms."""
    length_bytes = (bitfield.piece_count + 7) // 8
    ranges: list[tuple[int, int]] = []
    mask = bitfield.mask
    # A pair of small numbers is 3 bytes, of large ones 11; a short bitfield is not worth the search.
    most_count = min(frames.RANGES_MAX_COUNT, length_bytes // 8)
    while mask and len(ranges) < most_count:
        first = lowest(mask)
        stop = first + ones_from(mask, first)
        ranges.append((first, stop))
        mask &= -1 << stop
    return bitfield.to_bytes() if mask else ranges


class Outbox:
    def __init__(self, params: ChannelParams, load_ratio: float) -> None:
        """`load_ratio`: what HELLO told."""
        self._params = params
        self._by_digest: dict[Digest, _Stream] = {}
        self._by_number: dict[int, _Stream] = {}
        self._next_number = 0
        # Streams with something to tell, in the order in which it came up.
        self._due: OrderedDict[int, None] = OrderedDict()
        self._urgent: set[int] = set()
        self._closes: dict[int, int] = {}
        self._declines: dict[int, int] = {}
        self._asks: dict[tuple[int, int, int], None] = {}
        self._answers: dict[tuple[int, int, int], Mapping[int, bytes]] = {}
        self._load = self._told_load = load_percent(load_ratio)

    # -- what holds now ----------------------------------------------------------------------------------------------

    @property
    def is_quiet(self) -> bool:
        """No stream is open."""
        return not self._by_digest and not self._closes

    @property
    def is_due(self) -> bool:
        return bool(
            self._due
            or self._closes
            or self._declines
            or self._asks
            or self._answers
            or self._load != self._told_load
        )

    @property
    def is_urgent(self) -> bool:
        """Something is due that is not to wait for a batch."""
        return bool(self._urgent or self._closes or self._asks or self._answers)

    def tell(self, digest: Digest, size_bytes: int, bitfield: Bitfield, is_fed: bool) -> None:
        """`size_bytes` 0: not known. Raises: ChannelFull."""
        assert size_bytes <= frames.BLOB_MAX_BYTES and (size_bytes or not bitfield.piece_count), size_bytes
        stream = self._by_digest.get(digest)
        if stream is None:
            if len(self._by_digest) + len(self._closes) >= self._params.streams_max_count:
                raise ChannelFull(f"{len(self._by_digest)} digests are told to this peer already")
            stream = _Stream(self._next_number, digest, size_bytes, bitfield, is_fed)
            self._next_number += 1
            self._by_digest[digest] = self._by_number[stream.number] = stream
        stream.size_bytes, stream.bitfield, stream.is_fed = size_bytes, bitfield, is_fed
        self._mark(stream)

    def add(self, digest: Digest, mask: int) -> None:
        """These pieces, too. Ignored for a digest that is not told, or without a size."""
        stream = self._by_digest.get(digest)
        if stream is None or not stream.size_bytes:
            return
        stream.bitfield = Bitfield(stream.bitfield.piece_count, stream.bitfield.mask | mask)
        self._mark(stream)

    def name(self, digest: Digest, peers: Iterable[Peer]) -> None:
        stream = self._by_digest.get(digest)
        if stream is not None:
            stream.peers = packed_peers(peers)
            self._mark(stream)

    def leave(self, digest: Digest, reason: frames.LeaveReason) -> None:
        stream = self._by_digest.pop(digest, None)
        if stream is None:
            return
        del self._by_number[stream.number]
        self._tell_no_more(stream)
        for answer in [one for one in self._answers if one[0] == stream.number]:
            del self._answers[answer]
        if stream.told_size_bytes >= 0 and not stream.is_declined:
            self._closes[stream.number] = int(reason)

    def load(self, load_ratio: float) -> None:
        self._load = load_percent(load_ratio)

    # -- what the peer said about our streams -----------------------------------------------------------------------

    def digest_of(self, number: int) -> Digest | None:
        stream = self._by_number.get(number)
        return None if stream is None or stream.is_declined else stream.digest

    def declined(self, number: int) -> Digest | None:
        """None: there is no such stream, or not any more."""
        stream = self._by_number.get(number)
        if stream is None or stream.is_declined or stream.told_size_bytes < 0:
            return None
        stream.is_declined = True
        self._tell_no_more(stream)
        return stream.digest

    # -- single frames -----------------------------------------------------------------------------------------------

    def decline(self, number: int, reason: frames.DeclineReason) -> None:
        """A peer that has so many waiting reads nothing: it is not told."""
        if len(self._declines) < self._params.streams_max_count:
            self._declines[number] = int(reason)

    def ask(self, number: int, first: int, stop: int) -> None:
        self._asks[number, first, stop] = None

    def answer(self, digest: Digest, first: int, stop: int, digests: Mapping[int, bytes]) -> None:
        """Ignored for a digest that is not told any more."""
        stream = self._by_digest.get(digest)
        if stream is None or stream.is_declined:
            return
        assert len(digests) <= frames.DIGESTS_MAX_COUNT and all(first <= piece < stop for piece in digests)
        self._answers[stream.number, first, stop] = digests

    # -- batches -----------------------------------------------------------------------------------------------------

    def next_message(self, version: int) -> bytes | None:
        """As much as fits into one; None: all is told. What is returned counts as told."""
        batch: list[bytes] = []
        room_bytes = frames.MESSAGE_MAX_BYTES - _MESSAGE_HEAD_BYTES
        while len(batch) < frames.FRAMES_MAX_COUNT:
            frame = self._next_frame()
            if frame is None:
                break
            encoded = frames.encode_frame(frame)
            if len(encoded) > room_bytes:
                break
            batch.append(encoded)
            room_bytes -= len(encoded)
            self._told(frame)
        return frames.join(version, batch) if batch else None

    def _next_frame(self) -> Frame | None:
        if self._load != self._told_load:
            return frames.Load(self._load)
        # A digest that is left and told anew has a new number: the old one's end comes first.
        for number, reason in self._closes.items():
            return frames.Close(number, reason)
        for number, reason in self._declines.items():
            return frames.Decline(number, reason)
        for number in self._due:
            return self._difference(self._by_number[number])
        for ask in self._asks:
            return frames.DigestsAsk(*ask)
        for answer, digests in self._answers.items():
            return frames.Digests(*answer, dict(digests))
        return None

    def _difference(self, stream: _Stream) -> Frame | None:
        mask = stream.bitfield.mask
        if stream.told_size_bytes != stream.size_bytes:
            return frames.Open(
                stream.number, str(stream.digest), stream.size_bytes, held_of(stream.bitfield), stream.is_fed
            )
        new = mask & ~stream.told_mask
        if (
            stream.told_mask & ~mask
            or new.bit_count() > frames.HAVE_MAX_COUNT
            or stream.told_is_fed != stream.is_fed
        ):
            return frames.State(stream.number, held_of(stream.bitfield), stream.is_fed)
        if new:
            return frames.Have(stream.number, list(pieces_of(new)))
        if stream.peers != stream.told_peers:
            return frames.Peers(stream.number, list(stream.peers))
        return None

    def _told(self, frame: Frame) -> None:
        match frame:
            case frames.Load(load):
                self._told_load = load
            case frames.Close(number):
                del self._closes[number]
            case frames.Decline(number):
                del self._declines[number]
            case frames.DigestsAsk(number, first, stop):
                del self._asks[number, first, stop]
            case frames.Digests(number, first, stop):
                del self._answers[number, first, stop]
            case frames.Peers(number):
                stream = self._by_number[number]
                stream.told_peers = stream.peers
                self._mark(stream)
            case frames.Open(number) | frames.State(number) | frames.Have(number):
                stream = self._by_number[number]
                stream.told_size_bytes = stream.size_bytes
                stream.told_mask = stream.bitfield.mask
                stream.told_is_fed = stream.is_fed
                self._mark(stream)
            case frames.Keep():
                raise AssertionError("KEEP is the handshake's")

    def _mark(self, stream: _Stream) -> None:
        mask = stream.bitfield.mask
        is_another = stream.told_size_bytes != stream.size_bytes or stream.told_is_fed != stream.is_fed
        has_pieces = stream.told_mask != mask
        if stream.is_declined or not (is_another or has_pieces or stream.told_peers != stream.peers):
            self._tell_no_more(stream)
            return
        self._due[stream.number] = None
        if is_another or (has_pieces and (not stream.told_mask or stream.bitfield.is_complete)):
            self._urgent.add(stream.number)
        else:
            self._urgent.discard(stream.number)

    def _tell_no_more(self, stream: _Stream) -> None:
        self._due.pop(stream.number, None)
        self._urgent.discard(stream.number)

    def streams(self) -> Sequence[Digest]:
        """The digests that are told, for tests and the status page."""
        return list(self._by_digest)
