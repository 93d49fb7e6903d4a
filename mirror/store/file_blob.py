"""A blob that is an open file. Refuses to know its name: it stays readable when the file is unlinked."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from mirror.errors import StoreUnavailable
from mirror.oci.byterange import ByteSpan

# The port's limit. Larger reads bring nothing: 64 KiB and 1 MiB read at the same rate from the page cache.
CHUNK_MAX_BYTES = 1024 * 1024

# Reads up to this size are tried on the loop, from the page cache only: a thread would cost more.
INLINE_READ_MAX_BYTES = 64 * 1024


class FileBlob:
    """Owns its descriptor."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self._descriptor: int | None = descriptor
        self._size_bytes = size_bytes

    @staticmethod
    def open(path: Path) -> FileBlob:
        """Opening is one look-up in a warm directory, so it is done without a thread. Raises:
        FileNotFoundError, also where a link or anything but a plain file has that name; OSError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise FileNotFoundError(errno.ENOENT, "a link, not a plain file", str(path)) from exc
            raise
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a plain file", str(path))
        except BaseException:
            os.close(descriptor)
            raise
        return FileBlob(descriptor, status.st_size)

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    @property
    def descriptor(self) -> int | None:
        return self._descriptor

    async def chunks(self, span: ByteSpan) -> AsyncIterator[bytes]:
        assert span.stop <= self._size_bytes, (span, self._size_bytes)
        position = span.start
        while position < span.stop:
            chunk = await self._read(min(CHUNK_MAX_BYTES, span.stop - position), position)
            position += len(chunk)
            yield chunk

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    async def _read(self, length_bytes: int, position: int) -> bytes:
        descriptor = self._descriptor
        if descriptor is None:
            raise StoreUnavailable("the blob was closed before it was read")
        chunk = _read_cached(descriptor, length_bytes, position)
        if not chunk:
            try:
                chunk = await asyncio.to_thread(os.pread, descriptor, length_bytes, position)
            except OSError as exc:
                raise StoreUnavailable(f"the blob cannot be read at {position}: {exc}") from exc
            if self._descriptor is None:
                # The number may have been another file's while the thread read.
                raise StoreUnavailable("the blob was closed while it was read")
        if not chunk:
            raise StoreUnavailable(f"the blob's file ends at {position}, not at {self._size_bytes}")
        return chunk


def _read_cached(descriptor: int, length_bytes: int, position: int) -> bytes | None:
    """What the page cache holds. None: nothing, or the file system cannot tell."""
    if length_bytes > INLINE_READ_MAX_BYTES:
        return None
    buffer = bytearray(length_bytes)
    try:
        count = os.preadv(descriptor, [buffer], position, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(buffer[:count])
