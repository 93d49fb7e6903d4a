"""Removes a daemon's data directory, and refuses every other directory.

Rules
1. Only names that the daemon gives are removed; what somebody else put there stays, and then so does the directory.
2. Nothing is removed while a daemon has the directory: its lock is waited for, and held until the end.
3. No symbolic link is followed: one in the directory is removed itself, a directory that is one is refused.
4. A crash at any point leaves something that the next run takes away.
5. What `peili up` must know to give the host back is not thrown away before that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mirror.data_dir import LOCK_FILE
from mirror.errors import MirrorError
from mirror.host.ledger import LEDGER_FILE

# A daemon that was told to stop drains for ten seconds and leaves in two; after thirty Kubernetes kills it.
LOCK_WAIT_S = 40.0
# flock waits for ever or not at all.
_LOCK_POLL_S = 0.1

# What the daemon makes in its data directory; a test compares this with the modules that do.
FILES = ("host.json", "node.json", "origins.json", "peers.msgpack", "records.msgpack", "secret")
FOLDERS = ("cache", "spool", "store")
# Of a file that could not be read and was set aside.
_ASIDE = ".damaged"


class DataDirKept(MirrorError):
    """The directory was not removed, as it is not a data directory, is in use, or cannot be written."""


@dataclass(frozen=True, slots=True)
class Removal:
    """`is_gone`: nothing stands at the path. `foreign`: names in it that are not ours."""

    is_gone: bool
    foreign: tuple[str, ...]


def is_ours(name: str) -> bool:
    if name in (LOCK_FILE, *FILES, *FOLDERS):
        return True
    # Half-written ones of a killed daemon are called .NAME.SOMETHING.
    return any(name == file + _ASIDE or name.startswith(f".{file}.") for file in FILES)


def remove(data_dir: Path, *, is_given_back: bool = False) -> Removal:
    """Idempotent. A mount point is emptied and stays. `is_given_back`: the host is, where `peili up` had it. Raises:
    DataDirKept."""
    try:
        if not is_given_back and (data_dir / LEDGER_FILE).exists():
            raise DataDirKept(
                f"{data_dir} says what peili up changed on this host: peili down undoes that, and removes it"
            )
        return _remove(data_dir)
    except OSError as exc:
        raise DataDirKept(
            f"{exc.filename or data_dir} cannot be removed: {exc.strerror or exc}; remove {data_dir} by hand"
        ) from exc


def _remove(data_dir: Path) -> Removal:
    try:
        # Held open: what is looked at is what is emptied, whatever is put at the path meanwhile.
        directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return Removal(True, ())
    except OSError as exc:
        if not data_dir.is_symlink():
            raise
        raise DataDirKept(
            f"{data_dir} is a symbolic link, which is not followed: remove what it points to by hand"
        ) from exc
    try:
        names = os.listdir(directory)  # noqa: PTH208 - of the descriptor
        if names and LOCK_FILE not in names:
            raise DataDirKept(
                f"{data_dir} is not a data directory of peili: it has no file '{LOCK_FILE}'; nothing was removed"
            )
        if names:
            _empty(data_dir, directory)
        foreign = tuple(sorted(os.listdir(directory)))  # noqa: PTH208
    finally:
        os.close(directory)
    if foreign:
        return Removal(False, foreign)
    with suppress(OSError):  # a mount point
        data_dir.rmdir()
    return Removal(not data_dir.exists(), ())


def _empty(data_dir: Path, directory: int) -> None:
    lock = os.open(LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    try:
        _hold(lock, data_dir)
        # Listed only now: a daemon writes what it knows as it ends.
        names = os.listdir(directory)
        # The lock goes last: a directory without one is not taken for ours. Before it the ledger, without which nobody
        # would come back.
        last = (LEDGER_FILE, LOCK_FILE)
        for name in sorted(filter(is_ours, names), key=lambda name: last.index(name) if name in last else -1):
            if stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
                shutil.rmtree(name, dir_fd=directory)
            else:
                os.unlink(name, dir_fd=directory)
    finally:
        os.close(lock)


def _hold(lock: int, data_dir: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DataDirKept(
                    f"{data_dir} is in use by a daemon; stop it, then run cleanup again; its data was not removed"
                ) from None
        time.sleep(_LOCK_POLL_S)
