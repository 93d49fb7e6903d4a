"""A blob that is being written into a folder: one file, hashed as it grows. All calls block.

The file is locked while its process lives, so that a later process can tell an abandoned one. Refuses to give
out a byte: only what is sealed can be published, and only whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

from mirror.errors import MirrorError
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.file_hash import hash_span

_SUFFIX = ".ingest"

# What containerd gives its blobs. Whoever may enter the folder may read them.
_BLOB_MODE = 0o444

# What is copied by hand goes through one buffer of this size, which stays in the CPU's own cache.
_BUFFER_BYTES = 256 * 1024

# How kernels and file systems say that they copy nothing between these two files.
_COPIES_NOT = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class DigestMismatch(MirrorError):
    """What was written is not what was announced: nothing of it is kept. Fetch it from another source."""


class IngestFile:
    """Construction does no I/O; `discard` is right at every stage."""

    def __init__(self, folder: Path, digest: Digest, size_bytes: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self.written_bytes = 0
        self.is_published = False
        self._folder = folder
        self._path: Path | None = None
        self._descriptor: int | None = None
        self._hasher = digest.hasher()
        self._is_sealed = False

    def create(self) -> None:
        """Raises: OSError."""
        assert self._path is None, "created twice"
        while True:
            self._descriptor, name = tempfile.mkstemp(
                prefix=f"{self.digest.encoded[:16]}.", suffix=_SUFFIX, dir=self._folder
            )
            self._path = Path(name)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            if self._path.exists():
                return
            # A process that started right then took it for abandoned, before it was locked.
            self._close()

    @staticmethod
    def remove_abandoned(path: Path) -> int:
        """Removes what a process that is gone has left. The bytes freed; 0 for anything else. Raises:
        OSError."""
        if path.suffix != _SUFFIX or path.is_symlink() or not path.is_file():
            return 0
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return 0  # Another process was quicker.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        else:
            size_bytes = os.fstat(descriptor).st_size
            path.unlink(missing_ok=True)
            return size_bytes
        finally:
            os.close(descriptor)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Raises: DigestMismatch, before a byte too many is written; OSError."""
        assert self._descriptor is not None, "not created, or ended"
        assert not self._is_sealed, "written to after its end"
        view = memoryview(chunk).cast("B")
        if self.written_bytes + len(view) > self.size_bytes:
            raise DigestMismatch(
                f"{self.digest} has more bytes than the {self.size_bytes} that were announced"
            )
        self._hasher.update(view)
        while view:
            count = os.write(self._descriptor, view)
            self.written_bytes += count
            view = view[count:]

    def copy(self, source: int, count_bytes: int) -> None:
        """The next bytes of this file, up to its size, are those of the open file `source` at the same place. In the
        kernel where that can: file systems that share blocks (XFS, btrfs) then write none.

        Raises: DigestMismatch where `source` ends before; OSError."""
        assert self._descriptor is not None, "not created, or ended"
        assert not self._is_sealed, "written to after its end"
        stop = min(self.written_bytes + count_bytes, self.size_bytes)
        buffer = memoryview(bytearray(_BUFFER_BYTES))
        while self.written_bytes < stop:
            wanted_bytes = stop - self.written_bytes
            copied_bytes = self._copy_in_kernel(source, wanted_bytes)
            # As it stands here: the source may have changed meanwhile.
            self._hash(copied_bytes)
            if not copied_bytes:
                portion = buffer[:wanted_bytes]
                read_bytes = os.preadv(source, [portion], self.written_bytes)
                if not read_bytes:
                    raise self._ended_early()
                self.write(portion[:read_bytes])

    def seal(self) -> None:
        """Verifies, and puts the bytes on the disk. Raises: DigestMismatch, OSError."""
        assert self._descriptor is not None, "not created, or ended"
        if self.written_bytes != self.size_bytes:
            raise self._ended_early()
        actual = self._hasher.hexdigest()
        if actual != self.digest.encoded:
            raise DigestMismatch(
                f"{self.digest} was announced, the bytes are {self.digest.algorithm}:{actual}"
            )
        os.fchmod(self._descriptor, _BLOB_MODE)
        os.fsync(self._descriptor)
        self._is_sealed = True

    def publish(self, target: Path) -> None:
        """Raises: OSError."""
        assert self._is_sealed and self._path is not None, "published unverified"
        self._path.rename(target)
        self.is_published = True

    def discard(self) -> None:
        """The end of every ingest: removes the file, unless it was published. Idempotent. Raises: OSError."""
        if self._path is not None and not self.is_published:
            self._path.unlink(missing_ok=True)
        self._close()

    def _copy_in_kernel(self, source: int, count_bytes: int) -> int:
        """How many bytes; 0: it cannot, or does not say why not."""
        assert self._descriptor is not None
        try:
            return os.copy_file_range(source, self._descriptor, count_bytes, offset_src=self.written_bytes)
        except OSError as exc:
            if exc.errno in _COPIES_NOT:
                return 0
            raise

    def _hash(self, count_bytes: int) -> None:
        """What was written behind our back. Raises: OSError."""
        assert self._descriptor is not None
        span = ByteSpan(self.written_bytes, self.written_bytes + count_bytes)
        read_bytes = hash_span(self._hasher, self._descriptor, span)
        self.written_bytes += read_bytes
        if read_bytes != count_bytes:
            raise OSError(errno.EIO, "what was just copied is not there", str(self._path))

    def _ended_early(self) -> DigestMismatch:
        return DigestMismatch(f"{self.digest} ended after {self.written_bytes} of {self.size_bytes} bytes")

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
