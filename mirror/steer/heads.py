"""HEAD requests: answered from what is known, and never a reason for a claim. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.steer.commands import Command, FindProviders
from mirror.steer.readers import Phase, Reader
from mirror.steer.serving import Serving
from mirror.steer.timers import ASK_AGAIN_S

# At the fallback host a 404 ends the pull, and a manifest is on its way between hosts for some milliseconds only.
LOOKS_AT_FALLBACK_COUNT = 2


class Heads:
    def __init__(self, serving: Serving, out: list[Command]) -> None:
        self._serving = serving
        self._out = out
        self._is_finding = False
        self.look_at: float | None = None

    def look(self) -> None:
        self.look_at = None
        if not self._is_finding:
            self._is_finding = True
            self._out.append(FindProviders())

    def answered(self, *, is_any: bool, is_alone: bool, now: float) -> None:
        self._is_finding = False
        if not is_any:
            held = (one for one in self._serving.readers.heads() if one.phase is Phase.HELD)
            self._missed(held, now, is_alone=is_alone)

    def sources_gone(self, now: float) -> None:
        """Those who were named have it no more."""
        untold = (one for one in self._serving.readers.heads() if one.phase is not Phase.BODY)
        self._missed(untold, now, is_alone=False)

    def _missed(self, heads: Iterable[Reader], now: float, *, is_alone: bool) -> None:
        for head in heads:
            head.looks_count += 1
            is_last = head.asked.at_fallback and not is_alone
            if is_last and head.looks_count < LOOKS_AT_FALLBACK_COUNT:
                self.look_at = now + ASK_AGAIN_S
            else:
                self._serving.miss(head, now)

    def advance(self, now: float) -> None:
        if self.look_at is not None and now >= self.look_at:
            self.look()
