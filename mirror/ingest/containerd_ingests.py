"""The downloads of this host's containerd, seen from its folders: what grows, what is committed, what is gone.

Rules
1. A look at the folders (in a thread of its own: a disk that containerd keeps busy may answer late) finds all that
   is there; `table` says what that means. inotify only says when to look, so nothing depends on a sign.
2. Growth gives no sign and is polled, while something may grow; seldom, where no watch waits for it.
3. Every ingest is opened at the first look that finds it. Its descriptor is what `open` copies, so that it can be
   read when containerd has renamed or deleted the file.

Asks containerd nothing: it has no events about ingests, and none about commits before 2.1. Writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from mirror.errors import ContentNotFound
from mirror.ingest.base import IngestFile, WatchEvent
from mirror.ingest.feed import IngestFeed
from mirror.ingest.ingest_folder import BlobChanges, BlobsUnknown, IngestFolder
from mirror.ingest.open_ingest import OpenIngest
from mirror.ingest.signs import Signs, open_signs
from mirror.ingest.table import IngestTable
from mirror.oci.digest import Digest

log = logging.getLogger(__name__)

# How long to wait before folders are tried again that could not be named or read.
RETRY_S = 1.0


class ContainerdIngests:
    """Implements `IngestWatch`. `find_content_root` gives the folder that holds `ingest/` and `blobs/`, None as
    long as nobody knows it."""

    def __init__(
        self,
        find_content_root: Callable[[], Path | None],
        *,
        namespaces: Sequence[str],
        open_signs: Callable[[Path, Path], AbstractContextManager[Signs]] = open_signs,
    ) -> None:
        self._find_content_root = find_content_root
        self._namespaces = tuple(namespaces)
        self._open_signs = open_signs
        self._table = IngestTable()
        self._folder: IngestFolder | None = None
        self._feed = IngestFeed(self._table.present)
        self._unavailable: str | None = "containerd's ingests were not looked at yet"
        self._polling_because: str | None = None

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    @property
    def polling_because(self) -> str | None:
        """Why inotify is not used now; None when it is."""
        return self._polling_because

    def size_bytes(self, digest: Digest) -> int | None:
        return self._table.size_bytes(digest)

    def total_bytes(self, digest: Digest) -> int | None:
        return self._table.total_bytes(digest)

    def open(self, digest: Digest) -> IngestFile:
        key = self._table.key_to_open(digest)
        file = None if key is None or self._folder is None else self._folder.file_of(key)
        if file is None:
            raise ContentNotFound(f"containerd downloads no {digest} now")
        return OpenIngest.of(file)

    def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        return self._feed.watch(is_patient)

    async def run(self) -> None:
        while (content_root := self._find_content_root()) is None:
            self._lose("containerd has not named the folder of its content")
            await asyncio.sleep(RETRY_S)
        self._folder = IngestFolder(content_root, self._namespaces)
        # Not the loop's own pool: a busy one would make births late. A look that is under way when this ends is
        # waited for, so that nothing opens a file behind our back.
        executor = ThreadPoolExecutor(1, thread_name_prefix="ingests")
        try:
            while True:
                with self._open_signs(self._folder.ingests, self._folder.blobs) as signs:
                    self._note_polling(signs.polling_because, is_trouble=not signs.waits_for_folders)
                    await self._follow(self._folder, signs, executor)
        finally:
            executor.shutdown(cancel_futures=True)
            self._folder.close()
            self._folder = None

    async def _follow(self, folder: IngestFolder, signs: Signs, executor: Executor) -> None:
        """Returns when these signs are at their end."""
        loop = asyncio.get_running_loop()
        changes: BlobChanges | None = BlobsUnknown()
        while changes is not None:
            try:
                sighting = await loop.run_in_executor(executor, folder.look, changes)
            except OSError as exc:
                self._lose(f"{exc.filename or folder.ingests}: {exc.strerror or exc}")
                await asyncio.sleep(RETRY_S)
                return
            now = time.monotonic()
            for event in self._table.note(sighting, now):
                self._feed.tell(event)
            folder.keep_only(self._table.wanted_keys())
            if folder.is_mounted:
                self._unavailable = None
            else:
                where = folder.ingests.parent.parent
                self._lose(f"{where} is not there: containerd never ran, or its root is not mounted here")
            if signs.waits_for_folders and folder.is_mounted:
                return
            changes = await signs.wait(self._table.wait_s(now, self._feed.is_patient))

    def _lose(self, reason: str) -> None:
        if reason != self._unavailable:
            log.info("downloads of containerd cannot be seen: %s", reason)
        self._unavailable = reason

    def _note_polling(self, reason: str | None, *, is_trouble: bool) -> None:
        if reason is not None and reason != self._polling_because:
            log.log(logging.WARNING if is_trouble else logging.DEBUG, "%s; polling instead", reason)
        self._polling_because = reason
