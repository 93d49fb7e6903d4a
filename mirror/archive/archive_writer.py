"""Writes an archive: a tar, or the folder of an OCI layout. Blocking.

Rules
1. It comes into being under a name of its own beside the place where it shall be, and takes that place in one step,
   whole and on the disk. What ends before leaves nothing.
2. The same files give the same bytes: no times, no owners, one mode.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from mirror.archive.errors import ExportFailed
from mirror.store.oci_layout import sync_folder

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


class ArchiveWriter(Protocol):
    def begin(self, name: str, size_bytes: int) -> None:
        """The next file; all of the last one is written."""
        ...

    def write(self, chunk: bytes) -> None: ...


@contextmanager
def archive_writer(target: Path, *, is_folder: bool) -> Iterator[ArchiveWriter]:
    """Left without an error, the archive stands at `target`, where that is a link at what it leads to. Raises:
    ExportFailed."""
    # Else the link itself would be replaced.
    target = Path(os.path.realpath(target))
    try:
        with _folder(target) if is_folder else _tar(target) as writer:
            yield writer
    except OSError as exc:
        raise ExportFailed(f"{target} cannot be written: {exc.strerror or exc}") from exc


@contextmanager
def _tar(target: Path) -> Iterator[ArchiveWriter]:
    # A device or a pipe would be replaced, not written to.
    if target.exists() and not target.is_file():
        raise ExportFailed(f"{target} is there and is no plain file: name another")
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer = _TarWriter(file)
            yield writer
            writer.end()
            file.flush()
            os.fchmod(file.fileno(), _FILE_MODE & ~_umask())
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


@contextmanager
def _folder(target: Path) -> Iterator[ArchiveWriter]:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportFailed(f"{target} is not empty: name a folder that is, or none")
    if target.is_mount():
        raise ExportFailed(f"{target} is the root of a mounted disk: name a folder in it, which is made")
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    writer = _FolderWriter(draft)
    try:
        yield writer
        writer.end()
        draft.chmod(_FOLDER_MODE & ~_umask())
        draft.replace(target)
    except BaseException:
        writer.give_up()
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(target.parent)


class _TarWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._folders: set[str] = set()
        self._padding = b""

    def begin(self, name: str, size_bytes: int) -> None:
        self._file.write(self._padding)
        for folder in reversed(PurePosixPath(name).parents[:-1]):
            if str(folder) not in self._folders:
                self._folders.add(str(folder))
                self._header(f"{folder}/", 0, tarfile.DIRTYPE, _FOLDER_MODE)
        self._header(name, size_bytes, tarfile.REGTYPE, _FILE_MODE)
        self._padding = bytes(-size_bytes % tarfile.BLOCKSIZE)

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def end(self) -> None:
        self._file.write(self._padding)
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _header(self, name: str, size_bytes: int, kind: bytes, mode: int) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.type, entry.mode = size_bytes, kind, mode
        self._file.write(entry.tobuf(tarfile.PAX_FORMAT))


class _FolderWriter:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: set[Path] = {root}
        self._file: IO[bytes] | None = None

    def begin(self, name: str, size_bytes: int) -> None:
        self._close()
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folders |= {self._root / parent for parent in PurePosixPath(name).parents}
        self._file = path.open("xb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None, "no file was begun"
        self._file.write(chunk)

    def end(self) -> None:
        self._close()
        for folder in self._folders:
            sync_folder(folder)

    def give_up(self) -> None:
        if self._file is not None:
            # What it has not written yet, it need not.
            with suppress(OSError):
                self._file.close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _umask() -> int:
    """There is no other way to read it. One thread."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
