"""One time at which something is due, on the loop's clock. Set anew, it forgets the former one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Alarm:
    def __init__(self, clock: Callable[[], float], due: Callable[[], None]) -> None:
        self._clock = clock
        self._due = due
        self._at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at: float | None) -> None:
        """None: nothing is due. The same time again costs nothing."""
        if at == self._at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._at = at
        if at is not None:
            delay_s = max(0.0, at - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._rings)

    def _rings(self) -> None:
        self._at = self._timer = None
        self._due()
