"""A content store with something behind it that content can be put into and taken out of, for each kind of
store.

What is put in comes the way it comes in life: through containerd's own API, by the directory store's ingest,
or by a rename that another process makes. `run_bed` runs the store; it cannot be left while the store has
failed.
"""

from __future__ import annotations

import asyncio
import resource
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from containerd.client import Client
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.base import (
    Blob,
    ContentAdded,
    ContentEvent,
    ContentRemoved,
    ContentStore,
    Snapshot,
    StreamLost,
)
from mirror.store.cached_store import CachedStore
from mirror.store.containerd_store import ContainerdStore
from mirror.store.directory_store import DirectoryStore
from mirror.store.disk_room import DiskRoom
from tests.support.fake_containerd import FakeContainerd
from tests.support.memory_store import MemoryStore
from tests.support.real_containerd import RealContainerd

# Every change must be seen by then. Far above what is promised, for a loaded machine: reaching it is a
# failure.
DEADLINE_S = 10.0

POLL_S = 0.02

EMPTY_DISK = DiskRoom(1 << 50, 1 << 50)


class StoreBed(Protocol):
    @property
    def store(self) -> ContentStore: ...

    async def put(self, data: bytes) -> Digest:
        """Committed when it returns."""
        ...

    async def remove(self, digest: Digest) -> None:
        """Gone when it returns, its file included."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryBed:
    store: MemoryStore

    async def put(self, data: bytes) -> Digest:
        return self.store.add(data)

    async def remove(self, digest: Digest) -> None:
        self.store.remove(digest)


@dataclass(frozen=True, slots=True)
class DirectoryBed:
    """Its content comes through the store itself."""

    root: Path
    store: DirectoryStore

    async def put(self, data: bytes) -> Digest:
        digest = Digest.of(data)
        async with self.store.ingest(digest, len(data)) as writer:
            await writer.write(data)
            await writer.commit()
        return digest

    async def remove(self, digest: Digest) -> None:
        blob_path(self.root, digest).unlink()


@dataclass(frozen=True, slots=True)
class SharedDirectoryBed:
    """Its content comes from another process."""

    root: Path
    store: DirectoryStore

    async def put(self, data: bytes) -> Digest:
        return commit_by_rename(self.root, data)

    async def remove(self, digest: Digest) -> None:
        blob_path(self.root, digest).unlink()


@dataclass(frozen=True, slots=True)
class ContainerdBed:
    containerd: FakeContainerd | RealContainerd
    namespace: str
    client: Client
    store: ContainerdStore

    async def put(self, data: bytes) -> Digest:
        return await write_content(self.client, self.namespace, data)

    async def remove(self, digest: Digest) -> None:
        await self.client.content(self.namespace).delete(str(digest))
        await collect_garbage(self.client, self.namespace)


@dataclass(frozen=True, slots=True)
class CacheBed:
    """A runtime that has nothing, and a cache that is given what it kept no longer."""

    folder: Path
    store: CachedStore

    async def put(self, data: bytes) -> Digest:
        return await keep(self.store, data)

    async def remove(self, digest: Digest) -> None:
        blob_path(self.folder, digest).unlink()


@dataclass(frozen=True, slots=True)
class RuntimeBed:
    """A runtime that keeps everything, and an empty cache."""

    runtime: StoreBed
    store: CachedStore

    async def put(self, data: bytes) -> Digest:
        return await self.runtime.put(data)

    async def remove(self, digest: Digest) -> None:
        await self.runtime.remove(digest)


@dataclass(frozen=True, slots=True)
class TwiceBed:
    """What is put in is in both."""

    folder: Path
    runtime: MemoryStore
    store: CachedStore

    async def put(self, data: bytes) -> Digest:
        self.runtime.add(data)
        return await keep(self.store, data)

    async def remove(self, digest: Digest) -> None:
        blob_path(self.folder, digest).unlink()
        self.runtime.remove(digest)


async def keep(store: CachedStore, data: bytes) -> Digest:
    """In the cache when it returns. Its file was deleted before it was copied."""
    digest = Digest.of(data)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        store.keep(digest, len(data), file.fileno())
    await eventually(lambda: store.is_cached(digest))
    return digest


def blob_path(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.encoded


def commit_by_rename(root: Path, data: bytes) -> Digest:
    digest = Digest.of(data)
    draft = root / f"draft-{secrets.token_hex(8)}"
    draft.write_bytes(data)
    draft.rename(blob_path(root, digest))
    return digest


async def write_content(client: Client, namespace: str, data: bytes, **labels: str) -> Digest:
    """A blob that garbage collection keeps, but for that without any label."""
    digest = Digest.of(data)
    content = client.content(namespace)
    async with content.writer(f"layer-{digest}", digest=str(digest), size_bytes=len(data)) as writer:
        await writer.write(data[writer.offset_bytes :])
        await writer.commit(labels or {"containerd.io/gc.root": "test"})
    return digest


async def collect_garbage(client: Client, namespace: str) -> None:
    """Done when it returns."""
    lease = f"collect-{secrets.token_hex(8)}"
    await client.leases(namespace).create(lease, ttl_s=60)
    await client.leases(namespace).delete(lease, sync=True)


@asynccontextmanager
async def memory_bed(*, has_files: bool) -> AsyncIterator[MemoryBed]:
    bed = MemoryBed(MemoryStore(has_files=has_files))
    async with running(bed.store):
        yield bed


@asynccontextmanager
async def directory_bed(root: Path) -> AsyncIterator[DirectoryBed]:
    bed = DirectoryBed(root, DirectoryStore(root, quota_bytes=None))
    async with running(bed.store):
        yield bed


@asynccontextmanager
async def shared_directory_bed(root: Path) -> AsyncIterator[SharedDirectoryBed]:
    bed = SharedDirectoryBed(root, DirectoryStore(root, quota_bytes=None))
    async with running(bed.store):
        yield bed


def cached_store(runtime: ContentStore, folder: Path, *, quota_bytes: int = 1 << 40) -> CachedStore:
    """However full the disk is on which the tests run."""
    return CachedStore(
        runtime, folder, quota_bytes=quota_bytes, clock=time.monotonic, ask_disk=lambda _: EMPTY_DISK
    )


@asynccontextmanager
async def cache_bed(folder: Path) -> AsyncIterator[CacheBed]:
    bed = CacheBed(folder, cached_store(MemoryStore(), folder))
    async with cache_running(bed.store):
        yield bed


@asynccontextmanager
async def runtime_bed(folder: Path) -> AsyncIterator[RuntimeBed]:
    runtime = MemoryBed(MemoryStore(has_files=True))
    bed = RuntimeBed(runtime, cached_store(runtime.store, folder))
    async with cache_running(bed.store):
        yield bed


@asynccontextmanager
async def twice_bed(folder: Path) -> AsyncIterator[TwiceBed]:
    runtime = MemoryStore(has_files=True)
    bed = TwiceBed(folder, runtime, cached_store(runtime, folder))
    async with cache_running(bed.store):
        yield bed


@asynccontextmanager
async def cached_containerd_bed(
    containerd: FakeContainerd | RealContainerd, folder: Path
) -> AsyncIterator[RuntimeBed]:
    """A namespace of its own."""
    namespace = f"bed-{secrets.token_hex(8)}"
    runtime = ContainerdStore(containerd.socket, namespaces=[namespace], content_path=None)
    store = cached_store(runtime, folder)
    async with Client(containerd.socket) as client, cache_running(store):
        yield RuntimeBed(ContainerdBed(containerd, namespace, client, runtime), store)


@asynccontextmanager
async def cache_running(store: CachedStore) -> AsyncIterator[None]:
    """As `running`; the cache is there, too."""
    async with running(store):
        await eventually(lambda: store.cache_unavailable is None)
        yield


@asynccontextmanager
async def containerd_bed(
    containerd: FakeContainerd | RealContainerd, *, content_path: Path | None = None
) -> AsyncIterator[ContainerdBed]:
    """A namespace of its own, so that beds can share a containerd."""
    namespace = f"bed-{secrets.token_hex(8)}"
    store = ContainerdStore(containerd.socket, namespaces=[namespace], content_path=content_path)
    async with Client(containerd.socket) as client, running(store):
        yield ContainerdBed(containerd, namespace, client, store)


@asynccontextmanager
async def running(store: ContentStore) -> AsyncIterator[None]:
    """Runs the store; it is available when this is entered."""
    async with started(store):
        await eventually(lambda: store.unavailable is None, lambda: f"still unavailable: {store.unavailable}")
        yield


@asynccontextmanager
async def started(store: ContentStore) -> AsyncIterator[None]:
    """Runs the store, as the daemon would. Raises what `run` raised."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(store.run())
        yield
        assert not task.done(), "run ended by itself"
        task.cancel()


async def eventually(
    condition: Callable[[], bool], complaint: Callable[[], str] = lambda: "", *, limit_s: float = DEADLINE_S
) -> None:
    try:
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(f"did not come true in {limit_s:g} s. {complaint()}") from None


async def read(blob: Blob, span: ByteSpan | None = None) -> bytes:
    """Checks the port's limit of a chunk on the way."""
    data = b""
    async for chunk in blob.chunks(span or ByteSpan(0, blob.size_bytes)):
        assert 0 < len(chunk) <= 1024 * 1024
        data += chunk
    return data


async def content_of(store: ContentStore, digest: Digest) -> bytes:
    blob = await store.open(digest)
    try:
        return await read(blob)
    finally:
        blob.close()


class Follower:
    """What somebody knows who hears a store's events and nothing else. Checks their order on the way."""

    def __init__(self, store: ContentStore) -> None:
        self._events = store.watch()
        self.sizes_bytes: dict[Digest, int] | None = None
        self.lost_count = 0

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await self.take()

    async def take(self) -> ContentEvent:
        """The next event, applied."""
        event = await anext(self._events)
        match event:
            case Snapshot(sizes_bytes):
                assert self.sizes_bytes is None, "a snapshot that nothing announced"
                self.sizes_bytes = dict(sizes_bytes)
            case ContentAdded(digest, size_bytes):
                assert self.sizes_bytes is not None, "the first event is a snapshot"
                self.sizes_bytes[digest] = size_bytes
            case ContentRemoved(digest):
                assert self.sizes_bytes is not None, "the first event is a snapshot"
                del self.sizes_bytes[digest]
            case StreamLost():
                assert self.sizes_bytes is not None, "lost twice"
                self.sizes_bytes = None
                self.lost_count += 1
        return event

    async def take_until(self, condition: Callable[[dict[Digest, int]], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while self.sizes_bytes is None or not condition(self.sizes_bytes):
                    await self.take()
        except TimeoutError:
            raise AssertionError(f"not heard in {DEADLINE_S} s; known: {self.sizes_bytes}") from None


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Whoever asks for a descriptor, an inotify instance for one, gets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open() as lowest_free:
        limit = lowest_free.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
