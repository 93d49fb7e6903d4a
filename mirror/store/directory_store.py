"""A store of its own: an OCI image layout on this host, under an exact byte quota.

For seeds, the demo and hosts whose runtime keeps no blobs. What it writes is verified before it is visible;
what another process commits into the same folder by rename is noticed and served, too. Decides nothing about
what is kept: that is `quota`.

Rules
1. Everything that this process does to `blobs/`, and every look at it, happens under one lock. Opening a blob
   does not, and so must not find one that is being deleted.
2. The book and the feed change together, without an await between.
3. A file whose name is no digest, or whose size is not that of the blob, is ignored and named once in the
   log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

from mirror.errors import ContentNotFound, MirrorError, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.base import ContentEvent
from mirror.store.blob_watch import BlobWatch
from mirror.store.disk_work import run_to_the_end
from mirror.store.feed import ContentFeed
from mirror.store.file_blob import FileBlob
from mirror.store.ingest_file import IngestFile
from mirror.store.oci_layout import OciLayout, Scan
from mirror.store.quota import QuotaBook, Reservation, StoreFull

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

# A folder that cannot be read now (a volume that is not mounted yet) is tried again this often.
RETRY_S = 1.0

# What one thread copies before a cancellation can take effect: a fraction of a second.
COPY_CHUNK_BYTES = 32 * 1024 * 1024

# A client commits the blobs of an image one after the other: one look serves several. Below the time in which
# anybody would notice.
DEBOUNCE_S = 0.1

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class DirectoryStore:
    """Implements `ContentStore`. `quota_bytes` None: no limit but the disk's."""

    def __init__(self, root: Path, *, quota_bytes: int | None) -> None:
        self._layout = OciLayout(root)
        self._watch = BlobWatch(self._layout.blob_folders)
        self._feed = ContentFeed()
        self._book = QuotaBook(quota_bytes)
        self._blobs_lock = asyncio.Lock()
        self._unavailable: str | None = f"{root} has not been read yet"
        self._is_loaded = False
        self._strangers: set[str] = set()
        self._rejected: set[Digest] = set()
        self._leaving: frozenset[Digest] = frozenset()
        self._is_overrun = False

    async def run(self) -> None:
        """As `ContentStore.run`. Raises: LayoutInvalid."""
        while True:
            try:
                await self._load()
                async with aclosing(self._watch.changes()) as changes:
                    async for _ in changes:
                        await asyncio.sleep(DEBOUNCE_S if self._unavailable is None else 0)
                        await self._look()
            except OSError as exc:
                self._lose(f"{self._layout.root} cannot be read: {exc}")
            await asyncio.sleep(RETRY_S)

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    @property
    def used_bytes(self) -> int:
        return self._book.used_bytes

    @property
    def reserved_bytes(self) -> int:
        return self._book.reserved_bytes

    def size_bytes(self, digest: Digest) -> int | None:
        return self._feed.size_bytes(digest)

    async def open(self, digest: Digest) -> FileBlob:
        """As `ContentStore.open`. The blob is most recently used from now on."""
        if digest in self._rejected or digest in self._leaving:
            raise ContentNotFound(f"{digest} is not in {self._layout.root}")
        try:
            blob = FileBlob.open(self._layout.blob_path(digest))
        except FileNotFoundError:
            self._forget(digest)
            raise ContentNotFound(f"{digest} is not in {self._layout.root}") from None
        except OSError as exc:
            raise StoreUnavailable(f"{digest} cannot be opened in {self._layout.root}: {exc}") from exc
        expected_bytes = self._feed.size_bytes(digest)
        if expected_bytes not in (None, blob.size_bytes):
            blob.close()
            self._reject(digest, f"it has {blob.size_bytes} bytes and should have {expected_bytes}")
            raise ContentNotFound(f"the file of {digest} in {self._layout.root} is not that blob")
        if blob.size_bytes == 0 and not digest.matches(b""):
            blob.close()
            raise ContentNotFound(f"the file of {digest} in {self._layout.root} is empty")
        if expected_bytes is None and self._unavailable is None:
            # Committed by another process a moment ago; the next look obeys the quota.
            self._add(digest, blob.size_bytes)
        self._touch(digest, blob)
        return blob

    def watch(self) -> AsyncIterator[ContentEvent]:
        return self._feed.watch()

    async def discard_ingest(self, digest: Digest) -> None:
        """Nothing to do: this store keeps no byte that was not verified."""

    @asynccontextmanager
    async def ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[IngestWriter]:
        """Room for one blob, and a writer for it. Left without a commit, nothing of it stays. A blob that is
        here already may be written once more: its commit changes nothing.

        Raises: StoreFull, also where the disk is full before the quota is; StoreUnavailable."""
        if self._unavailable is not None:
            raise StoreUnavailable(self._unavailable)
        reservation = await self._reserve(size_bytes)
        file = self._layout.ingest_file(digest, size_bytes)
        try:
            try:
                await _on_disk(file.create)
                yield IngestWriter(file, partial(self._publish, file, reservation))
            finally:
                await _on_disk(file.discard)
        finally:
            self._book.release(reservation)

    async def pin(self, digest: Digest) -> None:
        """The blob is never evicted, also when it comes later, also after a restart.

        Raises: StoreFull, StoreUnavailable; it is not pinned then."""
        was_pinned = self._book.is_pinned(digest)
        self._book.pin(digest)
        try:
            await _on_disk(self._layout.set_pin, digest, is_pinned=True)
        except MirrorError:
            if not was_pinned:
                self._book.unpin(digest)
            raise

    async def unpin(self, digest: Digest) -> None:
        """Raises: StoreFull, StoreUnavailable; it is still pinned then."""
        await _on_disk(self._layout.set_pin, digest, is_pinned=False)
        self._book.unpin(digest)

    async def shed(self, size_bytes: int) -> int:
        """Gives the disk so many bytes back, what was used longest ago first; less where pins are in the way. How
        many. Raises: StoreUnavailable where a file cannot be deleted."""
        async with self._blobs_lock:
            before_bytes = self._book.used_bytes
            failed = await self._delete(self._book.shed(size_bytes))
            if failed:
                raise StoreUnavailable(failed)
            return before_bytes - self._book.used_bytes

    async def remove(self, digest: Digest) -> None:
        """The blob goes now; nothing happens where it is not here. Raises: StoreUnavailable where its file cannot be
        deleted."""
        async with self._blobs_lock:
            if digest not in self._book.sizes_bytes:
                return
            self._book.remove(digest)
            failed = await self._delete((digest,))
            if failed:
                raise StoreUnavailable(failed)

    async def _load(self) -> None:
        await run_to_the_end(self._layout.prepare)
        if not self._is_loaded:
            # Only before the first ingest of this process.
            freed_bytes = await run_to_the_end(self._layout.remove_abandoned_ingests)
            if freed_bytes:
                log.info("removed %d bytes of unfinished blobs from %s", freed_bytes, self._layout.root)
            for digest in await run_to_the_end(self._layout.pins):
                self._book.pin(digest)
            self._is_loaded = True

    async def _look(self) -> None:
        """Makes book and feed what stands in the folder, then obeys the quota."""
        async with self._blobs_lock:
            scan = await run_to_the_end(self._layout.scan, frozenset(self._book.sizes_bytes))
            self._note_strangers(scan)
            for digest in [known for known in self._book.sizes_bytes if known not in scan.seen]:
                # Looked at again: `open` may have found it after the folder was read.
                if not self._layout.blob_path(digest).exists():
                    self._forget(digest)
            self._rejected &= scan.seen
            for found in sorted(scan.found, key=lambda blob: (blob.used_at_ns, blob.digest)):
                if found.digest not in self._rejected:
                    self._add(found.digest, found.size_bytes)
            await self._delete(self._book.overrun())
            self._note_overrun()
            if self._unavailable is not None:
                log.info("%s holds %d blobs", self._layout.root, len(self._book.sizes_bytes))
                self._unavailable = None
            self._feed.replace(dict(self._book.sizes_bytes))

    async def _reserve(self, size_bytes: int) -> Reservation:
        async with self._blobs_lock:
            reservation = self._book.reserve(size_bytes)
            try:
                failed = await self._delete(reservation.evict)
                if failed:
                    raise StoreUnavailable(f"no room: {failed}")
            except BaseException:
                self._book.release(reservation)
                raise
            return reservation

    async def _publish(self, file: IngestFile, reservation: Reservation) -> None:
        async with self._blobs_lock:
            try:
                await _on_disk(self._layout.publish, file)
            finally:
                # Also when cancelled: the blob stands there.
                if file.is_published:
                    self._rejected.discard(file.digest)
                    self._book.commit(reservation, file.digest)
                    self._feed.add(file.digest, file.size_bytes)

    async def _delete(self, digests: Collection[Digest]) -> str | None:
        """Deletes what the book has let go. What cannot be deleted is taken back into it: the reason."""
        if not digests:
            return None
        sizes_bytes = {digest: self._feed.size_bytes(digest) for digest in digests}
        for digest in digests:
            self._feed.remove(digest)
        self._leaving = frozenset(digests)
        try:
            failed = await run_to_the_end(self._layout.delete, digests)
        finally:
            self._leaving = frozenset()
        for digest in failed:
            self._add(digest, sizes_bytes[digest] or 0)
        if not failed:
            return None
        reason = (
            f"{len(failed)} blobs in {self._layout.root} cannot be deleted: {next(iter(failed.values()))}"
        )
        log.warning("%s", reason)
        return reason

    def _add(self, digest: Digest, size_bytes: int) -> None:
        self._book.add(digest, size_bytes)
        self._feed.add(digest, size_bytes)

    def _forget(self, digest: Digest) -> None:
        self._book.remove(digest)
        self._feed.remove(digest)

    def _reject(self, digest: Digest, reason: str) -> None:
        self._forget(digest)
        self._rejected.add(digest)
        log.warning("%s is ignored: %s. Remove it", self._layout.blob_path(digest), reason)

    def _touch(self, digest: Digest, blob: FileBlob) -> None:
        if self._book.touch(digest, time.monotonic()) and blob.descriptor is not None:
            try:
                os.utime(blob.descriptor)
            except OSError as exc:
                # A folder that is mounted read-only: the order is then kept until the next restart only.
                log.debug("the use of %s cannot be noted: %s", digest, exc)

    def _note_strangers(self, scan: Scan) -> None:
        for path, reason in scan.strangers.items():
            if path not in self._strangers:
                log.warning("%s is ignored: %s", path, reason)
        self._strangers = set(scan.strangers)

    def _note_overrun(self) -> None:
        is_overrun = self._book.excess_bytes > 0
        if is_overrun and not self._is_overrun:
            log.warning(
                "%s is %d bytes over its quota with pinned and unfinished blobs alone: nothing new fits",
                self._layout.root,
                self._book.excess_bytes,
            )
        self._is_overrun = is_overrun

    def _lose(self, reason: str) -> None:
        if self._unavailable != reason:
            log.warning("%s", reason)
        self._unavailable = reason
        self._feed.lost(reason)


class IngestWriter:
    """Writes one blob, in order, from one task."""

    def __init__(self, file: IngestFile, publish: Callable[[], Awaitable[None]]) -> None:
        self._file = file
        self._publish = publish

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Raises: DigestMismatch for a byte too many; StoreFull, StoreUnavailable."""
        await _on_disk(self._file.write, chunk)

    async def copy(self, source: int) -> None:
        """All the bytes that are missing, from the open file `source`. Raises: DigestMismatch where it ends before;
        StoreFull, StoreUnavailable."""
        while self._file.written_bytes < self._file.size_bytes:
            await _on_disk(self._file.copy, source, COPY_CHUNK_BYTES)

    async def commit(self) -> None:
        """The blob is verified, durable and visible when it returns. Raises: DigestMismatch, StoreFull,
        StoreUnavailable; nothing is kept then."""
        await _on_disk(self._file.seal)
        await self._publish()


async def _on_disk(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Raises: StoreFull, StoreUnavailable in place of OSError."""
    try:
        return await run_to_the_end(work, *args, **kwargs)
    except OSError as exc:
        if exc.errno in _FULL:
            raise StoreFull(f"the disk is full: {exc}. Free some of it, or lower the quota") from exc
        raise StoreUnavailable(f"the store's folder cannot be used: {exc}") from exc
