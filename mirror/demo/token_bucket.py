"""When the next bytes may pass a link of a given rate. Pure: sleeping is the caller's part.

Kept as one moment, the time at which all that was let in so far has passed (the virtual scheduling form of a
token bucket). However many streams ask, their sum keeps the rate, and they pass in the order in which they ask.
"""

from __future__ import annotations


class TokenBucket:
    """`burst_s`: how much of an idle or overslept time may be caught up on. In any time t it lets at most
    rate x (t + burst_s) bytes begin to pass."""

    def __init__(self, rate_bytes_per_s: float, burst_s: float) -> None:
        assert rate_bytes_per_s > 0 and burst_s >= 0, (rate_bytes_per_s, burst_s)
        self._rate_bytes_per_s = rate_bytes_per_s
        self._burst_s = burst_s
        self._free_at: float | None = None

    def take(self, count_bytes: int, now: float) -> float:
        """Seconds to wait before these bytes may be sent. What is taken counts, sent or not."""
        earliest = now - self._burst_s
        starts_at = earliest if self._free_at is None else max(self._free_at, earliest)
        self._free_at = starts_at + count_bytes / self._rate_bytes_per_s
        return max(0.0, starts_at - now)
