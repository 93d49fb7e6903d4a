"""What comes from one registry just now, to this host's containerd and to those it shares with. Pure; shared by the
ladders of all digests of that registry.

One blob says little: a containerd takes up all layers of an image at once and reads three at a time, and those share
one link. So a claimant is slow where all that is shared comes slowly, and he who has still to begin one blob is alive
while he reads others.
"""

from __future__ import annotations

from collections import OrderedDict

from mirror.steer.rates import REGISTRIES_MAX_COUNT
from mirror.steer.timers import CLAIM_SILENT_MIN_S


class Flow:
    def __init__(self) -> None:
        # Of all blobs that this host waits for: how much of them came into reach.
        self.reached_bytes = 0
        self._own_grown_at: float | None = None

    def own_grew(self, now: float) -> None:
        """The own containerd got bytes of any blob, from wherever."""
        self._own_grown_at = now

    def busy_until(self) -> float | None:
        """Until then the own containerd counts as busy. None: it got nothing."""
        return None if self._own_grown_at is None else self._own_grown_at + CLAIM_SILENT_MIN_S

    def is_busy(self, now: float) -> bool:
        until = self.busy_until()
        return until is not None and now < until

    def reached(self, more_bytes: int) -> None:
        self.reached_bytes += more_bytes


class Flows:
    """One for each registry; empty: not known."""

    def __init__(self) -> None:
        self._by_registry: OrderedDict[str, Flow] = OrderedDict()

    def of(self, registry: str) -> Flow:
        """Who keeps it shares it while it is not forgotten: the one that was asked for least lately goes."""
        flow = self._by_registry.setdefault(registry, Flow())
        self._by_registry.move_to_end(registry)
        if len(self._by_registry) > REGISTRIES_MAX_COUNT:
            self._by_registry.popitem(last=False)
        return flow
