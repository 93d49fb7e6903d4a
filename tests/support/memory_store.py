"""A content store in memory, for tests of what stands on the port. Passes the port's conformance suite.

`has_files` gives blobs a descriptor (an anonymous file in memory), as real stores do, so that the sendfile
path can be tested; else they can be had as chunks only, as containerd's over gRPC.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.base import Blob, ContentEvent
from mirror.store.feed import ContentFeed
from mirror.store.file_blob import CHUNK_MAX_BYTES, FileBlob


class MemoryStore:
    """Holds content as soon as it is made; `run` only waits. `discarded` records `discard_ingest`, in
    order."""

    def __init__(self, *blobs: bytes, has_files: bool = False) -> None:
        self.discarded: list[Digest] = []
        self._has_files = has_files
        self._feed = ContentFeed()
        self._contents = {Digest.of(data): data for data in blobs}
        self._unavailable: str | None = None
        self._replace()

    def add(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        self._contents[digest] = data
        self._feed.add(digest, len(data))
        return digest

    def remove(self, digest: Digest) -> None:
        """Idempotent."""
        self._contents.pop(digest, None)
        self._feed.remove(digest)

    def go_away(self, reason: str) -> None:
        """As a containerd that stops: `open` fails, watchers hear `StreamLost`."""
        self._unavailable = reason
        self._feed.lost(reason)

    def come_back(self) -> None:
        self._unavailable = None
        self._replace()

    async def run(self) -> None:
        await asyncio.Event().wait()

    @property
    def unavailable(self) -> str | None:
        return self._unavailable

    def size_bytes(self, digest: Digest) -> int | None:
        return self._feed.size_bytes(digest)

    async def open(self, digest: Digest) -> Blob:
        if self._unavailable is not None:
            raise StoreUnavailable(self._unavailable)
        data = self._contents.get(digest)
        if data is None:
            raise ContentNotFound(f"{digest} is not in this store")
        return _file_blob(data) if self._has_files else MemoryBlob(data)

    def watch(self) -> AsyncIterator[ContentEvent]:
        return self._feed.watch()

    async def discard_ingest(self, digest: Digest) -> None:
        if self._unavailable is not None:
            raise StoreUnavailable(self._unavailable)
        self.discarded.append(digest)

    def _replace(self) -> None:
        self._feed.replace({digest: len(data) for digest, data in self._contents.items()})


class MemoryBlob:
    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        return len(self._data)

    @property
    def descriptor(self) -> int | None:
        return None

    async def chunks(self, span: ByteSpan) -> AsyncIterator[bytes]:
        for start in range(span.start, span.stop, CHUNK_MAX_BYTES):
            yield self._data[start : min(start + CHUNK_MAX_BYTES, span.stop)]

    def close(self) -> None:
        pass


def _file_blob(data: bytes) -> FileBlob:
    descriptor = os.memfd_create("blob", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)
    return FileBlob(descriptor, len(data))
