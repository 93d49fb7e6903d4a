"""Where a demo client puts what it pulls: a host's directory store, or nowhere. Either way it is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from mirror.oci.digest import Digest
from mirror.store.ingest_file import DigestMismatch


class Writer(Protocol):
    async def write(self, chunk: bytes) -> None:
        """The next bytes in order. Raises: MirrorError."""
        ...

    async def commit(self) -> None:
        """Raises: MirrorError, such as DigestMismatch: nothing is kept then."""
        ...


class Sink(Protocol):
    """`DirectoryStore` is one."""

    def ingest(self, digest: Digest, size_bytes: int) -> AbstractAsyncContextManager[Writer]: ...


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
