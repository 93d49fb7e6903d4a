"""When each node is told again what of our keys it keeps: once a period, in ring order, at a flat rate.

The ring of ids is one period long; a random phase keeps the nodes of a cluster apart. At the start of each region it
is found out which nodes keep which keys of it; each node's turn comes when the position reaches its id, so it is told
once a period. Where others left, a node that keeps more since is told within two. Says whose turn it is; what is sent,
and how fast, is not decided here.
"""

from __future__ import annotations

from math import floor
from typing import Final, NamedTuple

from dht.announce.own_keys import OwnKeys
from dht.announce.placement import LAST_KEY, Gathering, Placement, Range
from dht.ids import ID_BYTES

# The leading bytes of an id say where it stands; so many are exact as a float below one.
_HEAD_BYTES: Final = 6
_RING: Final = 1 << 8 * _HEAD_BYTES


class Turn(NamedTuple):
    """Due at `due_s`: `node` is told our keys in `ranges`."""

    due_s: float
    node: bytes
    ranges: list[Range]


class Sweep:
    """`phase`: where the position stands at time zero, from 0 to 1."""

    __slots__ = (
        "_ends",
        "_gathering",
        "_keys",
        "_period_s",
        "_phase",
        "_placement",
        "_region",
        "_revision",
        "_since_s",
        "_starts",
        "_starts_s",
        "_turns",
        "number",
    )

    def __init__(self, keys: OwnKeys, placement: Placement, period_s: float, phase: float) -> None:
        self._keys = keys
        self._placement = placement
        self._period_s = period_s
        self._phase = phase
        # Rounds of the ring so far.
        self.number = 0
        # The region at hand: which part of the ring it is, and when the position enters it; None: no keys, at rest.
        self._starts = 0.0
        self._ends = 0.0
        self._starts_s: float | None = None
        # Turns before are left out: those who had theirs in this region.
        self._since_s = float("-inf")
        self._region: Range = (b"", b"")
        self._gathering: Gathering | None = None
        # Last first.
        self._turns: list[Turn] = []
        self._revision = -1

    def next_due(self) -> float | None:
        if self._turns and self._gathering is None:
            return self._turns[-1].due_s
        return self._starts_s

    def woken(self, now: float) -> None:
        """There may be keys where there were none: the sweep starts where the position is now."""
        if self._starts_s is None and len(self._keys):
            position = self._phase + now / self._period_s
            self.number = floor(position)
            self._find_region(self._aligned(position - self.number))
            self._since_s = now

    def take(self, now: float, cells_count: int) -> tuple[Turn | None, int]:
        """The next turn, if one is due, and the cells looked at for it. None before `cells_count` is used up: nothing
        is due."""
        looked = 0
        while looked < cells_count and self._starts_s is not None:
            if self._gathering is not None:
                looked += self._gathering.advance(cells_count - looked)
                if self._gathering.is_done:
                    self._plan(self._gathering)
            elif self._turns:
                if self._turns[-1].due_s > now:
                    break
                if self._revision == self._placement.members.revision:
                    return self._turns.pop(), looked
                self._since_s = self._turns[-1].due_s
                self._gather()
            elif self._ends == self._starts:
                if self._starts_s > now:
                    break
                self._enter(now)
                looked += 1
            else:
                self._find_region(self._ends)
        return None, looked

    # -- regions ---------------------------------------------------------------------------------------------------

    def _enter(self, now: float) -> None:
        """A host that slept for long does one round, not all that it missed."""
        assert self._starts_s is not None
        late = floor((now - self._starts_s) / self._period_s)
        if late > 0:
            self.number += late
            self._starts_s = self._time(self._starts)
        first = _key(self._starts)
        _, last = self._placement.region(first)
        self._region = (first, last)
        self._ends = 1.0 if last == LAST_KEY else _fraction(last, 1)
        self._gather()

    def _gather(self) -> None:
        keys = self._keys.between(*self._region)
        self._revision = self._placement.members.revision
        self._gathering = Gathering(self._placement, keys, 0, len(keys), self._region[1])

    def _plan(self, gathering: Gathering) -> None:
        """Where members changed in the middle of a region, those whose turn it was already are left out."""
        assert self._starts_s is not None
        turns = []
        for node, ranges in gathering.ranges.items():
            where = _fraction(node)
            due_s = self._time(where) if self._starts <= where <= self._ends else self._starts_s
            if due_s >= self._since_s:
                turns.append(Turn(due_s, node, ranges))
        turns.sort(reverse=True)
        self._turns = turns
        self._gathering = None

    def _find_region(self, starts: float) -> None:
        """The next one that holds keys, from `starts` on."""
        self._starts_s = None
        for _ in range(2):
            if starts < 1.0:
                key = self._keys.first_from(_key(starts))
                if key is not None:
                    self._starts = self._ends = max(starts, self._aligned(_fraction(key)))
                    self._starts_s = self._time(self._starts)
                    return
            self.number += 1
            starts = 0.0

    def _aligned(self, fraction: float) -> float:
        """Where the region starts that holds this place."""
        regions_count = 1 << self._placement.region_bits
        return floor(fraction * regions_count) / regions_count

    def _time(self, fraction: float) -> float:
        return (self.number + fraction - self._phase) * self._period_s


def _key(fraction: float) -> bytes:
    return int(fraction * _RING).to_bytes(_HEAD_BYTES, "big") + bytes(ID_BYTES - _HEAD_BYTES)


def _fraction(key: bytes, more: int = 0) -> float:
    return (int.from_bytes(key[:_HEAD_BYTES], "big") + more) / _RING
