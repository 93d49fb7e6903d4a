"""How fast one peer may speak: a bucket that may go below zero, and how long to wait then. Pure."""

from __future__ import annotations


class Allowance:
    """`take` what was done already; the bucket refills at `rate_per_s` up to `burst`."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._left = burst
        self._at = now
        self._short_since: float | None = None

    def take(self, units: float, now: float) -> float:
        """Seconds to wait before more is taken; 0: none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate_per_s) - units
        self._at = now
        if self._left >= 0:
            # One who is slowed down lands at zero each time: only a store of half the burst shows that he stopped.
            if self._left > self._burst / 2:
                self._short_since = None
            return 0.0
        if self._short_since is None:
            self._short_since = now
        return -self._left / self._rate_per_s

    def short_s(self, now: float) -> float:
        """For how long he has spoken as fast as he may, or faster."""
        return 0.0 if self._short_since is None else now - self._short_since
