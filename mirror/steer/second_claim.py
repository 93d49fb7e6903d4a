"""When this host offers to fetch beside a slow claimant, and whether that was worth it. Pure.

A steered containerd reads to the end and cannot be stopped: so the gain is estimated first, and where it was too small
the claim is given back, so that nobody makes a third copy for nothing.
"""

from __future__ import annotations

from mirror.steer.ingest import Ingest
from mirror.steer.pace import is_claim_worth, is_gain, is_time_won
from mirror.steer.readers import Phase, Reader
from mirror.steer.sources import Sources
from mirror.steer.timers import PACE_MIN_S, SLOW_AGAIN_S


class SecondClaim:
    def __init__(self, expected_bytes_s: float | None) -> None:
        self._expected_bytes_s = expected_bytes_s
        self._again_at: float | None = None
        # The slow claimant's, while it is not known whether this host is faster.
        self._slow_bytes_s: float | None = None
        self._began: tuple[float, int] | None = None

    def is_due(
        self,
        sources: Sources,
        readers: list[Reader],
        now: float,
        *,
        is_queued: bool,
        slow_bytes_s: float | None,
    ) -> bool:
        """`readers`: GETs at the first host. Only who has sent all that there is can tell that there should be more.
        `is_queued`: the claimant has still to begin, and what there is of it is nothing. `slow_bytes_s`: what the
        claimant brought when he was found slow for another blob."""
        if not self.may_ask(now):
            return False
        at_frontier = is_queued or any(
            one.phase is Phase.BODY and one.is_starved and one.offset >= sources.frontier_bytes
            for one in readers
        )
        if not at_frontier:
            return False
        if slow_bytes_s is not None:
            return is_time_won(slow_bytes_s, self._expected_bytes_s, sources.left_bytes)
        return is_claim_worth(sources.pace, self._expected_bytes_s, sources.left_bytes, now)

    def may_ask(self, now: float) -> bool:
        """Not again and again."""
        return self._again_at is None or now >= self._again_at

    def asked(self, now: float) -> None:
        self._again_at = now + SLOW_AGAIN_S

    def granted(self, slow_bytes_s: float | None) -> None:
        self._slow_bytes_s = slow_bytes_s
        self._began = None

    def is_in_vain(self, ingest: Ingest, now: float) -> bool:
        """Once, when it can be known."""
        if self._slow_bytes_s is None or not ingest.has_grown:
            return False
        if self._began is None:
            self._began = (now, ingest.size_bytes)
        since, first_bytes = self._began
        if now - since < PACE_MIN_S:
            return False
        own_bytes_s = (ingest.size_bytes - first_bytes) / (now - since)
        slow_bytes_s, self._slow_bytes_s = self._slow_bytes_s, None
        return not is_gain(own_bytes_s, slow_bytes_s)

    def forget(self) -> None:
        self._slow_bytes_s = None
        self._began = None

    def due_at(self, sources: Sources) -> float | None:
        starved_at = sources.pace.starved_at()
        if starved_at is None or self._again_at is None:
            return starved_at
        return max(starved_at, self._again_at)
