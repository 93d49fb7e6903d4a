"""Opens what the user names: a folder, a file, or standard input. Blocking.

What comes through a pipe is read once, and all of it must be known to be good before any of it is written to a store:
it lies in a file without a name meanwhile, which never fills its disk over what all of ours may (`disk_room`).
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from mirror.archive.container import CHUNK_BYTES, Container
from mirror.archive.errors import ArchiveInvalid
from mirror.archive.layout_folder import LayoutFolder
from mirror.archive.tar_file import open_tar
from mirror.store.disk_room import DiskRoom

STANDARD_INPUT: Final = "-"
# Where there is no data directory: for large files, and no memory, which /tmp may be.
FALLBACK_SPOOL: Final = Path("/var/tmp")  # noqa: S108 - a file without a name
# How often the room on the disk is looked at.
LOOK_EVERY_BYTES: Final = 16 << 20
_STANDARD_INPUT_DESCRIPTOR = 0
_COMPRESSIONS = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ": "xz", b"BZh": "bzip2"}
_SIGN_BYTES = 6


@contextmanager
def opened(path: str, spool_dir: Path) -> Iterator[Container]:
    """Raises: ArchiveInvalid."""
    title = "standard input" if path == STANDARD_INPUT else path
    if path != STANDARD_INPUT and Path(path).is_dir():
        yield LayoutFolder(title, Path(path))
        return
    with _file(title, path, spool_dir) as file:
        yield open_tar(title, file)


def _file(title: str, path: str, spool_dir: Path) -> IO[bytes]:
    """Raises: ArchiveInvalid."""
    try:
        # NONBLOCK: a named pipe must not hold us.
        descriptor = (
            os.dup(_STANDARD_INPUT_DESCRIPTOR)
            if path == STANDARD_INPUT
            else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        )
    except OSError as exc:
        raise ArchiveInvalid(f"{title} cannot be read: {exc.strerror or exc}") from exc
    file: IO[bytes] = os.fdopen(descriptor, "rb")
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            if path != STANDARD_INPUT:
                raise ArchiveInvalid(f"{title} is no file: give a pipe as standard input, and - for its name")
            with file as pipe:
                file = _spooled(pipe, spool_dir)
        file.seek(0)
        _check(title, file)
    except BaseException:
        file.close()
        raise
    return file


def _spooled(pipe: IO[bytes], spool_dir: Path) -> IO[bytes]:
    """Raises: ArchiveInvalid."""
    folder = spool_dir if spool_dir.is_dir() else FALLBACK_SPOOL
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - handed on
        try:
            looked_at_bytes = -LOOK_EVERY_BYTES
            while chunk := pipe.read(CHUNK_BYTES):
                if file.tell() - looked_at_bytes >= LOOK_EVERY_BYTES:
                    looked_at_bytes = file.tell()
                    if DiskRoom.of(folder).excess_bytes(LOOK_EVERY_BYTES):
                        raise ArchiveInvalid(
                            f"standard input is larger than what {folder} has room for: name a file, which is read "
                            "where it lies"
                        )
                file.write(chunk)
            file.flush()
        except BaseException:
            file.close()
            raise
    except OSError as exc:
        raise ArchiveInvalid(f"standard input cannot be kept in {folder}: {exc.strerror or exc}") from exc
    return file


def _check(title: str, file: IO[bytes]) -> None:
    sign = file.read(_SIGN_BYTES)
    file.seek(0)
    for known, name in _COMPRESSIONS.items():
        if sign.startswith(known):
            raise ArchiveInvalid(f"{title} is compressed with {name}, and only gzip is read: unpack it first")
