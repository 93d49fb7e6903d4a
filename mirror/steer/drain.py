"""How long this host, which holds the claim now, still takes what others have before its own containerd goes on. Pure.

Others are paused meanwhile, and containerd reads from where its body ends to the end of the blob: what is left behind
is fetched twice, what is waited for holds up everybody.
"""

from __future__ import annotations

from collections.abc import Iterable

from mirror.steer.readers import Phase, Reader
from mirror.steer.timers import DRAIN_MAX_S, DRAIN_STALL_S


class Drain:
    """`best_bytes`: as far as somebody is said to be, in order."""

    def __init__(self, now: float, best_bytes: int) -> None:
        self._since = now
        self._moved_at = now
        self._best_bytes = best_bytes

    def only(self, best_bytes: int) -> None:
        """Nobody else is left: no more than what stands here is to be had."""
        self._best_bytes = best_bytes

    def moved(self, now: float) -> None:
        """Bytes came in order."""
        self._moved_at = now

    def is_over(self, readers: Iterable[Reader], frontier_bytes: int, now: float) -> bool:
        if now >= self.due_at():
            return True
        best_bytes = max(self._best_bytes, frontier_bytes)
        return all(
            one.offset >= best_bytes and (one.is_starved or one.phase is not Phase.BODY) for one in readers
        )

    def due_at(self) -> float:
        return min(self._since + DRAIN_MAX_S, self._moved_at + DRAIN_STALL_S)
