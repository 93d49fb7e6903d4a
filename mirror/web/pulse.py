"""When something that should beat is late. Decides nothing about what is done then."""

from __future__ import annotations


class Pulse:
    """Times are monotonic seconds. `late_s`: the longest time between two beats."""

    def __init__(self, late_s: float, now: float) -> None:
        self._late_s = late_s
        self._beat_at = now

    def beat(self, now: float) -> float | None:
        """For how long there was none, where that was too long; else None."""
        silent_s = now - self._beat_at
        self._beat_at = now
        return silent_s if silent_s > self._late_s else None

    def is_late(self, now: float) -> bool:
        return now - self._beat_at > self._late_s
