"""Where a demo client puts what it pulls: into its host's directory store, or nowhere. Either way it is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from mirror.errors import StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.disk_work import run_to_the_end
from mirror.store.ingest_file import DigestMismatch, IngestFile
from mirror.store.oci_layout import OciLayout


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
        self._hasher.update(chunk)
        self._missing_bytes -= len(chunk)

    async def commit(self) -> None:
        if self._missing_bytes or self._hasher.hexdigest() != self._digest.encoded:
            raise DigestMismatch(f"{self._digest} was announced, the bytes are others")


class StoreFolder:
    """The folder of a daemon's directory store, written to from outside as a container runtime writes to its own. The
    daemon has made it before."""

    def __init__(self, root: Path) -> None:
        self._layout = OciLayout(root)

    @asynccontextmanager
    async def ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[Writer]:
        file = self._layout.ingest_file(digest, size_bytes)
        try:
            await run_to_the_end(file.create)
            yield _FileWriter(self._layout, file)
        except OSError as exc:
            raise StoreUnavailable(f"{self._layout.root} cannot be written: {exc.strerror or exc}") from exc
        finally:
            await run_to_the_end(file.discard)


class _FileWriter:
    def __init__(self, layout: OciLayout, file: IngestFile) -> None:
        self._layout = layout
        self._file = file

    async def write(self, chunk: bytes) -> None:
        await run_to_the_end(self._file.write, chunk)

    async def commit(self) -> None:
        await run_to_the_end(self._file.seal)
        await run_to_the_end(self._layout.publish, self._file)
