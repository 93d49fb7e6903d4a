"""What comes from one registry just now, to this host's containerd and to those it shares with. Pure; shared by the
ladders of all digests of that registry.

One blob says little: a containerd takes up all layers of an image at once and reads three at a time, and those share
one link. So a claimant is slow where all that is shared comes slowly, and he who has still to begin one blob is alive
while he reads others. Who was found slow for one blob is slow for all that he holds: once others help, what is shared
comes fast again and says nothing of him.
"""

from __future__ import annotations

from collections import OrderedDict

from mirror.steer.rates import REGISTRIES_MAX_COUNT
from mirror.steer.timers import CLAIM_SILENT_MIN_S, SLOW_KNOWN_S

# Claimants of one registry at one time; who is forgotten is found slow again, a little later.
SLOW_MAX_COUNT = 16


class Flow:
    def __init__(self) -> None:
        # Of all blobs that this host waits for: how much of them came into reach.
        self.reached_bytes = 0
        self._own_grown_at: float | None = None
        # By holder: what he brought, and until when that is believed.
        self._slow: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

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

    def found_slow(self, holder: bytes, bytes_s: float, now: float) -> None:
        """A claimant of one of these blobs, and what came while all waited for him."""
        self._slow[holder] = (bytes_s, now + SLOW_KNOWN_S)
        self._slow.move_to_end(holder)
        if len(self._slow) > SLOW_MAX_COUNT:
            self._slow.popitem(last=False)

    def slow_bytes_s(self, holder: bytes, now: float) -> float | None:
        """None: he was not found slow lately."""
        bytes_s, until = self._slow.get(holder, (None, 0.0))
        return bytes_s if now < until else None


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
