"""Tells systemd how the daemon does: ready, alive, stopping. Says nothing where nobody asked.

Source: sd_notify(3), sd_watchdog_enabled(3). Never fails the daemon: what cannot be told is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from contextlib import suppress

log = logging.getLogger(__name__)

# Of the time after which systemd ends a silent daemon. It advises half; a loop may be busy for a while.
BEAT_RATIO = 1 / 4
_MICROSECONDS = 1_000_000


class Notifier:
    """`environment` is the process's at its start, `pid` its own."""

    def __init__(self, environment: Mapping[str, str], pid: int) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._beat_s = _watchdog_s(environment, pid) * BEAT_RATIO if self._address else 0.0
        self._has_failed = False

    @staticmethod
    def of_process() -> Notifier:
        return Notifier(os.environ, os.getpid())

    def ready(self, status: str) -> None:
        """`status` is what `systemctl status` shows, one line."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        self._tell(f"STOPPING=1\nSTATUS={status}")

    async def run(self) -> None:
        """Until cancelled. As long as the event loop goes on, the daemon is alive."""
        while self._beat_s:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._beat_s)

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                # PID 1 reads at once; if it does not, a start that is not known is better than a daemon that waits.
                sock.setblocking(False)
                sock.sendto(text.encode(), self._address)
        except OSError as exc:
            if not self._has_failed:
                log.warning("systemd cannot be told %s: %s", text.split("\n")[0], exc.strerror or exc)
            self._has_failed = True


def _address(text: str) -> str:
    """Empty where there is none, or none of a kind that we know."""
    if text.startswith("@"):
        return "\0" + text[1:]
    return text if text.startswith("/") else ""


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float:
    """0: nobody waits for us."""
    if environment.get("WATCHDOG_PID", str(pid)) != str(pid):
        return 0.0
    with suppress(ValueError):
        return max(0, int(environment.get("WATCHDOG_USEC", "0"))) / _MICROSECONDS
    return 0.0
