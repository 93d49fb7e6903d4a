"""When to ask containerd again what it holds. Pure: the caller passes `now` (monotonic seconds) and walks.

Rules
1. A sign of change is answered by a walk within `DEBOUNCE_S`; signs until then are one. Rule 4 may delay it.
2. `SETTLE_S` after the last sign there is one more walk, for what no sign announces: the namespace's record
   of a blob comes after its file (on a slow disk, well after), and garbage collection comes about a second
   after the image was deleted and emits no event.
3. Without any sign there is a walk every `INTERVAL_S`.
4. After a walk there is a rest of `REST_RATIO` times its length, so that a host with very many blobs walks
   less often and not all the time.

Source: measured on containerd 1.6, 1.7 and 2.1.
"""

from __future__ import annotations

# A pull makes several signs for each blob; hosts that wait for a blob feel this delay.
DEBOUNCE_S = 0.2

# Twice the time after which garbage collection was seen to follow the deletion of an image.
SETTLE_S = 2.0

# A walk over a thousand blobs takes tens of milliseconds. It finds what every sign has missed.
INTERVAL_S = 60.0

# A fifth of the time at most goes into walks. With a thousand blobs the rest is shorter than the debounce.
REST_RATIO = 4.0


class WalkTimer:
    """The first walk is due at once."""

    def __init__(self) -> None:
        self._soon_at: float | None = None
        self._settled_at: float | None = None
        self._walked_at: float | None = None
        self._rested_at = 0.0

    def sign(self, now: float) -> None:
        if self._soon_at is None:
            self._soon_at = now + DEBOUNCE_S
        self._settled_at = now + SETTLE_S

    def walk_begins(self, now: float) -> None:
        """Signs from now on ask for another walk: this one may have passed what they are about."""
        self._soon_at = None
        self._walked_at = now
        if self._settled_at is not None and self._settled_at <= now:
            self._settled_at = None

    def walk_ends(self, now: float) -> None:
        assert self._walked_at is not None, "ended without a beginning"
        self._rested_at = now + REST_RATIO * (now - self._walked_at)

    def wait_s(self, now: float) -> float:
        """How long until a walk is due; 0 when it is."""
        if self._walked_at is None:
            return 0.0
        due_at = self._walked_at + INTERVAL_S
        for at in (self._soon_at, self._settled_at):
            if at is not None:
                due_at = min(due_at, at)
        return max(0.0, max(due_at, self._rested_at) - now)
