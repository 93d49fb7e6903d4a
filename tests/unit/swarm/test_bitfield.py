from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.swarm.bitfield import (
    Bitfield,
    BitfieldInvalid,
    lowest,
    mask_of,
    ones_from,
    pieces_of,
    some_piece,
)

COUNT = 30
sets = st.sets(st.integers(0, COUNT - 1))


@pytest.mark.parametrize(
    ("count", "pieces", "wire"),
    [
        (0, [], ""),
        (1, [], "00"),
        (1, [0], "80"),
        (8, [7], "01"),
        (9, [0, 8], "8080"),
        (12, range(12), "fff0"),
        (16, [1, 2, 14], "6002"),
    ],
)
def test_between_peers_the_highest_bit_is_the_first_piece(count: int, pieces: list[int], wire: str) -> None:
    bitfield = Bitfield.holding(count, pieces)
    assert bitfield.to_bytes().hex() == wire
    assert Bitfield.from_bytes(bytes.fromhex(wire), count) == bitfield


@pytest.mark.parametrize(
    ("count", "wire", "says"),
    [
        (0, "00", "1 bytes"),
        (8, "", "0 bytes"),
        (9, "80", "1 bytes"),
        (9, "808080", "3 bytes"),
        (9, "8040", "spare bits"),
        (7, "01", "spare bits"),
    ],
)
def test_what_is_no_bitfield(count: int, wire: str, says: str) -> None:
    with pytest.raises(BitfieldInvalid, match=says):
        Bitfield.from_bytes(bytes.fromhex(wire), count)


@given(sets)
def test_it_is_the_set_of_its_pieces(pieces: set[int]) -> None:
    bitfield = Bitfield.holding(COUNT, pieces)
    assert list(bitfield) == sorted(pieces)
    assert {piece for piece in range(COUNT) if piece in bitfield} == pieces
    assert bitfield.held_count == len(pieces)
    assert bitfield.prefix_count == next(number for number in range(COUNT + 1) if number not in pieces)
    assert bitfield.is_complete == (len(pieces) == COUNT)
    assert Bitfield.from_bytes(bitfield.to_bytes(), COUNT) == bitfield


def test_ready_made_ones() -> None:
    assert list(Bitfield.full(5)) == [0, 1, 2, 3, 4]
    assert Bitfield.full(0).is_complete
    assert list(Bitfield.prefix(5, 2)) == [0, 1]


@given(sets, st.integers(0, COUNT), st.integers(0, COUNT), st.integers(0, 99))
def test_masks(pieces: set[int], first: int, stop: int, seed: int) -> None:
    mask = Bitfield.holding(COUNT, pieces).mask
    assert set(pieces_of(mask_of(first, stop))) == set(range(first, stop))
    assert ones_from(mask, first) == next(n for n in range(COUNT + 1) if first + n not in pieces)
    if pieces:
        assert lowest(mask) == min(pieces)
        assert some_piece(mask, random.Random(seed)) in pieces


def test_every_piece_can_be_the_one_that_is_drawn() -> None:
    rng = random.Random(1)
    mask = Bitfield.holding(COUNT, [0, 7, 8, 29]).mask
    assert {some_piece(mask, rng) for _ in range(500)} == {0, 7, 8, 29}
