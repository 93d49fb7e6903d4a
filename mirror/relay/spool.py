"""The bounded folder of files in which blobs lie while they are fetched, and a while after.

Rules
1. What lies there when the daemon starts is of no use (what of it is good was known to the last process only): it is
   purged. Only files with our names are touched.
2. A file that somebody holds stays. The rest goes oldest first, when room is needed or after `keep_s`.
3. No room (the quota, a disk that is full by `disk_room`, ENOSPC, any other failure of the disk): `SpoolFull`, and the
   mirror steps aside. The room for a whole file is taken before its first byte.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirror.oci.digest import Digest
from mirror.relay.errors import SpoolFull, SpoolUnusable
from mirror.relay.spool_file import SpoolFile
from mirror.store.disk_room import DISK_FULL_RATIO, DiskRoom
from mirror.store.disk_work import run_to_the_end

log = logging.getLogger(__name__)

# The same image is pulled by further clients of this host within minutes, or not at all.
KEEP_S = 600.0
# Each file holds a descriptor; the usual limit of a process is 1,024.
FILES_MAX_COUNT = 256

_NAME = re.compile(r"(sha256|sha512)-[0-9a-f]+\.[0-9]+\.part")


@dataclass(slots=True)
class _Entry:
    file: SpoolFile
    path: Path
    hold_count: int
    idle_since_s: float


class Spool:
    """Use as an async context manager; raises on entering: SpoolUnusable. Whoever gets a file holds it and gives it
    back by `release`."""

    def __init__(
        self,
        folder: Path,
        *,
        quota_bytes: int,
        clock: Callable[[], float],
        keep_s: float = KEEP_S,
        disk_full_ratio: float = DISK_FULL_RATIO,
    ) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._clock = clock
        self._keep_s = keep_s
        self._disk_full_ratio = disk_full_ratio
        # Least lately used first.
        self._entries: OrderedDict[Digest, _Entry] = OrderedDict()
        # Dropped ones: nobody finds them, they go when nobody holds them.
        self._dropped: list[_Entry] = []
        self._making = asyncio.Lock()
        self._made_count = 0

    async def __aenter__(self) -> Spool:
        try:
            await run_to_the_end(_purge, self._folder)
        except OSError as exc:
            raise SpoolUnusable(
                f"{self._folder} cannot be used as a spool: {exc.strerror or exc}; mend it, "
                "or choose another --data-dir"
            ) from exc
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        entries = [*self._entries.values(), *self._dropped]
        self._entries.clear()
        self._dropped.clear()
        await run_to_the_end(_remove, entries)

    @property
    def used_bytes(self) -> int:
        held = sum(entry.file.size_bytes for entry in self._entries.values())
        return held + sum(entry.file.size_bytes for entry in self._dropped)

    def is_roomy(self, size_bytes: int) -> bool:
        """With so many bytes more at most half of the quota is used."""
        return 2 * (self.used_bytes + size_bytes) <= self._quota_bytes

    def find(self, digest: Digest) -> SpoolFile | None:
        """Holds it, if it is there."""
        entry = self._entries.get(digest)
        if entry is None:
            return None
        entry.hold_count += 1
        self._entries.move_to_end(digest)
        return entry.file

    async def make(self, digest: Digest, size_bytes: int) -> SpoolFile:
        """Holds it, found or made; one that is there has its own size. Raises: SpoolFull."""
        async with self._making:
            found = self.find(digest)
            if found is not None:
                return found
            await self._make_room(digest, size_bytes)
            # A dropped file of the same digest may still be there, for those who hold it.
            self._made_count += 1
            path = self._folder / f"{digest.algorithm}-{digest.encoded}.{self._made_count}.part"
            made: list[int] = []
            try:
                await run_to_the_end(_create, path, size_bytes, made)
            except OSError as exc:
                raise SpoolFull(
                    f"{digest}: no spool file of {size_bytes} bytes: {exc.strerror or exc}"
                ) from exc
            except asyncio.CancelledError:
                for descriptor in made:
                    os.close(descriptor)
                    path.unlink(missing_ok=True)
                raise
            file = SpoolFile(digest, size_bytes, made[0])
            self._entries[digest] = _Entry(file, path, 1, 0.0)
            return file

    def release(self, file: SpoolFile) -> None:
        """The caller does nothing more with it; it is kept for others for a while."""
        for entry in (self._entries.get(file.digest), *self._dropped):
            if entry is not None and entry.file is file:
                entry.hold_count -= 1
                entry.idle_since_s = self._clock()
                return

    def drop(self, file: SpoolFile) -> None:
        """Its bytes are wrong, or of no use: nobody finds it any more."""
        entry = self._entries.get(file.digest)
        if entry is not None and entry.file is file:
            del self._entries[file.digest]
            self._dropped.append(entry)

    async def sweep(self) -> None:
        """Removes what is of no use by now. To be called every few seconds."""
        now_s = self._clock()
        old = [
            entry
            for entry in self._entries.values()
            if entry.hold_count == 0 and now_s - entry.idle_since_s >= self._keep_s
        ]
        for entry in old:
            self.drop(entry.file)
        await self._remove_dropped()

    async def _make_room(self, digest: Digest, size_bytes: int) -> None:
        await self._remove_dropped()
        while (reason := await self._lacks(size_bytes)) is not None:
            idle = next((entry for entry in self._entries.values() if entry.hold_count == 0), None)
            if idle is None or size_bytes > self._quota_bytes:
                raise SpoolFull(f"{digest}: {reason}")
            self.drop(idle.file)
            await self._remove_dropped()

    async def _lacks(self, size_bytes: int) -> str | None:
        if self.used_bytes + size_bytes > self._quota_bytes:
            return f"{size_bytes} bytes have no room in the spool: {self.used_bytes} of {self._quota_bytes} are used"
        if len(self._entries) + len(self._dropped) >= FILES_MAX_COUNT:
            return f"the spool has {FILES_MAX_COUNT} files"
        try:
            disk = await run_to_the_end(DiskRoom.of, self._folder)
        except OSError as exc:
            return f"the spool's disk cannot be asked: {exc.strerror or exc}"
        if disk.excess_bytes(size_bytes, self._disk_full_ratio):
            return f"{size_bytes} bytes more would fill the spool's disk over {self._disk_full_ratio:.0%}"
        return None

    async def _remove_dropped(self) -> None:
        unheld = [entry for entry in self._dropped if entry.hold_count == 0]
        if unheld:
            self._dropped = [entry for entry in self._dropped if entry.hold_count > 0]
            await run_to_the_end(_remove, unheld)


def _purge(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    purged_count = 0
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
            purged_count += 1
    if purged_count:
        log.info("%d files of the last run were purged from %s", purged_count, folder)


def _create(path: Path, size_bytes: int, made: list[int]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            os.ftruncate(descriptor, size_bytes)  # a file system that cannot promise room
    except BaseException:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    made.append(descriptor)


def _remove(entries: list[_Entry]) -> None:
    for entry in entries:
        os.close(entry.file.descriptor)
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as exc:
            log.warning("%s cannot be removed: %s", entry.path, exc.strerror or exc)
