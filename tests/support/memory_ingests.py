"""Downloads of a runtime that there is none of: the fake beside `ContainerdIngests`, in the same conformance
suite. Told what happens, it tells it at once; the bytes stand in unnamed files."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator

from mirror.errors import ContentNotFound
from mirror.ingest.base import (
    Born,
    Committed,
    Grew,
    IngestEvent,
    IngestFile,
    Vanished,
    WatchEvent,
)
from mirror.ingest.feed import IngestFeed
from mirror.ingest.open_ingest import OpenIngest
from mirror.oci.digest import Digest
from mirror.store.file_blob import FileBlob


class MemoryIngest:
    """One download. Of several of one digest that which began first counts."""

    def __init__(self, ingests: MemoryIngests, born: Born) -> None:
        self.born = born
        self.written_bytes = 0
        self._ingests = ingests
        with tempfile.TemporaryFile() as file:
            self.file = FileBlob(os.dup(file.fileno()), 0)

    @property
    def descriptor(self) -> int:
        assert self.file.descriptor is not None, "ended"
        return self.file.descriptor

    def write(self, data: bytes) -> None:
        self.written_bytes += os.pwrite(self.descriptor, data, self.written_bytes)
        self._ingests.grew(self)

    def commit(self) -> None:
        self._ingests.end(self, is_committed=True)

    def cancel(self) -> None:
        self._ingests.end(self, is_committed=False)


class MemoryIngests:
    """Implements `IngestWatch`. What has ended can be opened until `close`."""

    def __init__(self) -> None:
        self._ingests: list[MemoryIngest] = []
        self._ended: dict[Digest, MemoryIngest] = {}
        self._made: list[MemoryIngest] = []
        self._feed = IngestFeed(self._present)
        self.unavailable: str | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    def begin(
        self, digest: Digest | None, total_bytes: int | None, *, namespace: str = "k8s.io", ref: str = ""
    ) -> MemoryIngest:
        ingest = MemoryIngest(self, Born(namespace, ref or f"layer-{digest}", digest, total_bytes))
        is_first = digest is None or self._leader(digest) is None
        self._ingests.append(ingest)
        self._made.append(ingest)
        if is_first:
            self._feed.tell(ingest.born)
        return ingest

    def size_bytes(self, digest: Digest) -> int | None:
        leader = self._leader(digest)
        return None if leader is None else leader.written_bytes

    def total_bytes(self, digest: Digest) -> int | None:
        leader = self._leader(digest)
        return None if leader is None else leader.born.total_bytes

    def open(self, digest: Digest) -> IngestFile:
        ingest = self._leader(digest) or self._ended.get(digest)
        if ingest is None:
            raise ContentNotFound(f"nobody downloads {digest} now")
        return OpenIngest.of(ingest.file)

    def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        return self._feed.watch(is_patient)

    def may_be_late(self, digest: Digest) -> bool:
        """Nobody waits for its growth, as those who watch say."""
        return self._feed.is_patient(digest)

    def close(self) -> None:
        for ingest in self._made:
            ingest.file.close()

    def grew(self, ingest: MemoryIngest) -> None:
        digest = ingest.born.digest
        if digest is not None and self._leader(digest) is ingest:
            self._feed.tell(Grew(digest, ingest.written_bytes))

    def end(self, ingest: MemoryIngest, *, is_committed: bool) -> None:
        digest = ingest.born.digest
        was_leader = digest is not None and self._leader(digest) is ingest
        self._ingests.remove(ingest)
        if digest is None or not was_leader:
            return
        self._ended[digest] = ingest
        if is_committed:
            self._feed.tell(Committed(digest))
        elif (successor := self._leader(digest)) is not None:
            for event in _told(successor):
                self._feed.tell(event)
        else:
            self._feed.tell(Vanished(digest))

    def _leader(self, digest: Digest) -> MemoryIngest | None:
        return next((ingest for ingest in self._ingests if ingest.born.digest == digest), None)

    def _present(self) -> Iterator[IngestEvent]:
        for ingest in self._ingests:
            if ingest.born.digest is None or self._leader(ingest.born.digest) is ingest:
                yield from _told(ingest)


def _told(ingest: MemoryIngest) -> Iterator[IngestEvent]:
    yield ingest.born
    if ingest.born.digest is not None and ingest.written_bytes:
        yield Grew(ingest.born.digest, ingest.written_bytes)
