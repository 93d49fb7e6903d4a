"""Which range of a blob is asked of the origin next, over several connections at once. Pure.

Rules
1. A byte that arrived is never asked for again; a byte that is on its way is asked for by nobody else.
2. First comes what a reader lacks soonest: the reader with the fewest bytes in hand or on their way before him.
   Then, in order, what readers wanted who have left.
3. What a lost connection did not bring is free at once, from its exact byte on.
4. An answer may hold more than was asked for (an origin that ignores Range sends the whole blob). All of it that is
   new is used, and it is ended behind the last byte that is wanted. Until the origin keeps to a range again there is
   one connection at a time, and a second such answer is ended at once: it would bring the same bytes.
5. What is wanted stays wanted for as long as this object lives.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.relay.spans import SpanSet

# The first range of a blob, whose size and rate nobody knows yet. Most layers are not larger.
FIRST_RANGE_BYTES = 4 * 1024 * 1024
# Below, the requests cost more than they bring; above, a blob of 1 GiB has too few ranges to share.
RANGE_MIN_BYTES = 1024 * 1024
RANGE_MAX_BYTES = 32 * 1024 * 1024
# A range should take so long: a reader who comes to another place waits for the end of one range at most.
RANGE_DURATION_S = 4.0


def range_bytes(rate_bytes_per_s: float) -> int:
    """How much to ask for over a connection on which bytes came at that rate."""
    return int(max(RANGE_MIN_BYTES, min(RANGE_MAX_BYTES, rate_bytes_per_s * RANGE_DURATION_S)))


def opening(byte_range: ByteRange | None) -> ByteSpan:
    """What to ask for when the size is not known: its answer tells the size."""
    start = (byte_range.first if byte_range else None) or 0
    stop = start + FIRST_RANGE_BYTES
    if byte_range is not None and byte_range.first is not None and byte_range.last is not None:
        stop = min(stop, byte_range.last + 1)
    return ByteSpan(start, stop)


@dataclass(slots=True)
class _Claim:
    position: int
    stop: int
    # It sends more than it was asked for; another one does already, and brings the same.
    is_whole: bool = False
    is_double: bool = False


class Ranges:
    """`have`: what arrived before."""

    def __init__(self, size_bytes: int, have: Iterable[ByteSpan] = ()) -> None:
        self.size_bytes = size_bytes
        self.ignores_range = False
        self._arrived = SpanSet(have)
        self._wanted = SpanSet()
        self._claims: dict[Hashable, _Claim] = {}

    @property
    def connection_count(self) -> int:
        return len(self._claims)

    def want(self, span: ByteSpan) -> None:
        self._wanted.add(span.start, span.stop)

    def wanted(self) -> list[ByteSpan]:
        return list(self._wanted)

    def will_be_whole(self) -> bool:
        """Whether all bytes are here or wanted, so that the digest will tell."""
        gaps = self._arrived.missing(0, self.size_bytes)
        return all(self._wanted.covers(gap.start, gap.stop) for gap in gaps)

    def has_next(self) -> bool:
        """Whether a further connection would find something to fetch."""
        return not (self.ignores_range and self._claims) and bool(self._free())

    def next(self, connection: Hashable, positions: Iterable[int], length_bytes: int) -> ByteSpan | None:
        """Claims for `connection` what is to be asked for, at most `length_bytes`. `positions`: the next byte of each
        reader. None: nothing now; ask again when something arrived, was wanted or lost."""
        assert connection not in self._claims, connection
        free = [] if self.ignores_range and self._claims else self._free()
        if not free:
            return None
        chosen = ByteSpan(free[0].start, free[0].stop)
        shortest_lead = self.size_bytes + 1
        for position in sorted(positions):
            behind = next((span for span in free if span.stop > position), None)
            if behind is None:
                continue
            start = max(behind.start, position)
            if start - position < shortest_lead:
                shortest_lead = start - position
                chosen = ByteSpan(start, behind.stop)
        return self.claim(connection, ByteSpan(chosen.start, min(chosen.stop, chosen.start + length_bytes)))

    def claim(self, connection: Hashable, span: ByteSpan) -> ByteSpan:
        """For a request that was sent before the size was known."""
        self._claims[connection] = _Claim(span.start, min(span.stop, self.size_bytes))
        return span

    def answered(self, connection: Hashable, span: ByteSpan) -> None:
        """The origin sends `span`, whatever it was asked for."""
        claim = self._claims[connection]
        if span.start < claim.position or span.stop > claim.stop:
            self.ignores_range = True
            claim.is_double = any(other.is_whole for other in self._claims.values() if other is not claim)
            claim.is_whole = not claim.is_double
        elif span.length_bytes < self.size_bytes:
            self.ignores_range = False
        claim.position = span.start
        claim.stop = span.stop

    def arrived(self, connection: Hashable, length_bytes: int) -> list[ByteSpan]:
        """The next bytes of a connection came. Gives those of them that are new, in order."""
        claim = self._claims[connection]
        start = claim.position
        claim.position = min(start + length_bytes, self.size_bytes)
        new = self._arrived.missing(start, claim.position)
        self._arrived.add(start, claim.position)
        return new

    def is_to_be_cut(self, connection: Hashable) -> bool:
        """Whether more is to come over this connection, but nothing of it is wanted."""
        claim = self._claims[connection]
        if claim.position >= claim.stop or claim.is_double:
            return claim.is_double
        gaps = self._arrived.missing(claim.position, claim.stop)
        return not any(self._wanted.overlaps(gap.start, gap.stop) for gap in gaps)

    def ended(self, connection: Hashable) -> None:
        """Whether at its end or before: what it did not bring is free."""
        self._claims.pop(connection, None)

    def _free(self) -> list[ByteSpan]:
        taken = SpanSet(self._arrived)
        for claim in self._claims.values():
            taken.add(claim.position, claim.stop)
        return [gap for span in self._wanted for gap in taken.missing(span.start, span.stop)]
