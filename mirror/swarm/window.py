"""Where the readers are: what they may be handed, what they want next, who waits. Pure; knows no source.

Rules
1. A reader may be handed what is held without a gap from his start on, but nothing of the last piece before the whole
   matched its digest: a client that lacks the end throws nothing wrong into its store. With `is_whole_first` he is
   handed nothing before.
2. The window of a reader begins at the first piece that he lacks. The first few readers that lack anything count.
3. A reader waits when he was handed all that was released, and wants more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import mask_of, ones_from
from mirror.swarm.events import ReaderId
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout


@dataclass(slots=True)
class Reader:
    """`position`: the end of what he was handed. `released`: the end of what he may be handed, in piece `frontier`;
    `last_stop`: behind his last piece. `waits_since` is infinite for one who does not wait."""

    reader_id: ReaderId
    span: ByteSpan
    position: int
    released: int
    frontier: int
    last_stop: int
    waits_since: float


class Window:
    def __init__(self, layout: PieceLayout, params: SwarmParams, is_whole_first: bool) -> None:
        self._layout = layout
        self._params = params
        self._readers: dict[ReaderId, Reader] = {}
        self._limit = 0 if is_whole_first else layout.start(max(0, layout.count - 1))

    def __len__(self) -> int:
        return len(self._readers)

    @property
    def lowest(self) -> int:
        """The position of the reader who is behind all others. Only where there is one."""
        return min(reader.position for reader in self._readers.values())

    def open(self, reader_id: ReaderId, span: ByteSpan, now: float) -> None:
        """Raises: AssertionError for a span outside of the blob, or a number that is in use."""
        assert reader_id not in self._readers, reader_id
        assert span.stop <= self._layout.size_bytes, span
        pieces = self._layout.touched(span)
        waits_since = now if span.length_bytes else math.inf
        self._readers[reader_id] = Reader(
            reader_id, span, span.start, span.start, pieces.start, pieces.stop, waits_since
        )

    def move(self, reader_id: ReaderId, offset: int, now: float) -> None:
        reader = self._readers.get(reader_id)
        if reader is None:
            return
        assert offset <= reader.released, "a reader was handed what was not released"
        reader.position = max(reader.position, offset)
        if reader.position == reader.released < reader.span.stop and reader.waits_since == math.inf:
            reader.waits_since = now

    def close(self, reader_id: ReaderId) -> None:
        self._readers.pop(reader_id, None)

    def verified(self) -> None:
        self._limit = self._layout.size_bytes

    def releases(self, held: int, piece: int | None = None) -> list[tuple[ReaderId, int]]:
        """Who may be handed more, and up to where. `piece`: the only one that is new."""
        found = []
        for reader in self._readers.values():
            if piece is not None and reader.frontier != piece:
                continue
            stop = self._layout.start(reader.frontier + ones_from(held, reader.frontier))
            upto = min(stop, reader.span.stop, self._limit)
            if upto > reader.released:
                reader.released = upto
                reader.frontier = self._layout.piece_at(upto)
                reader.waits_since = math.inf
                found.append((reader.reader_id, upto))
        return found

    def spoiled_by(self, mask: int) -> list[ReaderId]:
        """Who may have been handed a byte of these pieces. They are forgotten."""
        found = []
        for reader in self._readers.values():
            handed = self._layout.touched(ByteSpan(reader.span.start, reader.released))
            if mask & mask_of(handed.start, handed.stop):
                found.append(reader.reader_id)
        for reader_id in found:
            del self._readers[reader_id]
        return found

    def wanted(self, held: int, now: float) -> tuple[int, int]:
        """The windows, and the pieces for which somebody has waited for long. Both may hold what is under way."""
        window = urgent = 0
        left = self._params.window_readers_count
        urgent_since = now - self._params.urgent_s
        for reader in self._readers.values():
            head = reader.frontier + ones_from(held, reader.frontier)
            if head >= reader.last_stop:
                continue
            window |= mask_of(head, min(head + self._params.window_pieces_count, reader.last_stop))
            if reader.waits_since <= urgent_since:
                urgent |= 1 << head
            left -= 1
            if not left:
                break
        return window & ~held, urgent

    def near(self) -> int:
        """What each reader wants next, held or not: what a full spool still takes in."""
        mask = 0
        for reader in self._readers.values():
            first = self._layout.piece_at(reader.position)
            mask |= mask_of(first, min(first + self._params.window_pieces_count, reader.last_stop))
        return mask

    def waits_since(self) -> float:
        """Of the one who waits longest; infinite if nobody waits."""
        return min((reader.waits_since for reader in self._readers.values()), default=math.inf)

    def check(self, held: int) -> None:
        for reader in self._readers.values():
            assert reader.span.start <= reader.position <= reader.released <= reader.span.stop
            assert reader.released <= max(self._limit, reader.span.start)
            handed = self._layout.touched(ByteSpan(reader.span.start, reader.released))
            assert not mask_of(handed.start, handed.stop) & ~held, "released, but not held"
            if reader.waits_since < math.inf:
                assert reader.position == reader.released < reader.span.stop
