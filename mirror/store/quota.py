"""Which blobs must go so that a new one fits. Bookkeeping only: deletes nothing, reads no clock.

Rules
1. Blobs plus reservations never exceed the quota: a reservation is granted only after enough has been
   evicted.
2. The least recently used goes first. Pinned blobs and bytes that are being written never go.
3. A reservation that cannot be granted changes nothing.
4. Blobs that others put into the folder (`add`) may break rule 1 until `overrun` has been obeyed; where what
   is pinned or being written alone exceeds the quota, it stays broken and nothing new fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.errors import MirrorError
from mirror.oci.digest import Digest

# Use is written to the disk at most this often for a blob: the order after a restart is this exact.
TOUCH_INTERVAL_S = 60.0


class StoreFull(MirrorError):
    """Nothing more may be evicted. Raise the quota, unpin something, or wait until what is being written is
    done."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room for one blob. `evict`: delete these before the first byte is written; the book no longer has
    them."""

    number: int
    size_bytes: int
    evict: tuple[Digest, ...]


class QuotaBook:
    """`quota_bytes` None: no limit."""

    def __init__(self, quota_bytes: int | None) -> None:
        assert quota_bytes is None or quota_bytes >= 0, quota_bytes
        self._quota_bytes = quota_bytes
        # In order of use, the least recent first: a dict keeps the order of insertion.
        self._sizes_bytes: dict[Digest, int] = {}
        self._touched_at: dict[Digest, float] = {}
        self._pinned: set[Digest] = set()
        self._reserved_bytes: dict[int, int] = {}
        self._used_bytes = 0
        self._next_number = 0

    @property
    def sizes_bytes(self) -> Mapping[Digest, int]:
        """A live view, the least recently used first."""
        return self._sizes_bytes

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    @property
    def reserved_bytes(self) -> int:
        return sum(self._reserved_bytes.values())

    @property
    def excess_bytes(self) -> int:
        """How far the quota is overrun."""
        if self._quota_bytes is None:
            return 0
        return max(0, self._used_bytes + self.reserved_bytes - self._quota_bytes)

    def add(self, digest: Digest, size_bytes: int) -> None:
        """The blob is here, and most recently used."""
        self.remove(digest)
        self._sizes_bytes[digest] = size_bytes
        self._used_bytes += size_bytes

    def remove(self, digest: Digest) -> None:
        """Idempotent. A pin stays."""
        self._used_bytes -= self._sizes_bytes.pop(digest, 0)
        self._touched_at.pop(digest, None)

    def touch(self, digest: Digest, now: float) -> bool:
        """The blob is being used. True: write it to the disk now."""
        size_bytes = self._sizes_bytes.pop(digest, None)
        if size_bytes is None:
            return False
        self._sizes_bytes[digest] = size_bytes
        touched_at = self._touched_at.get(digest)
        if touched_at is not None and now - touched_at < TOUCH_INTERVAL_S:
            return False
        self._touched_at[digest] = now
        return True

    def pin(self, digest: Digest) -> None:
        """Idempotent; before the blob is here, too."""
        self._pinned.add(digest)

    def unpin(self, digest: Digest) -> None:
        self._pinned.discard(digest)

    def is_pinned(self, digest: Digest) -> bool:
        return digest in self._pinned

    def reserve(self, size_bytes: int) -> Reservation:
        """Raises: StoreFull (rule 3)."""
        assert size_bytes >= 0, size_bytes
        evict = self._victims(size_bytes)
        if evict is None:
            raise StoreFull(
                f"no room for {size_bytes} bytes: of the quota of {self._quota_bytes} bytes, "
                f"{self._pinned_bytes()} are pinned and {self.reserved_bytes} are being written"
            )
        self._next_number += 1
        self._reserved_bytes[self._next_number] = size_bytes
        self._forget(evict)
        return Reservation(self._next_number, size_bytes, evict)

    def release(self, reservation: Reservation) -> None:
        """Idempotent."""
        self._reserved_bytes.pop(reservation.number, None)

    def commit(self, reservation: Reservation, digest: Digest) -> None:
        """The reserved bytes have become this blob."""
        self.release(reservation)
        self.add(digest, reservation.size_bytes)

    def overrun(self) -> tuple[Digest, ...]:
        """What to delete now because of blobs that were added without a reservation (rule 4). The book no
        longer has them."""
        evict = self._victims(0)
        if evict is None:
            evict = tuple(digest for digest in self._sizes_bytes if digest not in self._pinned)
        self._forget(evict)
        return evict

    def shed(self, size_bytes: int) -> tuple[Digest, ...]:
        """What to delete now so that the disk has so many bytes more, or as many as may go. The book no longer has
        them."""
        evict = self._oldest(size_bytes)
        self._forget(evict)
        return evict

    def check(self) -> None:
        """Invariants, for tests."""
        assert self._used_bytes == sum(self._sizes_bytes.values())
        assert self._touched_at.keys() <= self._sizes_bytes.keys()
        assert all(size_bytes >= 0 for size_bytes in self._reserved_bytes.values())

    def _victims(self, wanted_bytes: int) -> tuple[Digest, ...] | None:
        """None: cannot be made to fit."""
        if self._quota_bytes is None:
            return ()
        missing_bytes = self._used_bytes + self.reserved_bytes + wanted_bytes - self._quota_bytes
        victims = self._oldest(missing_bytes)
        freed_bytes = sum(self._sizes_bytes[digest] for digest in victims)
        return victims if freed_bytes >= missing_bytes else None

    def _oldest(self, missing_bytes: int) -> tuple[Digest, ...]:
        """Those that go first, until together they have `missing_bytes`; all that may go where they have fewer."""
        found: list[Digest] = []
        for digest, size_bytes in self._sizes_bytes.items():
            if missing_bytes <= 0:
                break
            if digest not in self._pinned:
                found.append(digest)
                missing_bytes -= size_bytes
        return tuple(found)

    def _forget(self, digests: tuple[Digest, ...]) -> None:
        for digest in digests:
            self.remove(digest)

    def _pinned_bytes(self) -> int:
        return sum(self._sizes_bytes.get(digest, 0) for digest in self._pinned)
