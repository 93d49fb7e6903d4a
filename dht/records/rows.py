"""Rows of (key, provider) packed into byte arrays: 45 B a row with everything, whatever the number of rows a key.

A table of Python objects costs 190 B for a key with one provider. Here a row is 37 B in one of many small byte
arrays, found by the search that bytearray has in C; the number of arrays grows one by one (Litwin: Linear hashing,
1980), so no insertion pays for a rehash of everything. Rows of a key stand side by side, oldest first. Knows nothing
of time, quotas or what a slot is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_KEY_BYTES: Final = 20
# Key, slot, state, the monotonic second at which it ends, stamp; big endian, so that key and slot can be searched.
_ROW: Final = struct.Struct("!20sIBIQ")
_TAIL: Final = struct.Struct("!BIQ")
_HEAD_BYTES: Final = _KEY_BYTES + 4
ROW_BYTES: Final = _ROW.size
_FIELDS: Final = struct.Struct("!IBIQ")
_SLOT: Final = struct.Struct("!I")
# Rows an array holds on average: an array costs about 90 B of its own, a search 0.3 us a KiB.
_ARRAY_ROWS_COUNT: Final = 16
# An array object, its entry in the list, and its buffer's spare room (an eighth at most, half of it on average).
_ARRAY_BYTES: Final = 90
_SPARE: Final = 17 / 16


class Rows:
    """`key` must be 20 bytes everywhere; a place is good until the next insertion or removal."""

    __slots__ = ("_arrays", "_cursor", "_mask", "_split", "count", "keys_count")

    def __init__(self) -> None:
        self._arrays = [bytearray()]
        self._mask = 0
        self._split = 0
        self._cursor = 0
        self.count = 0
        self.keys_count = 0

    def array(self, key: bytes) -> bytearray:
        """The array that holds all rows of `key`."""
        # Python salts the hash of bytes: nobody can choose keys that share an array.
        hashed = hash(key)
        number = hashed & self._mask
        if number < self._split:
            number = hashed & (self._mask << 1 | 1)
        return self._arrays[number]

    def insert(self, array: bytearray, end: int, key: bytes, row: tuple[int, int, int, int]) -> None:
        """`array` and `end` of the key's `span`, `row` as of `fields`."""
        if end == 0:
            end = len(array)
            self.keys_count += 1
        array[end:end] = _ROW.pack(key, *row)
        self.count += 1
        if self.count > len(self._arrays) * _ARRAY_ROWS_COUNT:
            self._grow()

    def remove(self, array: bytearray, at: int) -> None:
        key = array[at : at + _KEY_BYTES]
        del array[at : at + ROW_BYTES]
        self.count -= 1
        before = array[at - ROW_BYTES : at - ROW_BYTES + _KEY_BYTES] if at else b""
        if before != key and array[at : at + _KEY_BYTES] != key:
            self.keys_count -= 1

    def next_array(self) -> bytearray:
        """All arrays in turns, for a sweep that does a little at a time."""
        self._cursor = (self._cursor + 1) % len(self._arrays)
        return self._arrays[self._cursor]

    @property
    def arrays_count(self) -> int:
        return len(self._arrays)

    @property
    def size_bytes(self) -> int:
        """An estimate, within a tenth of what the allocator gives."""
        return int(len(self._arrays) * _ARRAY_BYTES + self.count * ROW_BYTES * _SPARE)

    def __iter__(self) -> Iterator[tuple[bytes, int, int, int, int]]:
        """Key, slot, state, ends_s, stamp. Rows that come or go meanwhile may be missed or seen."""
        number = 0
        while number < len(self._arrays):
            yield from _ROW.iter_unpack(bytes(self._arrays[number]))
            number += 1

    def _grow(self) -> None:
        """Divides one array in two by the next bit of the hash."""
        bit = self._mask + 1
        kept, moved = bytearray(), bytearray()
        old = self._arrays[self._split]
        for at in range(0, len(old), ROW_BYTES):
            row = old[at : at + ROW_BYTES]
            if hash(bytes(row[:_KEY_BYTES])) & bit:
                moved += row
            else:
                kept += row
        self._arrays[self._split] = kept
        self._arrays.append(moved)
        self._split += 1
        if self._split == bit:
            self._mask = self._mask << 1 | 1
            self._split = 0


def packed_slot(slot: int) -> bytes:
    return _SLOT.pack(slot)


def place(array: bytearray, key_and_slot: bytes) -> int:
    """Where the row of this key and packed slot starts, or -1."""
    at = array.find(key_and_slot)
    while at > 0 and at % ROW_BYTES:
        at = array.find(key_and_slot, at + 1)
    return at


def span(array: bytearray, key: bytes) -> tuple[int, int]:
    """Where the rows of `key` start and end; (0, 0) when there are none."""
    start = place(array, key)
    if start < 0:
        return 0, 0
    last = array.rfind(key)
    while last % ROW_BYTES:
        last = array.rfind(key, 0, last + _KEY_BYTES - 1)
    return start, last + ROW_BYTES


def key_at(array: bytearray, at: int) -> bytes:
    return bytes(array[at : at + _KEY_BYTES])


def fields(array: bytearray, at: int) -> tuple[int, int, int, int]:
    """Slot, state, ends_s, stamp."""
    return _FIELDS.unpack_from(array, at + _KEY_BYTES)


def overwrite(array: bytearray, at: int, state: int, ends_s: int, stamp: int) -> None:
    _TAIL.pack_into(array, at + _HEAD_BYTES, state, ends_s, stamp)
