"""How much one sender may ask of us: a token bucket each, in bounded memory."""

from __future__ import annotations

from collections.abc import Hashable


class RateLimits:
    """Remembers the `max_count` senders that were allowed last; a forgotten one starts with a full burst."""

    def __init__(self, rate_per_s: float, burst_count: int, max_count: int) -> None:
        self._interval_s = 1.0 / rate_per_s
        # Half a step more, so that rounding does not decide over the last of a burst.
        self._slack_s = (burst_count - 0.5) / rate_per_s
        self._max_count = max_count
        # When the bucket is full again (the generic cell rate algorithm, ITU-T I.371: one number a bucket).
        self._full_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def allow(self, sender: Hashable, now: float) -> bool:
        """Takes one from the sender's bucket. A refusal costs the sender nothing more."""
        full_at = self._full_at.get(sender, now)
        if full_at - now > self._slack_s:
            return False
        buckets = self._full_at
        buckets.pop(sender, None)
        buckets[sender] = (full_at if full_at > now else now) + self._interval_s
        if len(buckets) > self._max_count:
            del buckets[next(iter(buckets))]
        return True
