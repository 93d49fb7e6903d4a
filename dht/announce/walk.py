"""One round over a set of keys: which nodes are to be told of which, region by region, a datagram's worth at a time.

For what is new, for what is withdrawn, and for many newcomers at once. When it is sent is not decided here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from dht.announce.placement import Gathering, Placement, Range, within


class Walk:
    """`keys` are sorted. The round starts at the region of `start`, and in each region with the nodes above `start`:
    if all began at zero, the lowest ids would hear everybody at once. `only`: other nodes are left out."""

    __slots__ = (
        "_gathering",
        "_keys",
        "_node",
        "_node_at",
        "_node_keys",
        "_nodes",
        "_parts",
        "_placement",
        "_start",
        "only",
    )

    def __init__(
        self, keys: list[bytes], placement: Placement, start: bytes, only: frozenset[bytes] | None
    ) -> None:
        self.only = only
        self._keys = keys
        self._placement = placement
        self._start = start
        middle = bisect_left(keys, placement.region(start)[0])
        # Runs of keys that are left, last first; then the region at hand: its nodes, last first, and one node's keys.
        self._parts = [part for part in ((0, middle), (middle, len(keys))) if part[0] < part[1]]
        self._gathering: Gathering | None = None
        self._nodes: list[tuple[bytes, list[Range]]] = []
        self._node = b""
        self._node_keys: list[bytes] = []
        self._node_at = 0

    @property
    def left_count(self) -> int:
        """Keys whose region was not begun."""
        return sum(end - start for start, end in self._parts)

    @property
    def is_done(self) -> bool:
        return not (self._parts or self._gathering or self._nodes or self._node_keys)

    def take(self, keys_count: int, cells_count: int) -> tuple[bytes, list[bytes], int]:
        """A node, at most `keys_count` keys that it keeps, and how many cells were looked at. No keys: the walk is
        done, or `cells_count` used up."""
        looked = 0
        while not self._node_keys and looked < cells_count and not self.is_done:
            if self._nodes:
                self._node, ranges = self._nodes.pop()
                self._node_keys = within(self._keys, ranges)
                self._node_at = 0
            elif self._gathering is not None:
                looked += self._gathering.advance(cells_count - looked)
                if self._gathering.is_done:
                    self._nodes = self._in_turn(self._gathering.ranges)
                    self._gathering = None
            else:
                self._gathering = self._next_region()
        keys = self._node_keys[self._node_at : self._node_at + keys_count]
        self._node_at += keys_count
        if self._node_at >= len(self._node_keys):
            self._node_keys = []
        return self._node, keys, looked

    def _next_region(self) -> Gathering:
        start, end = self._parts.pop()
        _, last = self._placement.region(self._keys[start])
        middle = bisect_right(self._keys, last, start, end)
        if middle < end:
            self._parts.append((middle, end))
        return Gathering(self._placement, self._keys, start, middle, self._keys[middle - 1])

    def _in_turn(self, ranges: dict[bytes, list[Range]]) -> list[tuple[bytes, list[Range]]]:
        chosen = [one for one in ranges.items() if self.only is None or one[0] in self.only]
        return sorted(chosen, key=lambda one: (one[0] < self._start, one[0]), reverse=True)
