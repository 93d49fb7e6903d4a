"""One time at which something is due, on the loop's clock. Set anew, it forgets the former one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    def __init__(self, clock: Callable[[], float], due: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._at: float | None = None
        # What the timer was begun for: `_at`, or earlier. Most times are put off again and again, and few come.
        self._begun_for = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """None: nothing is due. The same time again, or a later one, costs nothing."""
        if at == self._at:
            return
        self._at = at
        if self._timer is not None:
            if at is not None and at >= self._begun_for:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._begin(at)

    def _begin(self, at: float) -> None:
        self._begun_for = at
        delay_s = max(0.0, at - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._rings)

    def _rings(self) -> None:
        self._timer = None
        if self._at is not None and self._at > self._begun_for:
            self._begin(self._at)
            return
        self._at = None
        self._due()
