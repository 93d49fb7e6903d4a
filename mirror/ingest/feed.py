"""How every event reaches whoever watches. Refuses to know where events come from, and to keep any state of its
own about ingests: what a new watcher must be told is asked for when it begins to read.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable

from mirror.ingest.base import EventsLost, Grew, IngestEvent, WatchEvent
from mirror.oci.digest import Digest

# A pull makes some three events a blob, since unread growth becomes one; a re-listed folder of blobs can make one
# for each. An event takes about 100 bytes.
WATCHER_QUEUE_MAX_COUNT = 4096


class IngestFeed:
    """Not thread-safe: belongs to one event loop. `present` gives what is downloaded now."""

    def __init__(
        self,
        present: Callable[[], Iterable[IngestEvent]],
        *,
        watcher_queue_max_count: int = WATCHER_QUEUE_MAX_COUNT,
    ) -> None:
        self._present = present
        self._queue_max_count = watcher_queue_max_count
        self._watchers: set[_Watcher] = set()

    def tell(self, event: IngestEvent) -> None:
        for watcher in self._watchers:
            if watcher.queued_count >= self._queue_max_count:
                reason = f"the watcher fell behind by more than {self._queue_max_count} events"
                watcher.begin_again(EventsLost(reason))
            watcher.push(event)

    def is_patient(self, digest: Digest) -> bool:
        """Whether each watch may hear late how it grows."""
        return all(one.is_patient is not None and one.is_patient(digest) for one in self._watchers)

    async def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        """As `IngestWatch.watch`."""
        watcher = _Watcher(is_patient)
        self._watchers.add(watcher)
        try:
            while True:
                if watcher.is_new:
                    watcher.is_new = False
                    for event in self._present():
                        watcher.push(event)
                while (next_event := watcher.pop()) is not None:
                    yield next_event
                if not watcher.is_new:
                    watcher.woken.clear()
                    await watcher.woken.wait()
        finally:
            self._watchers.discard(watcher)


class _Watcher:
    """One consumer. While it is new, events are not queued: what is present will hold them."""

    def __init__(self, is_patient: Callable[[Digest], bool] | None) -> None:
        self.is_patient = is_patient
        self.is_new = True
        self.woken = asyncio.Event()
        self._queue: OrderedDict[int, WatchEvent] = OrderedDict()
        self._next_place = 0
        # Where the growth of a digest is or was queued that no other event of it follows.
        self._growth_places: dict[Digest, int] = {}

    @property
    def queued_count(self) -> int:
        return len(self._queue)

    def push(self, event: IngestEvent) -> None:
        if self.is_new:
            return
        if isinstance(event, Grew):
            place = self._growth_places.setdefault(event.digest, self._next_place)
        else:
            place = self._next_place
            if event.digest is not None:
                self._growth_places.pop(event.digest, None)
        self._queue[place] = event
        self._next_place += place == self._next_place
        self.woken.set()

    def begin_again(self, event: EventsLost) -> None:
        self._queue.clear()
        self._growth_places.clear()
        self._queue[self._next_place] = event
        self._next_place += 1
        self.is_new = True
        self.woken.set()

    def pop(self) -> WatchEvent | None:
        if not self._queue:
            return None
        return self._queue.popitem(last=False)[1]
