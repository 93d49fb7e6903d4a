"""At the cap of members: whose place a newcomer takes, if any.

A bucket holds the members that share a prefix of one length with our own id. The fattest one loses a member, so the
near nodes, whose buckets are thin, all stay known, and the far ones thin out evenly. Nobody that was heard gives way
to somebody only told of.
"""

from __future__ import annotations

from collections.abc import Mapping

from dht.members.nearest import ID_BITS, subtree

# So many members of the fattest bucket are looked at for one that was never heard. Bounds the work that a datagram of
# a node without a place can cause.
LOOK_COUNT = 32


class Eviction:
    __slots__ = ("_high", "_low", "_own_number", "_revision", "_sizes")

    def __init__(self, own: bytes) -> None:
        self._own_number = int.from_bytes(own, "big")
        self._revision = -1
        # The slice of the fattest bucket, and the sizes of all, by the length of the shared prefix.
        self._low = 0
        self._high = 0
        self._sizes: list[int] = []

    def victim(
        self,
        ids: list[bytes],
        revision: int,
        newcomer: bytes,
        heard_s: Mapping[bytes, float],
        *,
        is_heard: bool,
    ) -> int | None:
        """An index into `ids`, the full table's, which is sorted and changes only with `revision`. `heard_s`: who of
        them was heard, and when. `is_heard`: whether the newcomer was."""
        if revision != self._revision:
            self._measure(ids)
            self._revision = revision
        size_count = self._high - self._low
        shared = ID_BITS - (int.from_bytes(newcomer, "big") ^ self._own_number).bit_length()
        # Buckets whose sizes differ by one would take members from each other for ever.
        is_among = self._sizes[shared] + 1 >= size_count
        if is_among and not is_heard:
            return None
        start = int.from_bytes(newcomer[-4:], "big")
        looked = [self._low + (start + step) % size_count for step in range(min(LOOK_COUNT, size_count))]
        for index in looked:
            if ids[index] not in heard_s:
                return index
        if is_among or not is_heard:
            return None
        return min(looked, key=lambda index: heard_s[ids[index]])

    def _measure(self, ids: list[bytes]) -> None:
        self._low = self._high = 0
        self._sizes = [0] * (ID_BITS + 1)
        seen_count = 0
        for shared in range(ID_BITS):
            free = ID_BITS - 1 - shared
            low, high = subtree(ids, self._own_number ^ (1 << free), free)
            self._sizes[shared] = high - low
            if high - low > self._high - self._low:
                self._low, self._high = low, high
            seen_count += high - low
            if seen_count == len(ids):
                break
