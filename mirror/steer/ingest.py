"""How far the own containerd's ingest is, and whether it goes on. Only growth is progress: an ingest of no bytes stands
on every host that waits. Pure."""

from __future__ import annotations

from mirror.steer.timers import (
    CLAIM_FIRST_BYTE_S,
    CLAIM_SILENT_MIN_S,
    CLAIM_STEP_FACTOR,
    STEERED_FRESH_S,
    UNCOMMITTED_MAX_S,
)

# An ingest that grew so lately grows; one and a half of its steps, if those are longer.
GROWING_S = 2.0
GROWING_STEP_FACTOR = 1.5


class Ingest:
    """As the origin feeds it: what this host itself feeds to its containerd is not to be noted here."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.total_bytes: int | None = None
        # When this host sent its containerd to the origin. None: it does not read from there.
        self.steered_at: float | None = None
        # No claim is wanted for it: another host has it, or it was given back.
        self.is_claimless = False
        # Its connection to the origin was lost, and the arbiter was told.
        self.has_reconnected = False
        self._grown_at: float | None = None
        self._step_s = 0.0
        # Where the wait for the first byte counts from.
        self._queued_at: float | None = None

    @property
    def has_grown(self) -> bool:
        """Since this host sent its containerd to the origin."""
        return self._grown_at is not None

    def steer(self, now: float) -> None:
        self.steered_at = self._queued_at = now
        self.is_claimless = self.has_reconnected = False
        self._grown_at = None
        self._step_s = 0.0

    @property
    def is_queued(self) -> bool:
        """It is to be read from the origin, and was not begun."""
        return self.steered_at is not None and not self.has_grown

    def is_standing(self, now: float) -> bool:
        """It is to be read from the origin, and nothing comes: not yet, or not just now. The time of its last step does
        not count: the first one was waited for in a queue, and the arbiter, who was told so, gives it no longer."""
        if self.steered_at is None:
            return False
        return self._grown_at is None or now - self._grown_at >= GROWING_S

    def queue(self, now: float) -> None:
        """The own containerd is busy with others until now."""
        if self._queued_at is not None:
            self._queued_at = max(self._queued_at, now)

    def untold_at(self, first_byte_s: float) -> float | None:
        """When the first byte is late. None: there was one, or none is to come."""
        if self._queued_at is None or not self.is_queued:
            return None
        return self._queued_at + first_byte_s

    def end(self) -> None:
        """The own containerd does not read from the origin any more."""
        self.steered_at = None
        self._grown_at = None

    def born(self, total_bytes: int | None) -> None:
        self.size_bytes = 0
        self.total_bytes = total_bytes

    def grew(self, size_bytes: int, now: float) -> bool:
        """Whether it is farther than before. A shrink is a new beginning."""
        is_more = size_bytes > self.size_bytes
        self.size_bytes = size_bytes
        if is_more and self.steered_at is not None:
            self._step_s = now - (self.steered_at if self._grown_at is None else self._grown_at)
            self._grown_at = now
        return is_more

    def note_growth(self, now: float) -> None:
        """A growth that was seen before this host knew of its origin."""
        self._grown_at = now

    def is_growing(self, now: float) -> bool:
        until = self.growing_until()
        return until is not None and now < until

    def growing_until(self) -> float | None:
        """None: it has not grown."""
        if self._grown_at is None:
            return None
        return self._grown_at + max(GROWING_S, GROWING_STEP_FACTOR * self._step_s)

    def alive_until(self) -> float | None:
        """Until then a GET of the own containerd is a part of the same download. None: it does not read from the
        origin."""
        if self.steered_at is None:
            return None
        if self._grown_at is None:
            return self.untold_at(CLAIM_FIRST_BYTE_S)
        step_s = min(self._step_s, CLAIM_FIRST_BYTE_S)
        return self._grown_at + max(CLAIM_SILENT_MIN_S, CLAIM_STEP_FACTOR * step_s)

    def forgotten_at(self) -> float | None:
        """From then on a request at the fallback host speaks of something else."""
        if self.steered_at is None:
            return None
        return self.untold_at(STEERED_FRESH_S) if self._grown_at is None else self._grown_at + STEERED_FRESH_S

    def stuck_at(self) -> float | None:
        """Full-sized for long and still not committed. None: not full-sized."""
        if self._grown_at is None or not self.total_bytes or self.size_bytes < self.total_bytes:
            return None
        return self._grown_at + UNCOMMITTED_MAX_S
