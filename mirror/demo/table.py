"""The demo as a live table in a terminal. The only module of the demo that needs rich.

80 columns and 24 lines are enough for both phases of five hosts and the sums.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from mirror.demo.lines import conclusion
from mirror.demo.progress import HostProgress, PhaseProgress
from mirror.demo.report import Report
from mirror.demo.units import bytes_text
from mirror.demo.view import pause

# Smooth enough for the eye; a frame costs about a millisecond.
FRAMES_PER_S = 8

_ORIGIN_STYLE = "yellow"
_PEER_STYLE = "green"
# Told apart without colours, too.
_BLOCKS = ("▒", "█")
_ASCII_BLOCKS = ("=", "#")
_NAME_WIDTH = 8
_BAR_WIDTH = 32
_NUMBER_WIDTH = 12
# A narrower terminal is better served with lines.
MIN_WIDTH = _NAME_WIDTH + _BAR_WIDTH + 3 * _NUMBER_WIDTH


class TableView:
    """Implements `View`. `clock` is monotonic seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False)

    async def draw(self, phase: PhaseProgress, ended: asyncio.Event) -> None:
        with Live(
            self.frame(phase),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        ) as live:
            has_ended = False
            while not has_ended:
                await pause(ended, 1 / FRAMES_PER_S)
                has_ended = ended.is_set()
                live.update(self.frame(phase), refresh=True)

    def conclude(self, report: Report) -> None:
        for line in conclusion(report):
            self.say(line)

    def frame(self, phase: PhaseProgress) -> RenderableType:
        now = self._clock()
        heads = [f"{head:>{_NUMBER_WIDTH}}" for head in ("from origin", "from peers", "seconds")]
        title = _line(f"{phase.title:<{_NAME_WIDTH + _BAR_WIDTH}}", "bold") + Text("".join(heads), "dim")
        return Group("", title, *(self._row(host, now) for host in phase.hosts))

    def _row(self, host: HostProgress, now: float) -> Text:
        seconds = host.seconds(now)
        cells = (
            (bytes_text(host.origin_bytes), _ORIGIN_STYLE if host.origin_bytes else "dim"),
            (bytes_text(host.peer_bytes), _PEER_STYLE if host.peer_bytes else "dim"),
            ("waits" if seconds is None else f"{seconds:.1f}", "bold" if host.is_done else "dim"),
        )
        row = _line(f"{host.name:<{_NAME_WIDTH}}") + self._bar(host)
        for text, style in cells:
            row.append(f"{text:>{_NUMBER_WIDTH}}", style)
        return row

    def _bar(self, host: HostProgress) -> Text:
        origin_block, peer_block = _BLOCKS if self._console.encoding.startswith("utf") else _ASCII_BLOCKS
        filled = round(_BAR_WIDTH * host.share(host.done_bytes))
        from_origin = min(filled, round(_BAR_WIDTH * host.share(host.origin_bytes)))
        return Text.assemble(
            (origin_block * from_origin, _ORIGIN_STYLE),
            (peer_block * (filled - from_origin), _PEER_STYLE),
            ("." * (_BAR_WIDTH - filled), "dim"),
        )


def _line(text: str, style: str = "") -> Text:
    """One that is cut off rather than wrapped: a live display must know its height."""
    return Text(text, style, no_wrap=True, overflow="crop")
