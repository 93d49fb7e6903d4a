"""Which digests were asked for and not found a moment ago. Bounded; pure."""

from __future__ import annotations

from mirror.oci.digest import Digest

# A herd asks for one digest many times a second; a blob that is committed meanwhile is found by the next
# walk.
REMEMBER_S = 1.0

# Some megabytes at most, however many digests a stranger invents.
MAX_COUNT = 4096


class MissMemory:
    def __init__(self) -> None:
        # In order of their time, the oldest first.
        self._missed_at: dict[Digest, float] = {}

    def note(self, digest: Digest, now: float) -> None:
        self._missed_at.pop(digest, None)
        self._missed_at[digest] = now
        if len(self._missed_at) > MAX_COUNT:
            del self._missed_at[next(iter(self._missed_at))]

    def holds(self, digest: Digest, now: float) -> bool:
        missed_at = self._missed_at.get(digest)
        if missed_at is None:
            return False
        if now - missed_at < REMEMBER_S:
            return True
        del self._missed_at[digest]
        return False

    def forget_all(self) -> None:
        """Something has changed."""
        self._missed_at.clear()
