"""Which nodes keep a key, and for which keys around it the answer is the same.

The R nodes nearest to a key stay the same while the key moves inside one *cell*: all keys that share with it one bit
more than the R-th and the (R+1)-th nearest node share with each other. Reason: subtrees are ordered by distance as a
whole, so no other pair of a chosen and a left-out node shares a longer prefix than these two. So a thousand keys cost
far fewer than a thousand searches, and nothing depends on keys times members.

Also: a subtree that holds R nodes keeps all its keys to itself. A *region* is such a subtree, mostly; what is gathered
by regions reaches each node once.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from dht.contacts import Contact
from dht.ids import ID_BYTES

_ID_BITS: Final = 8 * ID_BYTES
LAST_KEY: Final = b"\xff" * ID_BYTES
# A region should hold 2 to 4 times R nodes: then less than one in a hundred has fewer than R.
_REGION_FACTOR: Final = 2
# Nodes of a region that are sorted by us: above, ids were chosen by somebody, and the table's own search is better.
_SORTED_MAX_COUNT: Final = 256

# First and last key, both included.
Range = tuple[bytes, bytes]


class MembersView(Protocol):
    """What placement asks of the members. Own is in the answers of `nearest(with_own=True)`, `page` and `count`."""

    revision: int

    def nearest(self, key: bytes, count: int, *, with_own: bool = False) -> list[Contact]: ...

    def page(self, first: bytes, last: bytes, count: int) -> tuple[list[Contact], bool]: ...

    def count(self, first: bytes, last: bytes) -> int: ...

    def get(self, node: bytes) -> Contact | None: ...

    def __len__(self) -> int: ...


class Cell(NamedTuple):
    """All keys from the asked one up to `last` are kept by `nodes`."""

    last: bytes
    nodes: tuple[bytes, ...]


class Placement:
    """One region at a time is remembered, so ask for keys in their order."""

    __slots__ = ("_by_number", "_members", "_region", "_replicas_count", "_revision")

    def __init__(self, members: MembersView, replicas_count: int) -> None:
        self._members = members
        self._replicas_count = replicas_count
        self._region: Range = (LAST_KEY, b"")
        self._revision = -1
        # The region's nodes; empty where they are too few or too many to be all that matters.
        self._by_number: dict[int, bytes] = {}

    @property
    def members(self) -> MembersView:
        return self._members

    @property
    def region_bits(self) -> int:
        """Leading bits that the keys of a region share."""
        return max(0, (len(self._members) // (_REGION_FACTOR * self._replicas_count)).bit_length() - 1)

    def region(self, key: bytes) -> Range:
        """The one that holds this key."""
        return _subtree(int.from_bytes(key, "big"), _ID_BITS - self.region_bits)

    def cell(self, key: bytes) -> Cell:
        """The nodes are in no order."""
        first, last = self._region
        if not first <= key <= last or self._revision != self._members.revision:
            self._enter(key)
        number = int.from_bytes(key, "big")
        replicas_count = self._replicas_count
        if self._by_number:
            near = sorted(self._by_number, key=number.__xor__)[: replicas_count + 1]
            nodes = tuple([self._by_number[one] for one in near[:replicas_count]])
        else:
            found = self._members.nearest(key, replicas_count + 1, with_own=True)
            nodes = tuple([one.node for one in found[:replicas_count]])
            if len(found) <= replicas_count:
                return Cell(LAST_KEY, nodes)
            near = [int.from_bytes(one.node, "big") for one in found]
        free = (1 << ((near[-2] ^ near[-1]).bit_length() - 1)) - 1
        return Cell((number | free).to_bytes(ID_BYTES, "big"), nodes)

    def reach(self, node: bytes) -> tuple[Range, list[Range]]:
        """The keys of the first range are all kept by `node`; in the others some may be; elsewhere none is."""
        number = int.from_bytes(node, "big")
        free = _ID_BITS
        maybe = []
        while free and self._members.count(*_subtree(number, free)) > self._replicas_count:
            free -= 1
            sibling = _subtree(number ^ 1 << free, free)
            if self._members.count(*sibling) < self._replicas_count:
                maybe.append(sibling)
        return _subtree(number, free), maybe

    def _enter(self, key: bytes) -> None:
        self._revision = self._members.revision
        self._region = self.region(key)
        contacts, more = self._members.page(*self._region, _SORTED_MAX_COUNT)
        # The nearest R+1 must all be here.
        if more or len(contacts) <= self._replicas_count:
            self._by_number = {}
        else:
            self._by_number = {int.from_bytes(one.node, "big"): one.node for one in contacts}


class Gathering:
    """Which node gets which of `keys[start:end]`, sorted, found out a few cells at a time. No range goes beyond
    `upto`."""

    __slots__ = ("_at", "_end", "_keys", "_last", "_placement", "_upto", "ranges")

    def __init__(
        self, placement: Placement, keys: Sequence[bytes], start: int, end: int, upto: bytes
    ) -> None:
        self._placement = placement
        self._keys = keys
        self._at = start
        self._end = end
        self._upto = upto
        self._last = b""
        # Of one node: ascending, disjoint.
        self.ranges: dict[bytes, list[Range]] = {}

    @property
    def is_done(self) -> bool:
        return self._at >= self._end

    def advance(self, cells_count: int) -> int:
        """How many cells were looked at."""
        looked = 0
        while self._at < self._end and looked < cells_count:
            looked += 1
            key = self._keys[self._at]
            last, nodes = self._placement.cell(key)
            last = min(last, self._upto)
            for node in nodes:
                ranges = self.ranges.setdefault(node, [])
                if ranges and ranges[-1][1] == self._last:
                    ranges[-1] = (ranges[-1][0], last)
                else:
                    ranges.append((key, last))
            self._last = last
            self._at = bisect_right(self._keys, last, self._at, self._end)
        return looked


def within(keys: list[bytes], ranges: Sequence[Range]) -> list[bytes]:
    """Those of the sorted keys that stand in the ranges."""
    found: list[bytes] = []
    for first, last in ranges:
        low = bisect_left(keys, first)
        found += keys[low : bisect_right(keys, last, low)]
    return found


def _subtree(number: int, free: int) -> Range:
    """All keys that equal `number` in all but the last `free` bits."""
    first = number >> free << free
    return first.to_bytes(ID_BYTES, "big"), (first | (1 << free) - 1).to_bytes(ID_BYTES, "big")
