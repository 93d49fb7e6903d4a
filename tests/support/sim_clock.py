"""The clock of a simulated herd: what was scheduled, in the order of its time. Refuses to know what a task is.

`tests.support.virtual_time` runs asyncio code; the herd's modules are pure, and a heap alone is five times as fast.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

What = Callable[..., object]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.events_count = 0
        self._due: list[tuple[float, int, What, tuple[object, ...]]] = []
        self._number = 0

    def at(self, when: float, what: What, *args: object) -> None:
        """Of one instant, in the order of the calls."""
        self._number += 1
        heapq.heappush(self._due, (when, self._number, what, args))

    def after(self, delay_s: float, what: What, *args: object) -> None:
        self._number += 1
        heapq.heappush(self._due, (self.now + delay_s, self._number, what, args))

    def run(self, until: float, is_over: Callable[[], bool]) -> None:
        """Ends when nothing is due before `until`, or soon after it is over."""
        due = self._due
        pop = heapq.heappop
        while due and due[0][0] <= until:
            self.now, _, what, args = pop(due)
            what(*args)
            self.events_count += 1
            if not self.events_count & 0xFF and is_over():
                return
