"""What this node provides: its keys by state, in order. 8 bytes a key beside the key itself."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from typing import Final

from dht.announce.placement import Range, within
from dht.ids import ID_BYTES

# One byte in a record.
_STATE_MAX: Final = 255
# So many are put in one by one; more are sorted in.
_FEW_COUNT: Final = 32


class OwnKeys:
    __slots__ = ("_by_state", "revision")

    def __init__(self) -> None:
        # Sorted; no list is empty.
        self._by_state: dict[int, list[bytes]] = {}
        self.revision = 0

    def put(self, keys: Iterable[bytes], state: int) -> list[bytes]:
        """Sorted: those that are new or had another state. Raises: ValueError when a key has not 20 bytes, or the
        state is not within one; then none was put."""
        if not 0 <= state <= _STATE_MAX:
            raise ValueError(f"{state} is no state: expected 0 to {_STATE_MAX}")
        wanted = sorted(set(keys))
        for key in wanted:
            if len(key) != ID_BYTES:
                raise ValueError(f"a key has {ID_BYTES} bytes, not {len(key)}")
        fresh = [key for key in wanted if not self.has(key, state)] if state in self._by_state else wanted
        if not fresh:
            return fresh
        if len(self._by_state) > (state in self._by_state):
            self.take(fresh)
        listed = self._by_state.setdefault(state, [])
        if len(fresh) <= _FEW_COUNT:
            for key in fresh:
                insort(listed, key)
        else:
            listed += fresh
            listed.sort()
        self.revision += 1
        return fresh

    def take(self, keys: Iterable[bytes]) -> list[bytes]:
        """Sorted: those that were there. They are gone now."""
        wanted = set(keys)
        taken: list[bytes] = []
        for state, listed in list(self._by_state.items()):
            found = [key for key in wanted if self.has(key, state)]
            if len(found) <= _FEW_COUNT:
                for key in found:
                    listed.pop(bisect_left(listed, key))
            else:
                dropped = set(found)
                listed[:] = [key for key in listed if key not in dropped]
            if not listed:
                del self._by_state[state]
            taken += found
        if taken:
            self.revision += 1
        return sorted(taken)

    def has(self, key: bytes, state: int | None = None) -> bool:
        """In that state; None: in any."""
        lists = self._by_state.values() if state is None else [self._by_state.get(state, [])]
        for listed in lists:
            at = bisect_left(listed, key)
            if at < len(listed) and listed[at] == key:
                return True
        return False

    def within(self, ranges: list[Range]) -> Iterator[tuple[int, list[bytes]]]:
        """By state, sorted; states without any are left out."""
        for state, listed in self._by_state.items():
            found = within(listed, ranges)
            if found:
                yield state, found

    def between(self, first: bytes, last: bytes) -> list[bytes]:
        """Sorted, whatever their state."""
        found: list[bytes] = []
        for listed in self._by_state.values():
            low = bisect_left(listed, first)
            found += listed[low : bisect_right(listed, last, low)]
        if len(self._by_state) > 1:
            found.sort()
        return found

    def first_from(self, key: bytes) -> bytes | None:
        """The lowest that is not below `key`."""
        found = [
            listed[at] for listed in self._by_state.values() if (at := bisect_left(listed, key)) < len(listed)
        ]
        return min(found, default=None)

    def __len__(self) -> int:
        return sum(map(len, self._by_state.values()))

    def __iter__(self) -> Iterator[tuple[int, list[bytes]]]:
        """State and its keys, sorted. Not while keys change."""
        return iter(self._by_state.items())
