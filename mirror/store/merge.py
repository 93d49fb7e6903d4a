"""What two stores together hold, from what each tells: the runtime's, and a cache beside it. Pure.

Rules
1. A digest is here while one of them has it: told once when the first has it, and as removed when the last has lost
   it.
2. Whether all of it is true, only the runtime says: without its `Snapshot` there is none, and when its stream is lost,
   so is this one.
3. The cache may be missing: until its first `Snapshot` it holds nothing, and while its stream is lost what it held.
"""

from __future__ import annotations

from collections.abc import Mapping

from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost


class Merge:
    """Each `hear_…` answers with the events of both together, in order."""

    def __init__(self) -> None:
        self._runtime: dict[Digest, int] = {}
        self._cache: dict[Digest, int] = {}
        self._is_true = False

    def size_bytes(self, digest: Digest) -> int | None:
        size_bytes = self._runtime.get(digest)
        return self._cache.get(digest) if size_bytes is None else size_bytes

    def hear_runtime(self, event: ContentEvent) -> list[ContentEvent]:
        match event:
            case Snapshot(sizes_bytes):
                self._become(self._runtime, sizes_bytes)
                self._is_true = True
                return [Snapshot(self._cache | self._runtime)]
            case StreamLost():
                was_true, self._is_true = self._is_true, False
                return [event] if was_true else []
            case _:
                return self._change(self._runtime, event)

    def hear_cache(self, event: ContentEvent) -> list[ContentEvent]:
        match event:
            case Snapshot(sizes_bytes):
                return self._become(self._cache, sizes_bytes)
            case StreamLost():
                return []
            case _:
                return self._change(self._cache, event)

    def _become(self, own: dict[Digest, int], sizes_bytes: Mapping[Digest, int]) -> list[ContentEvent]:
        events: list[ContentEvent] = []
        for digest in [known for known in own if known not in sizes_bytes]:
            events += self._change(own, ContentRemoved(digest))
        for digest, size_bytes in sizes_bytes.items():
            events += self._change(own, ContentAdded(digest, size_bytes))
        return events

    def _change(self, own: dict[Digest, int], event: ContentAdded | ContentRemoved) -> list[ContentEvent]:
        before = self.size_bytes(event.digest)
        if isinstance(event, ContentAdded):
            own[event.digest] = event.size_bytes
        else:
            own.pop(event.digest, None)
        after = self.size_bytes(event.digest)
        if not self._is_true or after == before:
            return []
        return [ContentRemoved(event.digest) if after is None else ContentAdded(event.digest, after)]
