"""Reads hosts directories and changes them so that a crash at any point leaves the old or the new file.

It does not know what the files say.

Rules
1. A file is replaced by a rename of a finished, synced file in the same directory. A new directory
   appears by a rename with its hosts.toml inside: an empty one would hide `_default` from containerd.
2. Names of unfinished files are ours alone, so that the next run can sweep them away.
3. OSError leaves this module as it is; `explained` makes an error for the operator of it.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from containerd.hosts.errors import HostsDirBusy, HostsDirUnusable, HostsFileInvalid

HOSTS_TOML = "hosts.toml"

FILE_LIMIT_BYTES = 256 * 1024
"""A hosts.toml has some hundred bytes; what is larger is something else, and is not read into memory."""

LOCK_WAIT_S = 10.0
"""A run takes well under a second; who holds the lock longer is stuck."""

_LOCK_POLL_S = 0.05
"""How often a lock that is held is tried again."""

FILE_MODE = 0o644
DIRECTORY_MODE = 0o755
_PRIVATE_FILE_MODE = 0o600
_PRIVATE_DIRECTORY_MODE = 0o700

_UNFINISHED_FILE = ".hosts.toml.peili"
_UNFINISHED_DIRECTORIES = ".peili.*.new"


@dataclass(frozen=True, slots=True)
class Meta:
    mode: int
    uid: int
    gid: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    content: bytes
    meta: Meta
    link: str | None
    """Where it points to, if it is a symbolic link; content and meta are then those of the file behind it."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A finished file or directory that only waits for its rename."""

    temporary: Path
    target: Path


def read(path: Path) -> Found | None:
    """None when nothing is there; a link to nothing is empty, as it is to containerd.

    Raises: HostsFileInvalid, OSError.
    """
    try:
        link = str(path.readlink()) if path.is_symlink() else None
        status = path.stat() if path.exists() else path.lstat()
    except FileNotFoundError:
        return None
    meta = Meta(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        return Found(b"", meta, link)
    if not stat.S_ISREG(status.st_mode):
        raise HostsFileInvalid(str(path), None, "not a file")
    with path.open("rb") as file:
        content = file.read(FILE_LIMIT_BYTES + 1)
    if len(content) > FILE_LIMIT_BYTES:
        raise HostsFileInvalid(str(path), None, f"larger than {FILE_LIMIT_BYTES} bytes")
    return Found(content, meta, link)


def names(directory: Path) -> tuple[str, ...]:
    """The names of the files in it, sorted; links to files count."""
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir() if not entry.is_dir()))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def directories(directory: Path) -> tuple[str, ...]:
    try:
        return tuple(sorted(entry.name for entry in directory.iterdir() if entry.is_dir()))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def stage(directory: Path, content: bytes, meta: Meta | None, number: int) -> Staged:
    """hosts.toml for `directory`, which is made too when it is not there. `number` is unique within a run."""
    if directory.exists():
        temporary = directory / _UNFINISHED_FILE
        _write(temporary, content, meta)
        return Staged(temporary, directory / HOSTS_TOML)
    temporary = directory.parent / _UNFINISHED_DIRECTORIES.replace("*", str(number))
    temporary.mkdir()
    try:
        temporary.chmod(DIRECTORY_MODE)
        _write(temporary / HOSTS_TOML, content, meta)
        _sync(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Staged(temporary, directory)


def commit(staged: Staged) -> None:
    staged.temporary.rename(staged.target)
    _sync(staged.target.parent)


def discard(staged: Iterable[Staged]) -> None:
    """Takes away what was not committed; what cannot be taken away, the next run sweeps."""
    for item in staged:
        with contextlib.suppress(OSError):
            if item.temporary.is_dir():
                shutil.rmtree(item.temporary)
            else:
                item.temporary.unlink(missing_ok=True)


def replace(path: Path, content: bytes, meta: Meta, *, keep_mtime: bool) -> None:
    temporary = path.with_name(_UNFINISHED_FILE)
    _write(temporary, content, meta)
    if keep_mtime:
        os.utime(temporary, ns=(meta.mtime_ns, meta.mtime_ns))
    commit(Staged(temporary, path))


def replace_by_link(path: Path, link: str) -> None:
    temporary = path.with_name(_UNFINISHED_FILE)
    temporary.symlink_to(link)
    commit(Staged(temporary, path))


def remove(path: Path) -> None:
    path.unlink()
    _sync(path.parent)


def remove_if_empty(directory: Path) -> bool:
    """True when it is gone. Not there, or not empty, or a mount point: nothing happens."""
    try:
        directory.rmdir()
    except OSError:
        return not directory.exists()
    _sync(directory.parent)
    return True


def write_private(path: Path, content: bytes) -> None:
    """Readable for its owner alone: what it copies may hold credentials."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    _write(temporary, content, None, _PRIVATE_FILE_MODE)
    commit(Staged(temporary, path))


def make_private_directory(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(mode=_PRIVATE_DIRECTORY_MODE)
        _sync(path.parent)


@contextlib.contextmanager
def appearing(directory: Path) -> Iterator[Path]:
    """Gives a directory to fill, which then becomes `directory` in one step."""
    temporary = _aside(directory)
    sweep_aside(directory)
    temporary.mkdir()
    try:
        temporary.chmod(DIRECTORY_MODE)
        yield temporary
        commit(Staged(temporary, directory))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def vanish(directory: Path) -> None:
    """The directory is gone in one step, with all that is in it."""
    aside = _aside(directory)
    sweep_aside(directory)
    commit(Staged(directory, aside))
    shutil.rmtree(aside)


def sweep_aside(directory: Path) -> None:
    """Takes away what a crash left of `appearing` or `vanish`."""
    if _aside(directory).exists():
        shutil.rmtree(_aside(directory))


def _aside(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.peili.new")


def sweep(root: Path) -> None:
    """Takes away what an earlier run left unfinished in this hosts directory."""
    for unfinished in root.glob(_UNFINISHED_DIRECTORIES):
        shutil.rmtree(unfinished)
    for unfinished in root.glob(f"*/{_UNFINISHED_FILE}"):
        unfinished.unlink()


@contextlib.contextmanager
def explained(hosts_dir: Path) -> Iterator[None]:
    """Raises: HostsDirUnusable, in the place of an OSError."""
    try:
        yield
    except OSError as error:
        raise HostsDirUnusable(
            f"{error.filename or hosts_dir}: {error.strerror or error}; "
            f"peili must be able to read and write below {hosts_dir}"
        ) from error


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One process at a time. The lock is on the directory itself and leaves no file. Raises: HostsDirBusy."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the directory, and another may have made it anew.
            if os.fstat(descriptor).st_ino == directory.stat().st_ino:
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise HostsDirBusy(f"{directory}: another process is changing it; try again") from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_LOCK_POLL_S)
    try:
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, meta: Meta | None, mode: int = FILE_MODE) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if meta is not None and (meta.uid, meta.gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, meta.uid, meta.gid)
            # After the owner: a change of owner clears bits of the mode.
            os.fchmod(descriptor, mode if meta is None else meta.mode)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
