"""A set of pieces: as a value, as bits of an int, and as bytes between peers. Pure.

Inside, bit `i` of an int is piece `i`: one operation of an int handles all pieces of a blob, in about 0.2 us for 10,000
of them. The functions below work on such masks.
Between peers it is bytes, the highest bit of the first byte is piece 0, and the spare bits of the last byte are zero.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mirror.errors import MirrorError

_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class BitfieldInvalid(MirrorError):
    """The bytes are no bitfield of that many pieces: what else that peer says about the blob is not to be used."""


def mask_of(first: int, stop: int) -> int:
    """The pieces from `first` to before `stop`."""
    return (1 << stop) - (1 << first) if first < stop else 0


def lowest(mask: int) -> int:
    """The first piece of a set that is not empty."""
    return (mask & -mask).bit_length() - 1


def ones_from(mask: int, first: int) -> int:
    """How many adjacent pieces from `first` on are in the set."""
    rest = mask >> first
    return (~rest & (rest + 1)).bit_length() - 1


def some_piece(mask: int, rng: random.Random) -> int:
    """One of a set that is not empty, by lot. A piece behind a gap is somewhat likelier."""
    place = int(rng.random() * mask.bit_length())
    return place + lowest(mask >> place)


def pieces_of(mask: int) -> Iterator[int]:
    """In order."""
    while mask:
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit


@dataclass(frozen=True, slots=True)
class Bitfield:
    """Which of `piece_count` pieces."""

    piece_count: int
    mask: int = 0

    def __post_init__(self) -> None:
        assert self.piece_count >= 0 and 0 <= self.mask < 1 << self.piece_count, "a piece outside of the blob"

    @staticmethod
    def full(piece_count: int) -> Bitfield:
        return Bitfield(piece_count, mask_of(0, piece_count))

    @staticmethod
    def prefix(piece_count: int, prefix_count: int) -> Bitfield:
        return Bitfield(piece_count, mask_of(0, prefix_count))

    @staticmethod
    def holding(piece_count: int, pieces: Iterable[int]) -> Bitfield:
        mask = 0
        for piece in pieces:
            mask |= 1 << piece
        return Bitfield(piece_count, mask)

    @staticmethod
    def from_bytes(data: bytes, piece_count: int) -> Bitfield:
        """Raises: BitfieldInvalid."""
        if len(data) != (piece_count + 7) // 8:
            raise BitfieldInvalid(
                f"{len(data)} bytes are no bitfield of {piece_count} pieces: it has {(piece_count + 7) // 8} bytes"
            )
        mask = int.from_bytes(data.translate(_TURNED), "little")
        if mask >> piece_count:
            raise BitfieldInvalid(f"a bitfield of {piece_count} pieces has spare bits that are not zero")
        return Bitfield(piece_count, mask)

    def to_bytes(self) -> bytes:
        return self.mask.to_bytes((self.piece_count + 7) // 8, "little").translate(_TURNED)

    def __contains__(self, piece: int) -> bool:
        return bool(self.mask >> piece & 1)

    def __iter__(self) -> Iterator[int]:
        return pieces_of(self.mask)

    @property
    def held_count(self) -> int:
        return self.mask.bit_count()

    @property
    def prefix_count(self) -> int:
        """How many pieces from the first on are held without a gap."""
        return ones_from(self.mask, 0)

    @property
    def is_complete(self) -> bool:
        return self.mask.bit_count() == self.piece_count
