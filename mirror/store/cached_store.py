"""The runtime's content and, beside it, a cache of blobs that the runtime does not keep: one store to everybody else.

Rules
1. The runtime is asked first, and its word counts: `unavailable` and `discard_ingest` are its own.
2. The cache may be missing, broken or full: then this store is the runtime's.
3. What is in the cache was committed by the runtime of this host, or by whoever called `keep`; it stays until room is
   needed or `forget`, also when the user deletes the image: other hosts may still want it.

Refuses to know which blobs are worth keeping.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from mirror.errors import ContentNotFound, MirrorError, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.base import (
    Blob,
    ContentAdded,
    ContentEvent,
    ContentRemoved,
    ContentStore,
    Snapshot,
    StreamLost,
)
from mirror.store.blob_copies import BlobCopies
from mirror.store.directory_store import DirectoryStore
from mirror.store.disk_room import DiskRoom
from mirror.store.feed import ContentFeed
from mirror.store.merge import Merge

log = logging.getLogger(__name__)


class CachedStore:
    """Implements `ContentStore`. `folder` is the cache's alone."""

    def __init__(
        self,
        runtime: ContentStore,
        folder: Path,
        *,
        quota_bytes: int,
        clock: Callable[[], float],
        ask_disk: Callable[[Path], DiskRoom] = DiskRoom.of,
    ) -> None:
        self._runtime = runtime
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._cache = DirectoryStore(folder, quota_bytes=quota_bytes)
        self._copies = BlobCopies(
            self._cache, folder, quota_bytes=quota_bytes, clock=clock, ask_disk=ask_disk
        )
        self._merge = Merge()
        self._feed = ContentFeed()

    @property
    def runtime(self) -> ContentStore:
        return self._runtime

    @property
    def quota_bytes(self) -> int:
        return self._quota_bytes

    @property
    def cache_bytes(self) -> int:
        return self._cache.used_bytes

    @property
    def cache_unavailable(self) -> str | None:
        """Why nothing can be kept now; None when it can."""
        return self._cache.unavailable

    def is_cached(self, digest: Digest) -> bool:
        return self._cache.size_bytes(digest) is not None

    def keep(self, digest: Digest, size_bytes: int, source: int) -> None:
        """A copy of the blob is made soon, from a descriptor that is the caller's and may be closed now; it may be of
        a file that is deleted already. Does not wait and never fails: what has no room, or turns out to have another
        digest, is not kept. Only while this store runs."""
        self._copies.keep(digest, size_bytes, source)

    async def forget(self, digest: Digest) -> None:
        """The runtime keeps it: once is enough. Nothing happens where it is not in the cache."""
        try:
            await self._cache.remove(digest)
        except StoreUnavailable as exc:
            log.debug("%s stays in the cache: %s", digest, exc)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._runtime.run())
            group.create_task(self._run_cache())
            group.create_task(self._follow(self._runtime, self._merge.hear_runtime))
            group.create_task(self._follow(self._cache, self._merge.hear_cache))
            group.create_task(self._copies.run())

    @property
    def unavailable(self) -> str | None:
        return self._runtime.unavailable

    def size_bytes(self, digest: Digest) -> int | None:
        if self._merge.size_bytes(digest) is None:
            # What came a moment ago is on its way here: whoever is told of it now is told of it by `watch`, too.
            for store, hear in (
                (self._runtime, self._merge.hear_runtime),
                (self._cache, self._merge.hear_cache),
            ):
                if (size_bytes := store.size_bytes(digest)) is not None:
                    self._tell(hear(ContentAdded(digest, size_bytes)))
        return self._merge.size_bytes(digest)

    async def open(self, digest: Digest) -> Blob:
        try:
            return await self._runtime.open(digest)
        except (ContentNotFound, StoreUnavailable):
            try:
                return await self._cache.open(digest)
            except (ContentNotFound, StoreUnavailable) as exc:
                log.debug("%s is not in the cache: %s", digest, exc)
            raise

    def watch(self) -> AsyncIterator[ContentEvent]:
        return self._feed.watch()

    async def discard_ingest(self, digest: Digest) -> None:
        await self._runtime.discard_ingest(digest)

    async def _run_cache(self) -> None:
        try:
            await self._cache.run()
        except MirrorError as exc:
            log.warning("blobs that the runtime does not keep are not cached in %s: %s", self._folder, exc)

    async def _follow(self, store: ContentStore, hear: Callable[[ContentEvent], list[ContentEvent]]) -> None:
        async for event in store.watch():
            self._tell(hear(event))

    def _tell(self, events: list[ContentEvent]) -> None:
        for event in events:
            match event:
                case Snapshot(sizes_bytes):
                    self._feed.replace(sizes_bytes)
                case ContentAdded(digest, size_bytes):
                    self._feed.add(digest, size_bytes)
                case ContentRemoved(digest):
                    self._feed.remove(digest)
                case StreamLost(reason):
                    self._feed.lost(reason)
