"""A folder as a container of files. Blocking.

Follows no link: what a stick brings shall not name files of this host.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from mirror.archive.container import CHUNK_BYTES
from mirror.archive.errors import ArchiveInvalid


class LayoutFolder:
    """Implements `Container`."""

    def __init__(self, title: str, root: Path) -> None:
        self._title = title
        self._root = root

    @property
    def title(self) -> str:
        return self._title

    def size_bytes(self, name: str) -> int | None:
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def read(self, name: str, max_bytes: int) -> bytes | None:
        descriptor = self._open(name)
        if descriptor is None:
            return None
        with os.fdopen(descriptor, "rb") as file:
            data = self._read(file.fileno(), max_bytes + 1, name)
        if len(data) > max_bytes:
            raise self._invalid(name, f"has more than the {max_bytes} bytes it may have")
        return data

    def chunks(self, name: str) -> Iterator[bytes]:
        descriptor = self._open(name)
        if descriptor is None:
            raise self._invalid(name, "is gone")
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while chunk := self._read(file.fileno(), CHUNK_BYTES, name):
                yield chunk

    def in_order(self, names: Iterable[str]) -> list[str]:
        return list(names)

    def _read(self, descriptor: int, size_bytes: int, name: str) -> bytes:
        """So many bytes, or up to the end."""
        data = bytearray()
        try:
            while len(data) < size_bytes and (more := os.read(descriptor, size_bytes - len(data))):
                data += more
        except OSError as exc:
            raise self._invalid(name, f"cannot be read: {exc.strerror}") from exc
        return bytes(data)

    def _open(self, name: str) -> int | None:
        """Component by component: none of them may be a link. Raises: ArchiveInvalid."""
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts:
            raise self._invalid(name, "leads outside")
        if not parts:
            raise self._invalid(name, "is no plain file")
        *folders, last = parts
        descriptor = -1
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for folder in folders:
                inner = os.open(
                    folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=descriptor
                )
                os.close(descriptor)
                descriptor = inner
            # NONBLOCK: a pipe must not hold us.
            file = os.open(
                last, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor
            )
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._invalid(name, f"cannot be read: {exc.strerror}; it must be no link") from exc
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise self._invalid(name, "is no plain file")
        return file

    def _invalid(self, name: str, message: str) -> ArchiveInvalid:
        return ArchiveInvalid(f"{self._title}: {name[:200]} {message}")
