"""When to look at containerd's folders again: at a sign of inotify, or when the time is up.

Two kinds, one question. `InotifySigns` also knows which names came into the folder of blobs; `PolledSigns` takes
its place where inotify cannot be had (no watch or instance is left for this user, or containerd never ran). containerd
makes the folders with its first download: until then the folders above them are watched, since the small layers of that
download may be gone before a poll. Looks at nothing itself.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from asyncinotify import Event, Inotify, Mask

from mirror.ingest.ingest_folder import BlobChanges, BlobNames, BlobsUnknown

# How often to look without inotify. Other hosts wait for what is noticed here; a look takes 0.1 ms.
POLL_S = 0.05

# How long to poll before inotify is tried again.
INOTIFY_RETRY_S = 60.0

# Events read in one go; building one takes some 20 us on the loop. More stay in the kernel's queue, and its
# overflow is an event, too.
BATCH_MAX_COUNT = 256

_CAME = Mask.CREATE | Mask.MOVED_TO
_WENT = Mask.DELETE | Mask.MOVED_FROM
_FOLDER = Mask.DELETE_SELF | Mask.MOVE_SELF
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED


class Signs(Protocol):
    @property
    def polling_because(self) -> str | None:
        """Why inotify is not used; None when it is."""
        ...

    @property
    def waits_for_folders(self) -> bool:
        """inotify can be had as soon as containerd has run: then open new signs."""
        ...

    async def wait(self, longest_s: float) -> BlobChanges | None:
        """Returns at a sign, or after `longest_s` at the latest. None: these signs are at their end, open new
        ones and look at everything."""
        ...


@contextmanager
def open_signs(ingests: Path, blobs: Path) -> Iterator[Signs]:
    """When it is entered, nothing that happens from now on is missed: look at everything once."""
    try:
        inotify = Inotify(cache_size=BATCH_MAX_COUNT // 4, sync_timeout=0)
    except OSError as exc:
        yield _polled(exc)
        return
    with inotify:
        signs: Signs
        try:
            signs = _watching(inotify, ingests, blobs)
        except OSError as exc:
            inotify.close()
            signs = _polled(exc)
        yield signs


def _watching(inotify: Inotify, ingests: Path, blobs: Path) -> InotifySigns:
    """Raises: OSError."""
    # containerd makes the folder of its content with the first download, too.
    root = ingests.parent.parent
    awaited: set[int] = set()
    for folder in {*_there(ingests, root), *_there(blobs, root)}:
        awaited.add(inotify.add_watch(folder, _CAME | _FOLDER | Mask.ONLYDIR).wd)
    blobs_wd = None
    for folder, mask in ((ingests, _CAME | _WENT), (blobs, Mask.MOVED_TO | _WENT)):
        try:
            watch = inotify.add_watch(folder, mask | _FOLDER | Mask.ONLYDIR)
        except FileNotFoundError:
            # It is awaited; or it went just now, and so may what is above it.
            if not awaited:
                raise
        else:
            blobs_wd = watch.wd if folder == blobs else blobs_wd
    return InotifySigns(inotify, blobs_wd, awaited)


def _there(folder: Path, root: Path) -> list[Path]:
    """What there is of the way from `root` to a folder that is not there; all of it, since the rest may come any
    moment."""
    if folder.exists():
        return []
    above = [one for one in folder.parents if one == root or root in one.parents]
    return [one for one in above if one.exists()]


class InotifySigns:
    """`awaited`: watches of folders above those that are not there yet. Whatever comes there ends these signs."""

    polling_because = None
    waits_for_folders = False

    def __init__(self, inotify: Inotify, blobs_wd: int | None, awaited: Collection[int]) -> None:
        self._inotify = inotify
        self._blobs_wd = blobs_wd
        self._awaited = awaited
        self._may_have_more = False

    async def wait(self, longest_s: float) -> BlobChanges | None:
        if self._may_have_more:
            # Already read by the library, so that the descriptor would not tell.
            return self._take()
        # Not `Inotify.get`: what it has read is lost when the time is up at the same moment.
        readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._inotify.fd, readable.set)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(longest_s):
                    await readable.wait()
        finally:
            loop.remove_reader(self._inotify.fd)
        return self._take()

    def _take(self) -> BlobChanges | None:
        arrived: set[str] = set()
        gone: set[str] = set()
        is_overflown = False
        self._may_have_more = True
        for _ in range(BATCH_MAX_COUNT):
            event = self._inotify.sync_get()  # Without a wait: sync_timeout is 0.
            if event is None:
                self._may_have_more = False
                break
            if event.mask & _GONE or (event.watch is not None and event.watch.wd in self._awaited):
                return None
            if event.mask & Mask.Q_OVERFLOW:
                is_overflown = True
            elif self._is_of_blobs(event):
                name = str(event.name)
                if event.mask & Mask.MOVED_TO:
                    arrived.add(name)
                else:
                    arrived.discard(name)
                    gone.add(name)
        return BlobsUnknown() if is_overflown else BlobNames(arrived, gone)

    def _is_of_blobs(self, event: Event) -> bool:
        return event.watch is not None and event.watch.wd == self._blobs_wd


class PolledSigns:
    def __init__(self, polling_because: str, *, waits_for_folders: bool) -> None:
        self.polling_because: str | None = polling_because
        self.waits_for_folders = waits_for_folders
        self._left_s = INOTIFY_RETRY_S

    async def wait(self, longest_s: float) -> BlobChanges | None:
        nap_s = min(longest_s, POLL_S)
        await asyncio.sleep(nap_s)
        self._left_s -= nap_s
        return BlobsUnknown() if self._left_s > 0 else None


def _polled(exc: OSError) -> PolledSigns:
    where = f" {exc.filename}" if exc.filename else ""
    reason = f"inotify cannot watch{where}: {exc.strerror or exc}"
    if exc.errno in (errno.ENOSPC, errno.EMFILE):
        reason += ". Raise fs.inotify.max_user_watches or max_user_instances"
    return PolledSigns(reason, waits_for_folders=exc.errno == errno.ENOENT)
