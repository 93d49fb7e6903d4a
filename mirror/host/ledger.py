"""Changes files of this host, and gives them back: what `peili up` did is written down before it is done.

It knows no file's meaning; hosts.toml files have a keeper of their own (`containerd.hosts`).

Rules
1. The ledger names a file, with its original bytes, mode, owner and time, before the file changes. A crash at any
   point leaves the old or the new file, and both can be given back.
2. Giving back restores only what still is as it was left. A file that somebody edited since stays, and is named.
3. A symbolic link is not written through: who made it has a reason, such as a store of configurations.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import msgspec

from mirror import whole_file
from mirror.data_dir import LOCK_FILE
from mirror.host.changes import FileChange
from mirror.host.errors import HostError

LEDGER_FILE = "host.json"
SECRET_FILE = "secret"  # noqa: S105 - its name
FORMAT = 1
# Configuration files have some kilobytes; what is larger is something else and is not read into memory.
FILE_MAX_BYTES = 2**20
# In the names of half-written files: beside a user's own, other names are his.
_MARK = "peili."
_DIRECTORY_MODE = 0o755
_PRIVATE_DIRECTORY_MODE = 0o700
_PRIVATE_FILE_MODE = 0o600


class LedgerDamaged(HostError):
    """The ledger cannot be read, so nothing is changed or given back."""


class _Original(msgspec.Struct, frozen=True):
    content: bytes
    mode: int
    uid: int
    gid: int
    mtime_ns: int


class Entry(msgspec.Struct, frozen=True):
    """`original` None: there was no file. `made_directories`: the outermost first."""

    path: str
    written_sha256: str
    original: _Original | None
    made_directories: tuple[str, ...] = ()


class Ledger(msgspec.Struct, frozen=True):
    """What was done to this host, in the order in which it was done. `hosts_dirs`: where `containerd.hosts` wrote.
    `service`: the systemd unit that was installed. `restart`: the command after which containerd reads its
    configuration. `cluster` and `peers` (HOST:PORT): what a join line said. `flags`: of serve and configure, by
    field."""

    format: int = FORMAT
    hosts_dirs: tuple[str, ...] = ()
    service: str | None = None
    restart: str | None = None
    cluster: str | None = None
    peers: tuple[str, ...] = ()
    flags: dict[str, tuple[str, ...]] = {}
    files: tuple[Entry, ...] = ()

    def entry(self, path: str) -> Entry | None:
        return next((one for one in self.files if one.path == path), None)


class Outcome(StrEnum):
    WRITTEN = "written"
    UNCHANGED = "unchanged"
    RESTORED = "restored"
    REMOVED = "removed"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Done:
    """`KEPT`: somebody has edited it since, and what peili wrote may still be in it."""

    path: str
    outcome: Outcome


@contextlib.contextmanager
def begun(data_dir: Path) -> Iterator[None]:
    """One of up and down at a time; makes the data directory (0700) where there is none. Raises: HostError."""
    with _explained(data_dir):
        if not data_dir.is_dir():
            data_dir.mkdir(mode=_PRIVATE_DIRECTORY_MODE, parents=True)
        # A directory without it is not taken for ours once all is to go.
        (data_dir / LOCK_FILE).touch(mode=_PRIVATE_FILE_MODE)
        directory = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise HostError(
                "another peili up or down is at work on this host: wait until it has ended"
            ) from exc
        yield
    finally:
        os.close(directory)


def load(data_dir: Path) -> Ledger | None:
    """None where nothing was done to this host. Raises: LedgerDamaged."""
    path = data_dir / LEDGER_FILE
    try:
        ledger = msgspec.json.decode(path.read_bytes(), type=Ledger)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, RecursionError) as exc:
        raise LedgerDamaged(
            f"{path} cannot be read: {exc}; it says what peili up changed on this host, and nothing was changed now"
        ) from exc
    if ledger.format != FORMAT:
        raise LedgerDamaged(
            f"{path} was written by another release of peili (format {ledger.format}): use that release"
        )
    return ledger


def save(data_dir: Path, ledger: Ledger) -> None:
    """Raises: HostError."""
    with _explained(data_dir):
        whole_file.replace(data_dir / LEDGER_FILE, msgspec.json.encode(ledger))


def make(data_dir: Path, changes: Sequence[FileChange]) -> list[Done]:
    """Makes them, in order. The data directory must be there. Raises: HostError; what was made until then is in the
    ledger."""
    done = []
    for change in changes:
        with _explained(Path(change.path)):
            done.append(_make(data_dir, change))
    return done


def give_back(data_dir: Path) -> list[Done]:
    """Undoes them, the last first, and forgets each that is undone. Idempotent. Raises: HostError."""
    done = []
    ledger = load(data_dir) or Ledger()
    for entry in reversed(ledger.files):
        with _explained(Path(entry.path)):
            done.append(Done(entry.path, _give_back(entry)))
        ledger = msgspec.structs.replace(
            ledger, files=tuple(one for one in ledger.files if one.path != entry.path)
        )
        save(data_dir, ledger)
    return done


def _make(data_dir: Path, change: FileChange) -> Done:
    path = Path(change.path)
    _sweep(path)
    found = _read(path)
    if found is not None and found.content == change.content:
        return Done(change.path, Outcome.UNCHANGED)
    ledger = load(data_dir) or Ledger()
    before = ledger.entry(change.path)
    # What we wrote is no original; what a user made of it since is what he has now.
    is_ours = before is not None and found is not None and _digest(found.content) == before.written_sha256
    original = before.original if is_ours and before is not None else found
    missing = _missing_directories(path.parent)
    # A crash may have left some of those made that it names. In the order of text, outer ones are first.
    made = tuple(sorted({*missing, *(before.made_directories if before is not None else ())}))
    entry = Entry(change.path, _digest(change.content), original, made)
    others = tuple(one for one in ledger.files if one.path != change.path)
    save(data_dir, msgspec.structs.replace(ledger, files=(*others, entry)))
    for directory in missing:
        Path(directory).mkdir(mode=_DIRECTORY_MODE)
        Path(directory).chmod(_DIRECTORY_MODE)
    _write(path, change.content, found, change.mode)
    return Done(change.path, Outcome.WRITTEN)


def _give_back(entry: Entry) -> Outcome:
    path = Path(entry.path)
    _sweep(path)
    found = None if path.is_symlink() else _read(path)
    outcome = Outcome.KEPT
    if found is None and not path.is_symlink():
        # Never written, or removed by the user.
        outcome = Outcome.REMOVED
    elif found is not None and entry.original is not None and found.content == entry.original.content:
        outcome = Outcome.RESTORED
    elif found is not None and _digest(found.content) == entry.written_sha256:
        if entry.original is None:
            path.unlink()
            outcome = Outcome.REMOVED
        else:
            # Mode and owner were left as they were: what they are now is the same, or the user's wish.
            _write(path, entry.original.content, found, found.mode, entry.original.mtime_ns)
            outcome = Outcome.RESTORED
    for directory in reversed(entry.made_directories):
        try:
            Path(directory).rmdir()
        except FileNotFoundError:  # a crash came before it was made, and after those around it
            continue
        except OSError:  # not empty
            break
    return outcome


def _read(path: Path) -> _Original | None:
    """Raises: HostError, OSError."""
    if path.is_symlink():
        raise HostError(
            f"{path} is a symbolic link to {path.readlink()}, and peili changes no file through a link: make the "
            f"change where the link leads, or put a file in its place"
        )
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size > FILE_MAX_BYTES:
        raise HostError(f"{path} is no configuration file: move it away")
    return _Original(
        path.read_bytes(), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns
    )


def _write(
    path: Path, content: bytes, keeps: _Original | None, mode: int, mtime_ns: int | None = None
) -> None:
    """`keeps`: whose owner and mode it gets."""

    def finish(descriptor: int) -> None:
        if keeps is not None:
            os.fchown(descriptor, keeps.uid, keeps.gid)
        # After the owner: a change of owner clears bits of the mode.
        os.fchmod(descriptor, mode if keeps is None else keeps.mode)
        if mtime_ns is not None:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    whole_file.replace(path, content, mark=_MARK, finish=finish)


def _sweep(path: Path) -> None:
    """Takes away what a killed process left unfinished."""
    if path.parent.is_dir():
        for name in os.listdir(path.parent):  # noqa: PTH208 - a glob would read the file's name as a pattern
            if name.startswith(f".{path.name}.{_MARK}"):
                (path.parent / name).unlink()


def _missing_directories(directory: Path) -> tuple[str, ...]:
    missing: list[str] = []
    while not directory.is_dir():
        missing.insert(0, str(directory))
        directory = directory.parent
    return tuple(missing)


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raises: HostError, in the place of an OSError."""
    try:
        yield
    except OSError as exc:
        raise HostError(
            f"{exc.filename or path} cannot be changed: {exc.strerror or exc}; mend that, then run this again"
        ) from exc
