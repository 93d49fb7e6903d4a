"""What a store knows to be here, and how every change of it reaches whoever watches.

Both stores keep their index in one of these. Refuses to know where content lives or how a change was noticed.

Rules
1. A watcher's first event is a `Snapshot`, given when the index is known to be true.
2. After it every change arrives in order. A watcher that falls behind by more than its queue holds gets
   `StreamLost` and a new `Snapshot` in place of what it missed; the others are not held up.
3. `lost` keeps the index (files can still be served) but gives no `Snapshot` until the next `replace`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType

from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost

# A pull makes tens of events, a large garbage collection some thousand; one takes about 100 bytes.
WATCHER_QUEUE_MAX_COUNT = 4096


class ContentFeed:
    """Not thread-safe: belongs to one event loop."""

    def __init__(self, *, watcher_queue_max_count: int = WATCHER_QUEUE_MAX_COUNT) -> None:
        self._sizes_bytes: dict[Digest, int] = {}
        self._watchers: set[_Watcher] = set()
        self._queue_max_count = watcher_queue_max_count
        self._is_true = False

    @property
    def sizes_bytes(self) -> Mapping[Digest, int]:
        """A live view: copy it before an await."""
        return MappingProxyType(self._sizes_bytes)

    def size_bytes(self, digest: Digest) -> int | None:
        return self._sizes_bytes.get(digest)

    def replace(self, sizes_bytes: Mapping[Digest, int]) -> None:
        """This is all that the store holds: the differences become events."""
        for digest in [known for known in self._sizes_bytes if known not in sizes_bytes]:
            self.remove(digest)
        for digest, size_bytes in sizes_bytes.items():
            self.add(digest, size_bytes)
        if not self._is_true:
            self._is_true = True
            for watcher in self._watchers:
                watcher.woken.set()

    def add(self, digest: Digest, size_bytes: int) -> None:
        """Idempotent."""
        if self._sizes_bytes.get(digest) != size_bytes:
            self._sizes_bytes[digest] = size_bytes
            self._tell(ContentAdded(digest, size_bytes))

    def remove(self, digest: Digest) -> None:
        """Idempotent."""
        if self._sizes_bytes.pop(digest, None) is not None:
            self._tell(ContentRemoved(digest))

    def lost(self, reason: str) -> None:
        """What is here is no longer known to be true. Only the first call until the next `replace` is
        told."""
        if self._is_true:
            self._is_true = False
            for watcher in self._watchers:
                watcher.lose(reason)

    async def watch(self) -> AsyncIterator[ContentEvent]:
        """As `ContentStore.watch`."""
        watcher = _Watcher(self._queue_max_count)
        self._watchers.add(watcher)
        try:
            while True:
                watcher.woken.clear()
                while (event := self._next(watcher)) is not None:
                    yield event
                await watcher.woken.wait()
        finally:
            self._watchers.discard(watcher)

    def _next(self, watcher: _Watcher) -> ContentEvent | None:
        if watcher.pending:
            return watcher.pending.popleft()
        if watcher.wants_snapshot and self._is_true:
            watcher.wants_snapshot = False
            return Snapshot(MappingProxyType(dict(self._sizes_bytes)))
        return None

    def _tell(self, event: ContentAdded | ContentRemoved) -> None:
        for watcher in self._watchers:
            watcher.push(event)


class _Watcher:
    """One consumer. While `wants_snapshot`, changes are not queued: the snapshot will hold them."""

    def __init__(self, queue_max_count: int) -> None:
        self.pending: deque[ContentAdded | ContentRemoved | StreamLost] = deque()
        self.wants_snapshot = True
        self.woken = asyncio.Event()
        self._queue_max_count = queue_max_count

    def push(self, event: ContentAdded | ContentRemoved) -> None:
        if self.wants_snapshot:
            return
        if len(self.pending) >= self._queue_max_count:
            self.pending.clear()
            self.lose(f"the watcher fell behind by more than {self._queue_max_count} changes")
        else:
            self.pending.append(event)
            self.woken.set()

    def lose(self, reason: str) -> None:
        if not self.wants_snapshot:
            self.wants_snapshot = True
            self.pending.append(StreamLost(reason))
            self.woken.set()
