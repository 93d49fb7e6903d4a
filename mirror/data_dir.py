"""The data directory belongs to one daemon at a time. Two with one node id would undo each other's records."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mirror.errors import MirrorError

LOCK_FILE = "lock"


class DataDirTaken(MirrorError):
    """Another daemon runs with this data directory, or it cannot be written."""


@contextlib.contextmanager
def owned(data_dir: Path) -> Iterator[None]:
    """Holds the directory (made with 0700 where there is none) until the block ends; the kernel lets go when the
    process dies. Raises: DataDirTaken."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A kubelet that made it for a pod let every user in, and layers of private images will be below.
        if not any(data_dir.iterdir()) and data_dir.stat().st_uid == os.geteuid():
            data_dir.chmod(0o700)
        file = (data_dir / LOCK_FILE).open("ab")
    except OSError as exc:
        raise DataDirTaken(
            f"{data_dir} cannot be written: {exc.strerror or exc}; mend it, or choose another --data-dir"
        ) from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise DataDirTaken(
                f"{data_dir} is in use by another daemon; stop it, or give this one another --data-dir"
            ) from exc
        # For `daemon_pid`.
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def is_owned(data_dir: Path) -> bool:
    """Whether a daemon has the directory now."""
    try:
        file = (data_dir / LOCK_FILE).open("rb")
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def daemon_pid(data_dir: Path) -> int | None:
    """Of the daemon that has the directory now; None: there is none. Raises: DataDirTaken where the process is not seen
    here. The number in the file is believed only of a process that has the file open: another one may have it by now,
    or in this process namespace."""
    if not is_owned(data_dir):
        return None
    with contextlib.suppress(OSError, ValueError):
        pid = int((data_dir / LOCK_FILE).read_bytes())
        if _has_open(pid, data_dir / LOCK_FILE):
            return pid
    raise DataDirTaken(
        f"{data_dir} is in use by a daemon that is not among the processes seen here (in a container, say): stop it "
        f"there, then run this again"
    )


def _has_open(pid: int, path: Path) -> bool:
    """Raises: OSError where that cannot be seen."""
    wanted = path.stat()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may be closed meanwhile.
        with contextlib.suppress(OSError):
            if os.path.samestat(link.stat(), wanted):
                return True
    return False
