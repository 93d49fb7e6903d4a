"""Ends what a listener has open when the event loop stands still, and lets it begin again when the loop goes on.

The kernel goes on accepting connections for a frozen daemon, and containerd waits for one for ever (measured on 1.6 and
2.1; 1.7 fails the pull after minutes). A refused connection and a FIN send it to the next host at once.

A thread cannot help a process that is stopped as a whole (SIGSTOP, a frozen cgroup), nor one where native code keeps
the interpreter's lock: liveness probes do. When such a process goes on, what was open is ended, too, by whoever wakes
first: its clients, its sources and its claims have gone elsewhere by then.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Protocol

from mirror.web.pulse import Pulse

log = logging.getLogger(__name__)

# A pull that waits for so long is better off at the origin; a loop that is only busy is late by tens of milliseconds.
LATE_S = 2.0
# In parts of the above: the loop beats, and the thread looks, often enough to be right within a quarter.
BEAT_RATIO = 1 / 8
# The innermost frames tell what blocks.
TOLD_FRAMES_COUNT = 6


class Endable(Protocol):
    def end_open(self) -> None:
        """Refuses newcomers and ends what is open, from any thread. The loop need not run."""
        ...

    def begin_again(self) -> None:
        """On the loop, after `end_open`."""
        ...


class Watchdog:
    def __init__(
        self, watched: Endable, late_s: float = LATE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watched = watched
        self._clock = clock
        self._look_s = late_s * BEAT_RATIO
        # Guards all that follows: the loop waits until the thread has ended everything.
        self._lock = threading.Lock()
        self._pulse = Pulse(late_s, clock())
        self._has_ended = False
        self._stood_at = ""

    async def run(self) -> None:
        """Until cancelled."""
        stopping = threading.Event()
        thread = threading.Thread(
            target=self._watch, args=(stopping, threading.get_ident()), name="watchdog", daemon=True
        )
        self._pulse.beat(self._clock())
        thread.start()
        try:
            while True:
                await asyncio.sleep(self._look_s)
                self._beat()
        finally:
            stopping.set()
            thread.join()

    def _beat(self) -> None:
        with self._lock:
            silent_s = self._pulse.beat(self._clock())
            if silent_s is None:
                return
            if not self._has_ended:
                self._watched.end_open()
            stood_at, self._stood_at, self._has_ended = self._stood_at, "", False
        self._watched.begin_again()
        log.error(
            "the daemon stood still for %.1f s: what was open was ended, so that pulls go on elsewhere; if this "
            "comes again, look for a slow disk, too little CPU, or report where it stood",
            silent_s,
            extra={"stood_at": stood_at or "unknown: the whole process stood"},
        )

    def _watch(self, stopping: threading.Event, loop_thread_id: int) -> None:
        while not stopping.wait(self._look_s):
            with self._lock:
                if not self._has_ended and self._pulse.is_late(self._clock()):
                    self._has_ended = True
                    # First: the ends of the connections may be what the loop waits for.
                    self._stood_at = _stack_of(loop_thread_id)
                    self._watched.end_open()


def _stack_of(thread_id: int) -> str:
    """The innermost frame first. Reads no file: a disk may be what blocks."""
    frame = sys._current_frames().get(thread_id)
    told: list[str] = []
    while frame is not None and len(told) < TOLD_FRAMES_COUNT:
        told.append(f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(told)
