"""Where a demo client puts what it pulls: into its host's directory store, or nowhere. Either way it is checked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from mirror.errors import StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.disk_work import run_to_the_end
from mirror.store.ingest_file import DigestMismatch
from mirror.store.oci_layout import INGEST_NAMESPACE, OciLayout, sync_folder

# As containerd gives it to its blobs.
_BLOB_MODE = 0o444


class Writer(Protocol):
    async def write(self, chunk: bytes) -> None:
        """The next bytes in order. Raises: DigestMismatch, StoreUnavailable."""
        ...

    async def commit(self) -> None:
        """Raises: DigestMismatch, StoreUnavailable; nothing is kept then."""
        ...


class Sink(Protocol):
    def ingest(self, digest: Digest, size_bytes: int) -> AbstractAsyncContextManager[Writer]:
        """Left without a commit, nothing of it stays. Raises: StoreUnavailable."""
        ...


class Nowhere:
    """Hashes and forgets: what a host without Peili does, without the cost of its disk."""

    @asynccontextmanager
    async def ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[Writer]:
        yield _Hasher(digest, size_bytes)


class _Hasher:
    def __init__(self, digest: Digest, size_bytes: int) -> None:
        self._digest = digest
        self._hasher = digest.hasher()
        self._missing_bytes = size_bytes

    async def write(self, chunk: bytes) -> None:
        if len(chunk) > self._missing_bytes:
            raise DigestMismatch(f"{self._digest} has more bytes than were announced")
        self._hasher.update(chunk)
        self._missing_bytes -= len(chunk)

    async def commit(self) -> None:
        if self._missing_bytes or self._hasher.hexdigest() != self._digest.encoded:
            raise DigestMismatch(f"{self._digest} was announced, the bytes are others")


class StoreFolder:
    """The folder of a daemon's directory store, written to from outside as containerd writes to its own: the daemon
    sees a blob while it grows, and when it is committed. It has made the folder before."""

    def __init__(self, root: Path) -> None:
        self._layout = OciLayout(root)

    @asynccontextmanager
    async def ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[Writer]:
        folder = _IngestFolder(self._layout, digest, size_bytes)
        try:
            await run_to_the_end(folder.create)
            yield _FolderWriter(folder, _Hasher(digest, size_bytes))
        except OSError as exc:
            raise StoreUnavailable(f"{self._layout.root} cannot be written: {exc.strerror or exc}") from exc
        finally:
            await run_to_the_end(folder.remove)


class _FolderWriter:
    def __init__(self, folder: _IngestFolder, hasher: _Hasher) -> None:
        self._folder = folder
        self._hasher = hasher

    async def write(self, chunk: bytes) -> None:
        await self._hasher.write(chunk)
        await run_to_the_end(self._folder.write, chunk)

    async def commit(self) -> None:
        await self._hasher.commit()
        await run_to_the_end(self._folder.publish)


class _IngestFolder:
    """One download as containerd lays it out (`mirror.ingest.ingest_folder`). All calls block."""

    def __init__(self, layout: OciLayout, digest: Digest, size_bytes: int) -> None:
        self._layout = layout
        self._digest = digest
        self._size_bytes = size_bytes
        self._path: Path | None = None
        self._descriptor: int | None = None

    def create(self) -> None:
        """Raises: OSError."""
        self._path = Path(tempfile.mkdtemp(dir=self._layout.ingest_folder))
        (self._path / "ref").write_text(f"{INGEST_NAMESPACE}/1/layer-{self._digest}")
        (self._path / "total").write_text(str(self._size_bytes))
        # Last: whoever sees it finds the others.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._descriptor = os.open(self._path / "data", flags, _BLOB_MODE)

    def write(self, chunk: bytes) -> None:
        """It can be read from the file at once. Raises: OSError."""
        assert self._descriptor is not None, "not created, or ended"
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def publish(self) -> None:
        """Makes it a blob. Raises: OSError."""
        assert self._path is not None and self._descriptor is not None, "not created, or ended"
        os.fsync(self._descriptor)
        target = self._layout.blob_path(self._digest)
        (self._path / "data").rename(target)
        sync_folder(target.parent)

    def remove(self) -> None:
        """The end of every ingest. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
