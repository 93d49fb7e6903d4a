"""The demo as plain lines, for pipes, logs and terminals that cannot do more. ASCII, at most 80 columns."""

from __future__ import annotations

import asyncio
import os
import textwrap
import time
from collections.abc import Callable
from typing import TextIO

from mirror.demo.errors import DemoFailed
from mirror.demo.progress import HostProgress, PhaseProgress
from mirror.demo.report import Report
from mirror.demo.units import bytes_text
from mirror.demo.view import pause

# How often a host's end is looked for.
POLL_S = 0.1
# Often enough to see that it lives, seldom enough for a log.
HEARTBEAT_S = 3.0

MAX_WIDTH = 80
_GAP = "   "


class LinesView:
    """Implements `View`. `clock` is monotonic seconds."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock

    def say(self, text: str) -> None:
        """Raises: DemoFailed where nobody reads any more."""
        try:
            self._out.write(f"{text}\n")
            self._out.flush()
        except BrokenPipeError as exc:
            # Or the interpreter complains at its end that what is still buffered cannot be written.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())
            raise DemoFailed("its output was closed by whoever read it") from exc

    async def draw(self, phase: PhaseProgress, ended: asyncio.Event) -> None:
        self.say("")
        self.say(phase.title)
        began_at = told_at = self._clock()
        told: set[str] = set()
        while True:
            has_ended = ended.is_set()
            for host in phase.hosts:
                if host.is_done and host.name not in told:
                    told.add(host.name)
                    told_at = self._clock()
                    self.say(f"  {host_line(host, told_at)}")
            if has_ended:
                return
            now = self._clock()
            if now - told_at >= HEARTBEAT_S:
                told_at = now
                self.say(
                    f"  {now - began_at:.0f} s: {bytes_text(phase.done_bytes)} of {bytes_text(phase.total_bytes)}"
                )
            await pause(ended, POLL_S)

    def conclude(self, report: Report) -> None:
        for line in conclusion(report):
            self.say(line)


def host_line(host: HostProgress, now: float) -> str:
    seconds = host.seconds(now) or 0.0
    return (
        f"{host.name:<8}{seconds:>6.1f} s{_GAP}{bytes_text(host.origin_bytes):>10} from the origin"
        f"{_GAP}{bytes_text(host.peer_bytes):>10} from peers"
    )


def conclusion(report: Report) -> list[str]:
    """The closing table and what it says, wrapped for 80 columns; begins with an empty line."""
    lines = ["", f"{'':<26}{'without Peili':>14}{'with Peili':>14}"]
    for what, direct, mirrored, comparison in report.sums():
        lines.append(f"  {what:<24}{direct:>14}{mirrored:>14}{_GAP}{comparison}".rstrip())
    lines.append("")
    for sentence in report.sentences():
        lines += textwrap.wrap(sentence, width=MAX_WIDTH)
    return lines
