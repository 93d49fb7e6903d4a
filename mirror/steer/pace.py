"""How fast something grows, and whether one claim more would pay. Pure."""

from __future__ import annotations

from collections import deque

from mirror.steer.timers import (
    CLAIM_STEP_FACTOR,
    EARLY_MIN_S,
    EARLY_SHARE,
    FRONTIER_STARVED_S,
    PACE_MIN_S,
    PACE_WINDOW_S,
    SECOND_CLAIM_GAIN,
    SECOND_CLAIM_SETUP_S,
    SLOW_SHARE,
    STEP_BYTES,
)

# More often a sample tells nothing.
SAMPLE_EVERY_S = 0.25


class Pace:
    """Of something that only grows, in steps."""

    def __init__(self) -> None:
        # When it grew, and to how much; the first of them is where the rate is counted from.
        self._samples: deque[tuple[float, int]] = deque()
        self._restart()

    def _restart(self) -> None:
        self._samples.clear()
        self._bytes = 0
        self._grown_at: float | None = None
        self._step_s = 0.0

    @property
    def bytes(self) -> int:
        return self._bytes

    def seen(self, bytes_: int, now: float) -> None:
        """What is less than before is a new beginning."""
        if bytes_ < self._bytes:
            self._restart()
        if bytes_ == self._bytes and self._samples:
            return
        if self._grown_at is not None:
            self._step_s = now - self._grown_at
        self._bytes = bytes_
        self._grown_at = now
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append((now, bytes_))
        while len(self._samples) > 2 and self._samples[1][0] <= now - PACE_WINDOW_S:
            self._samples.popleft()

    def rate_bytes_s(self, now: float) -> float | None:
        """None: seen for too short a time, by its steps."""
        if not self._samples:
            return None
        since, first_bytes = self._samples[0]
        if self._grown_at is None or now - since < max(PACE_MIN_S, CLAIM_STEP_FACTOR * self._step_s):
            return None
        # The step that goes on counts once it is late.
        until = self._grown_at if now - self._grown_at <= 2 * self._step_s else now
        return (self._bytes - first_bytes) / (until - since)

    def rate_bound_bytes_s(self, now: float) -> float | None:
        """It is surely no faster: as if its next step came now. None: seen for too short a time even for that."""
        if not self._samples or self._bytes == 0:
            return None
        since, first_bytes = self._samples[0]
        if now - since < EARLY_MIN_S:
            return None
        return (self._bytes + STEP_BYTES - first_bytes) / (now - since)

    def known_bytes_s(self, now: float) -> float | None:
        """Its rate, or as much as is known of it."""
        return self.rate_bytes_s(now) or self.rate_bound_bytes_s(now)

    def starved_at(self) -> float | None:
        """When it counts as standing still. None: it has not begun: that is the arbiter's to judge."""
        if self._grown_at is None or self._bytes == 0:
            return None
        return self._grown_at + FRONTIER_STARVED_S


def is_claim_worth(pace: Pace, expected_bytes_s: float | None, left_bytes: int | None, now: float) -> bool:
    """Whether this host should offer to fetch from the frontier on, beside the claimant. `pace`: of all that this
    registry gives to those who share. `expected_bytes_s`: what it lately gave of one blob; None: not known.
    `left_bytes`: behind the frontier."""
    starved_at = pace.starved_at()
    if starved_at is not None and now >= starved_at:
        return True
    if expected_bytes_s is None:
        return False
    rate = pace.rate_bytes_s(now)
    if rate is None:
        rate = pace.rate_bound_bytes_s(now)
        if rate is None or rate >= EARLY_SHARE * expected_bytes_s:
            return False
    elif rate >= SLOW_SHARE * expected_bytes_s:
        return False
    return is_time_won(rate, expected_bytes_s, left_bytes)


def is_time_won(slow_bytes_s: float, expected_bytes_s: float | None, left_bytes: int | None) -> bool:
    """By whoever fetches at the expected rate what somebody fetches at the slow one. What is unknown counts for it."""
    if left_bytes is None or expected_bytes_s is None:
        return True
    return left_bytes >= SECOND_CLAIM_GAIN * slow_bytes_s * (
        left_bytes / expected_bytes_s + SECOND_CLAIM_SETUP_S
    )


def is_gain(own_bytes_s: float, others_bytes_s: float) -> bool:
    return own_bytes_s >= SECOND_CLAIM_GAIN * others_bytes_s
