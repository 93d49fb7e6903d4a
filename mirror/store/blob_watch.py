"""When files in the folders of blobs come or go. Says that something changed, never what: the caller looks.

inotify where it is to be had. Else (no watch or instance left for this user, or a folder that is not there
yet) the folders' modification times are polled. Commits are renames in both stores' folders, so a file that
is still being written is not a change until it is closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from asyncinotify import Inotify, Mask

log = logging.getLogger(__name__)

# One stat of a folder takes microseconds, and other hosts wait for what is noticed here.
POLL_S = 0.1

# How long to poll before inotify is tried again.
INOTIFY_RETRY_S = 60.0

# A modification time is as coarse as the kernel's tick (4 ms, or 1 s on old file systems): a change right
# after a look may leave it the same, so a folder that changed this recently is looked at once more.
RACY_S = 2.0

# Events read in one go. More stay in the kernel's queue; its overflow is an event, too.
_READ_MAX_COUNT = 64

_CHANGED = Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CLOSE_WRITE
_GONE = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED


class BlobWatch:
    """Watches folders that need not exist yet."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)
        self._polling_because: str | None = None

    @property
    def polling_because(self) -> str | None:
        """Why inotify is not used now; None when it is."""
        return self._polling_because

    async def changes(self) -> AsyncGenerator[None, None]:
        """The first item says that the watch stands: look once then, and nothing is lost. Changes while the
        consumer is busy are one item. Never ends, never raises for what happens to the folders."""
        while True:
            inotify = self._open()
            if inotify is None:
                waits_for_folder = not self._all_exist()
                give_up_at = time.monotonic() + INOTIFY_RETRY_S
                look_again_at = give_up_at
                seen = self._state()
                yield
                while time.monotonic() < give_up_at and not (waits_for_folder and self._all_exist()):
                    await asyncio.sleep(POLL_S)
                    before, seen = seen, self._state()
                    if seen != before:
                        look_again_at = time.monotonic() + RACY_S
                        yield
                    elif time.monotonic() >= look_again_at:
                        look_again_at = give_up_at
                        yield
            else:
                self._polling_because = None
                with inotify:
                    yield
                    while await _wait(inotify):
                        yield

    def _open(self) -> Inotify | None:
        try:
            inotify = Inotify(cache_size=_READ_MAX_COUNT, sync_timeout=0)
        except OSError as exc:
            self._note(exc)
            return None
        try:
            for folder in self._folders:
                inotify.add_watch(folder, _CHANGED | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR)
        except OSError as exc:
            self._note(exc)
            inotify.close()
            return None
        return inotify

    def _note(self, exc: OSError) -> None:
        reason = f"inotify cannot watch {', '.join(map(str, self._folders))}: {exc.strerror or exc}"
        if reason == self._polling_because:
            return
        self._polling_because = reason
        if exc.errno in (errno.ENOSPC, errno.EMFILE):
            log.warning(
                "%s; polling instead. Raise fs.inotify.max_user_watches or max_user_instances", reason
            )
        else:
            log.debug("%s; polling instead", reason)

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_folder_state(folder) for folder in self._folders)

    def _all_exist(self) -> bool:
        return None not in self._state()


async def _wait(inotify: Inotify) -> bool:
    """Waits for changes and takes all that are there. False: a folder is gone, or another has its name."""
    event = await inotify.get()
    stands = True
    while True:
        stands = stands and not event.mask & _GONE
        following = inotify.sync_get()  # Without a wait: sync_timeout is 0.
        if following is None:
            return stands
        event = following


def _folder_state(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
