"""How a blob is cut into pieces. Pure arithmetic; knows nothing of who holds them.

Rules
1. The layout follows from the size alone, so that all hosts of a cluster cut a blob alike: the piece is a 256th of the
   blob, rounded up to a power of two, at least 512 KiB and at most 8 MiB. That gives 128 to 256 pieces between
   64 MiB and 2 GiB.
2. The last piece is short where the size is no multiple. A blob below one piece is one piece; an empty one has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.oci.byterange import ByteSpan

# Below, a request costs more than what it brings.
PIECE_MIN_BYTES = 512 * 1024
# Above, a reader waits too long for a piece, and one bad piece costs too much.
PIECE_MAX_BYTES = 8 * 1024 * 1024
# More pieces do not make a herd faster, fewer make it slower.
PIECES_AIM_COUNT = 256


@dataclass(frozen=True, slots=True)
class PieceLayout:
    """`PieceLayout.of(size)` is the one that hosts agree on."""

    size_bytes: int
    piece_bytes: int
    count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        assert self.size_bytes >= 0 and self.piece_bytes > 0, self.size_bytes
        object.__setattr__(self, "count", -(-self.size_bytes // self.piece_bytes))

    @staticmethod
    def of(size_bytes: int) -> PieceLayout:
        share_bytes = -(-size_bytes // PIECES_AIM_COUNT)
        power = 1 << max(0, share_bytes - 1).bit_length()
        return PieceLayout(size_bytes, max(PIECE_MIN_BYTES, min(PIECE_MAX_BYTES, power)))

    def start(self, piece: int) -> int:
        """The offset of its first byte; for `piece == count` the size."""
        offset = piece * self.piece_bytes
        return offset if offset < self.size_bytes else self.size_bytes

    def length_bytes(self, piece: int) -> int:
        return self.start(piece + 1) - self.start(piece)

    def span(self, first: int, stop: int) -> ByteSpan:
        """The bytes of the pieces from `first` to before `stop`."""
        return ByteSpan(self.start(first), self.start(stop))

    def piece_at(self, offset: int) -> int:
        """The piece that holds the byte at `offset`; `count` for the end of the blob."""
        return self.count if offset >= self.size_bytes else offset // self.piece_bytes

    def touched(self, span: ByteSpan) -> range:
        """The pieces that hold a byte of `span`."""
        if span.start == span.stop:
            return range(self.piece_at(span.start), self.piece_at(span.start))
        return range(self.piece_at(span.start), self.piece_at(span.stop - 1) + 1)

    def within(self, span: ByteSpan) -> range:
        """The pieces that lie in `span` with all of their bytes."""
        first = min(-(-span.start // self.piece_bytes), self.count)
        stop = self.count if span.stop >= self.size_bytes else span.stop // self.piece_bytes
        return range(first, max(first, stop))
