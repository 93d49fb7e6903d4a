from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.byterange import ByteSpan
from mirror.swarm.pieces import PIECE_MAX_BYTES, PIECE_MIN_BYTES, PieceLayout

HALF, MIB, GIB = 512 * 1024, 1024**2, 1024**3


@pytest.mark.parametrize(
    ("size_bytes", "piece_bytes", "count"),
    [
        (0, HALF, 0),
        (1, HALF, 1),
        (HALF - 1, HALF, 1),
        (HALF, HALF, 1),
        (HALF + 1, HALF, 2),
        (64 * MIB, HALF, 128),
        (128 * MIB, HALF, 256),
        (128 * MIB + 1, MIB, 129),
        (256 * MIB, MIB, 256),
        (256 * MIB + 1, 2 * MIB, 129),
        (456 * MIB, 2 * MIB, 228),
        (GIB, 4 * MIB, 256),
        (2 * GIB, 8 * MIB, 256),
        (80 * GIB, 8 * MIB, 10_240),
    ],
)
def test_how_a_blob_is_cut(size_bytes: int, piece_bytes: int, count: int) -> None:
    layout = PieceLayout.of(size_bytes)
    assert (layout.piece_bytes, layout.count) == (piece_bytes, count)


@given(st.integers(0, 200 * GIB))
def test_a_piece_is_a_power_of_two_within_its_bounds(size_bytes: int) -> None:
    layout = PieceLayout.of(size_bytes)
    assert layout.piece_bytes.bit_count() == 1
    assert PIECE_MIN_BYTES <= layout.piece_bytes <= PIECE_MAX_BYTES
    assert layout.piece_bytes == PIECE_MAX_BYTES or layout.count <= 256
    assert layout.piece_bytes == PIECE_MIN_BYTES or layout.count > 128


layouts = st.builds(PieceLayout, st.integers(0, 50), st.integers(1, 9))


@given(layouts)
def test_the_pieces_are_the_blob(layout: PieceLayout) -> None:
    lengths = [layout.length_bytes(piece) for piece in range(layout.count)]
    assert sum(lengths) == layout.size_bytes
    assert all(length == layout.piece_bytes for length in lengths[:-1])
    assert all(0 < length <= layout.piece_bytes for length in lengths)
    assert layout.span(0, layout.count) == ByteSpan(0, layout.size_bytes)
    for piece in range(layout.count):
        span = layout.span(piece, piece + 1)
        assert {layout.piece_at(offset) for offset in range(span.start, span.stop)} == {piece}
    assert layout.piece_at(layout.size_bytes) == layout.count


@given(layouts, st.data())
def test_spans_to_pieces(layout: PieceLayout, data: st.DataObject) -> None:
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, layout.size_bytes)] * 2)))
    held = set(range(start, stop))
    own = [set(range(layout.start(piece), layout.start(piece + 1))) for piece in range(layout.count)]
    span = ByteSpan(start, stop)
    assert list(layout.touched(span)) == [piece for piece, offsets in enumerate(own) if offsets & held]
    assert list(layout.within(span)) == [piece for piece, offsets in enumerate(own) if offsets <= held]
