"""How far the bodies of one digest are, and since when they lack bytes, as far as the ladder is to know of it.

A body that is sent as fast as bytes come lacks some after each piece, and gets them a moment later. Of that the ladder
need not hear: it is told what lasts, with the time at which it began. All else it is told before it decides anything
(`owed`). Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mirror.steer.events as on
from mirror.herd.alarm import Alarm
from mirror.herd.reading import Reading

# The shortest time that the ladder waits for bytes is DRAIN_STALL_S, six times as long; while it drains it is told at
# once. A body of an idle link lacks bytes for 20 ms at a time, of a busy one for 100.
TOLD_AFTER_S = 0.25


@dataclass(slots=True)
class _Body:
    """`told_bytes`: as far as the ladder knows it to be. `is_silent`: so the ladder believes. `lacks_since`: bytes,
    which the ladder does not know; None: they flow, or it does."""

    reading: Reading
    told_bytes: int
    is_silent: bool
    lacks_since: float | None = None


class Silences:
    """`tell` takes what the ladder is to know now; `is_keen`: it is to know all, at once."""

    def __init__(
        self, clock: Callable[[], float], *, tell: Callable[[on.Event], None], is_keen: Callable[[], bool]
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._is_keen = is_keen
        self._bodies: dict[int, _Body] = {}
        self._alarm = Alarm(clock, self._time_has_come)

    def begun(self, reading: Reading) -> on.Fed:
        """Its headers are out."""
        self._bodies[reading.request_id] = _Body(reading, reading.position, is_silent=True)
        return on.Fed(reading.request_id, reading.position)

    def moved(self, reading: Reading) -> on.Fed | None:
        """More of it was sent. Returns what the ladder is to know."""
        body = self._bodies.get(reading.request_id)
        if body is None:
            return None
        if body.is_silent or (body.lacks_since is not None and self._is_keen()):
            return self._fed(body)
        body.lacks_since = None
        return None

    def lacks(self, reading: Reading) -> on.Starved | None:
        """All that is in hand was sent. Returns what the ladder is to know now."""
        body = self._bodies.get(reading.request_id)
        if body is None or body.is_silent:
            return None
        now = self._clock()
        body.lacks_since = now
        if self._is_keen():
            return self._starved(body)
        self._alarm.set(self._due_at())
        return None

    def left(self, reading: Reading) -> None:
        self._bodies.pop(reading.request_id, None)

    def owed(self) -> list[on.Event]:
        """What the ladder was not told."""
        found: list[on.Event] = []
        for body in self._bodies.values():
            if body.lacks_since is not None:
                found.append(self._starved(body))
            elif body.reading.position > body.told_bytes:
                found.append(self._fed(body))
        return found

    def close(self) -> None:
        self._alarm.set(None)
        self._bodies.clear()

    def _fed(self, body: _Body) -> on.Fed:
        body.told_bytes = body.reading.position
        body.is_silent = False
        body.lacks_since = None
        return on.Fed(body.reading.request_id, body.told_bytes)

    def _starved(self, body: _Body) -> on.Starved:
        since, body.lacks_since = body.lacks_since, None
        body.told_bytes = body.reading.position
        body.is_silent = True
        return on.Starved(body.reading.request_id, body.told_bytes, since)

    def _due_at(self) -> float | None:
        since = [body.lacks_since for body in self._bodies.values() if body.lacks_since is not None]
        return min(since) + TOLD_AFTER_S if since else None

    def _time_has_come(self) -> None:
        now = self._clock()
        for body in list(self._bodies.values()):
            if body.lacks_since is not None and now >= body.lacks_since + TOLD_AFTER_S:
                self._tell(self._starved(body))
        self._alarm.set(self._due_at())
