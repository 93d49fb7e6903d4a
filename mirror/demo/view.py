"""The port to whoever watches the demo. Refuses to change what it is shown."""

from __future__ import annotations

import asyncio
from typing import Protocol

from mirror.demo.progress import PhaseProgress
from mirror.demo.report import Report


class View(Protocol):
    def say(self, text: str) -> None:
        """One line."""
        ...

    async def draw(self, phase: PhaseProgress, ended: asyncio.Event) -> None:
        """Shows the phase as it goes on, and its end when `ended` is set."""
        ...

    def conclude(self, report: Report) -> None: ...


async def pause(ended: asyncio.Event, seconds_s: float) -> None:
    """Until the phase has ended, or for this time."""
    try:
        async with asyncio.timeout(seconds_s):
            await ended.wait()
    except TimeoutError:
        return
