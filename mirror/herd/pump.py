"""The queue of events of one transfer: what an event brings about is handled after it, never within.

Knows no event by itself; who handles it, and what is reported between rounds, is the transfer's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mirror.herd.ports import Event


class Pump:
    """`handle` takes one event and says whether others are to know of what it changed; then `report` is called when the
    queue is empty, and may put events. `settle` is called when nothing is left. `notes`: kinds of events that bring
    about nothing, in any state: one that comes alone is handled, and that is all."""

    def __init__(
        self,
        handle: Callable[[Event], bool],
        report: Callable[[], None],
        settle: Callable[[], None],
        notes: frozenset[type] = frozenset(),
    ) -> None:
        self._handle = handle
        self._report = report
        self._settle = settle
        self._notes = notes
        self._queue: deque[Event] = deque()
        self._is_running = False
        self._is_changed = False
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Whoever does so outside of the pump runs it afterwards."""
        self._queue.append(event)

    def tell(self, event: Event) -> None:
        if type(event) in self._notes and not self._queue and not self._is_running and not self._is_closed:
            self._handle(event)
            return
        self._queue.append(event)
        self.run()

    def changed(self) -> None:
        """Something is to be reported that was no event."""
        self._is_changed = True

    def settled(self) -> None:
        """As `changed`, from outside of the pump."""
        self._is_changed = True
        self.run()

    def keep(self, is_kept: Callable[[Event], bool]) -> None:
        """All others that are queued are void."""
        self._queue = deque(event for event in self._queue if is_kept(event))

    def run(self) -> None:
        if self._is_running or self._is_closed:
            return
        self._is_running = True
        try:
            while True:
                while self._queue and not self._is_closed:
                    if self._handle(self._queue.popleft()):
                        self._is_changed = True
                if self._is_closed:
                    return
                if not self._is_changed:
                    break
                self._is_changed = False
                self._report()
            self._settle()
        finally:
            self._is_running = False

    def close(self) -> None:
        self._is_closed = True
