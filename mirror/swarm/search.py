"""When to look for more sources of one blob: at once and often without any, seldom with some. Pure."""

from __future__ import annotations

import math

from mirror.swarm.params import SwarmParams


class Search:
    def __init__(self, params: SwarmParams) -> None:
        self._params = params
        self._is_running = False
        self._began_at = -math.inf

    def ended(self) -> None:
        self._is_running = False

    def is_due(self, source_count: int, heard_at: float, now: float, *, is_idle: bool) -> bool:
        """One at a time; true begins it. `heard_at`: when bytes came last. `is_idle`: nothing is under way, which is no
        hunger where pieces come as a claimant gets them."""
        params = self._params
        is_hungry = is_idle and (not source_count or now - heard_at >= params.find_hungry_s)
        has_enough = source_count >= params.sources_wanted_count
        if self._is_running or (has_enough and not is_hungry):
            return False
        interval_s = params.find_hungry_s if is_hungry and not has_enough else params.find_interval_s
        if now - self._began_at < interval_s:
            return False
        self._is_running = True
        self._began_at = now
        return True
