"""Copies blobs from open files into the cache, beside everything else that the host does.

Never fails its caller: what has no room, or cannot be read, is not kept, and one line a minute at most says so. Refuses
to know why a blob is kept.

Rules
1. At most `COPIES_AT_ONCE_COUNT` at a time; the rest waits, and of too many the oldest is let go.
2. What is copied has its digest, or it is not kept.
3. The disk is never filled: room is made of what the cache used longest ago, or the blob is not kept. Whatever fills
   the disk from elsewhere, the cache gives way.

What was copied stays in the page cache: peers come for it within seconds, and clean pages of files are the first that
the kernel takes back, also from a pod with a limit.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.directory_store import DirectoryStore
from mirror.store.disk_room import DISK_FULL_RATIO, DiskRoom
from mirror.store.disk_work import run_to_the_end
from mirror.store.ingest_file import DigestMismatch
from mirror.store.quota import StoreFull

log = logging.getLogger(__name__)

# One disk is not faster with more, and the pool of threads, of six on two cores, has readers to serve.
COPIES_AT_ONCE_COUNT = 2

# Three images of twenty layers that are committed at once. Each holds a descriptor, and its blob's room on the disk.
WAITING_MAX_COUNT = 64

# As often as kubelet looks whether it must evict pods.
DISK_CHECK_S = 10.0

# A disk that is full stays full, and a pull has many layers.
COMPLAIN_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    digest: Digest
    size_bytes: int
    source: int


class BlobCopies:
    """`folder` is the cache's. `ask_disk` blocks, and raises OSError."""

    def __init__(
        self,
        cache: DirectoryStore,
        folder: Path,
        *,
        quota_bytes: int,
        clock: Callable[[], float],
        ask_disk: Callable[[Path], DiskRoom] = DiskRoom.of,
        disk_check_s: float = DISK_CHECK_S,
    ) -> None:
        self._cache = cache
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._clock = clock
        self._ask_disk = ask_disk
        self._disk_check_s = disk_check_s
        # In the order in which they came.
        self._waiting: OrderedDict[Digest, _Waiting] = OrderedDict()
        self._waiting_bytes = 0
        self._copying: set[Digest] = set()
        self._woken = asyncio.Event()
        self._is_running = False
        self._complained_at_s: float | None = None
        self._unsaid_count = 0

    def keep(self, digest: Digest, size_bytes: int, source: int) -> None:
        """The blob of the open file `source` is copied when it is its turn; the caller may close his descriptor now.
        Nothing happens where it is being copied, or waits for that."""
        if not self._is_running or digest in self._waiting or digest in self._copying:
            return
        if size_bytes > self._quota_bytes:
            self._step_aside(f"{digest} has {size_bytes} bytes, the cache at most {self._quota_bytes}")
            return
        try:
            copied = os.dup(source)
        except OSError as exc:
            self._step_aside(f"{digest} cannot be held open: {exc.strerror or exc}")
            return
        self._waiting[digest] = _Waiting(digest, size_bytes, copied)
        self._waiting_bytes += size_bytes
        # More bytes than the cache has would push each other out.
        while len(self._waiting) > WAITING_MAX_COUNT or self._waiting_bytes > self._quota_bytes:
            oldest = self._take()
            os.close(oldest.source)
            self._step_aside(f"{oldest.digest} waited behind too many others")
        self._woken.set()

    async def run(self) -> None:
        """Copies until cancelled. What waits then is let go."""
        self._is_running = True
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(COPIES_AT_ONCE_COUNT):
                    group.create_task(self._work())
                group.create_task(self._give_way())
        finally:
            self._is_running = False
            while self._waiting:
                os.close(self._take().source)

    def _take(self) -> _Waiting:
        _, oldest = self._waiting.popitem(last=False)
        self._waiting_bytes -= oldest.size_bytes
        return oldest

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            taken = self._take()
            self._copying.add(taken.digest)
            try:
                await self._copy(taken)
            finally:
                self._copying.discard(taken.digest)
                os.close(taken.source)

    async def _copy(self, taken: _Waiting) -> None:
        try:
            if await self._has(taken.digest):
                return
            await self._make_room(taken.size_bytes)
            async with self._cache.ingest(taken.digest, taken.size_bytes) as writer:
                await writer.copy(taken.source)
                await writer.commit()
        except (StoreFull, StoreUnavailable) as exc:
            self._step_aside(f"{taken.digest}: {exc}")
        except DigestMismatch as exc:
            log.warning("a blob was not kept: %s", exc)

    async def _has(self, digest: Digest) -> bool:
        """Also makes it most recently used."""
        try:
            (await self._cache.open(digest)).close()
        except ContentNotFound:
            return False
        return True

    async def _make_room(self, size_bytes: int) -> None:
        """On the disk; the quota is the cache's own. Raises: StoreFull, StoreUnavailable."""
        # Some of what is reserved is written already: rather too little than too much.
        excess_bytes = await self._excess_bytes(size_bytes + self._cache.reserved_bytes)
        if excess_bytes > self._cache.used_bytes:
            raise StoreFull(f"{size_bytes} bytes more would fill its disk over {DISK_FULL_RATIO:.0%}")
        await self._cache.shed(excess_bytes)

    async def _give_way(self) -> None:
        while True:
            await asyncio.sleep(self._disk_check_s)
            if not self._cache.used_bytes:
                continue
            try:
                if excess_bytes := await self._excess_bytes(0):
                    freed_bytes = await self._cache.shed(excess_bytes)
                    self._step_aside(
                        f"its disk was over {DISK_FULL_RATIO:.0%} full, {freed_bytes} bytes were removed"
                    )
            except StoreUnavailable as exc:
                self._step_aside(str(exc))

    async def _excess_bytes(self, wanted_bytes: int) -> int:
        """Raises: StoreUnavailable."""
        try:
            room = await run_to_the_end(self._ask_disk, self._folder)
        except OSError as exc:
            raise StoreUnavailable(f"its disk cannot be asked: {exc.strerror or exc}") from exc
        return room.excess_bytes(wanted_bytes)

    def _step_aside(self, reason: str) -> None:
        now_s = self._clock()
        if self._complained_at_s is not None and now_s - self._complained_at_s < COMPLAIN_EVERY_S:
            self._unsaid_count += 1
            return
        self._complained_at_s = now_s
        more = f" ({self._unsaid_count} more since the last of these lines)" if self._unsaid_count else ""
        self._unsaid_count = 0
        log.warning(
            "the cache in %s steps aside: %s%s. Pulls go on without it; free some of that disk, or change --cache-size",
            self._folder,
            reason,
            more,
        )
