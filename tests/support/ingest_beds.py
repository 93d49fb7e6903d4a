"""A watch over downloads with something behind it that downloads, for each kind of watch.

A `Draft` is one ingest, written as in life: through containerd's own API, or by another hand into a folder laid
out as containerd's. `Listener` is what somebody knows who hears the events and nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from containerd.client import Client
from containerd.errors import FailedPrecondition
from containerd.writing import Writer
from mirror.ingest.base import (
    Born,
    Committed,
    EventsLost,
    Grew,
    IngestWatch,
    Vanished,
    WatchEvent,
)
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.oci.digest import Digest
from tests.support.memory_ingests import MemoryIngest, MemoryIngests
from tests.support.real_containerd import RealContainerd
from tests.support.store_beds import DEADLINE_S, eventually


class Draft(Protocol):
    @property
    def digest(self) -> Digest: ...

    async def write(self, data: bytes) -> None: ...

    async def commit(self) -> None:
        """Committed when it returns; bytes that are not those of the digest are refused without an error."""
        ...

    async def cancel(self) -> None:
        """Gone when it returns."""
        ...


class IngestBed(Protocol):
    @property
    def watch(self) -> IngestWatch: ...

    @property
    def namespaces(self) -> tuple[str, str]:
        """Both watched."""
        ...

    async def begin(self, digest: Digest, total_bytes: int, *, namespace: str = "") -> Draft:
        """Its ref is ``layer-<digest>``."""
        ...


# --- without a runtime


@dataclass(slots=True)
class MemoryDraft:
    digest: Digest
    ingest: MemoryIngest
    data: bytes = b""

    async def write(self, data: bytes) -> None:
        self.data += data
        self.ingest.write(data)

    async def commit(self) -> None:
        if self.digest.matches(self.data):
            self.ingest.commit()

    async def cancel(self) -> None:
        self.ingest.cancel()


@dataclass(frozen=True, slots=True)
class MemoryBed:
    watch: MemoryIngests
    namespaces: tuple[str, str] = ("one", "two")

    async def begin(self, digest: Digest, total_bytes: int, *, namespace: str = "") -> MemoryDraft:
        namespace = namespace or self.namespaces[0]
        return MemoryDraft(digest, self.watch.begin(digest, total_bytes, namespace=namespace))


@asynccontextmanager
async def memory_bed() -> AsyncIterator[MemoryBed]:
    bed = MemoryBed(MemoryIngests())
    try:
        async with running(bed.watch):
            yield bed
    finally:
        bed.watch.close()


# --- a folder as containerd's


class FolderDraft:
    """The steps of containerd's local store, in its order."""

    def __init__(self, root: Path, digest: Digest, ref: str, total_bytes: int | None) -> None:
        self.digest = digest
        self.folder = root / "ingest" / secrets.token_hex(16)
        self._root = root
        self.folder.mkdir()
        (self.folder / "ref").write_text(ref)
        for name in ("startedat", "updatedat"):
            (self.folder / name).write_text("2026-11-24T00:00:00Z")
        if total_bytes is not None:
            (self.folder / "total").write_text(str(total_bytes))
        self.data.touch()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    async def write(self, data: bytes) -> None:
        with self.data.open("ab") as file:
            file.write(data)

    async def commit(self) -> None:
        if self.digest.matches(self.data.read_bytes()):
            target = self._root / "blobs" / self.digest.algorithm / self.digest.encoded
            target.parent.mkdir(parents=True, exist_ok=True)
            self.data.rename(target)
            shutil.rmtree(self.folder)

    async def cancel(self) -> None:
        shutil.rmtree(self.folder)


@dataclass(frozen=True, slots=True)
class FolderBed:
    root: Path
    watch: ContainerdIngests
    namespaces: tuple[str, str] = ("one", "two")

    async def begin(self, digest: Digest, total_bytes: int | None, *, namespace: str = "") -> FolderDraft:
        ref = f"{namespace or self.namespaces[0]}/1/layer-{digest}"
        return FolderDraft(self.root, digest, ref, total_bytes)


@asynccontextmanager
async def folder_bed(root: Path, watch: ContainerdIngests) -> AsyncIterator[FolderBed]:
    """`watch` looks into `root`, which is made as a used containerd leaves it."""
    (root / "ingest").mkdir(parents=True)
    (root / "blobs" / "sha256").mkdir(parents=True)
    async with running(watch):
        yield FolderBed(root, watch)


# --- a real containerd


@dataclass(slots=True)
class ContainerdDraft:
    digest: Digest
    client: Client
    namespace: str
    ref: str
    writer: Writer
    stack: AsyncExitStack

    async def write(self, data: bytes) -> None:
        await self.writer.write(data)

    async def commit(self) -> None:
        with suppress(FailedPrecondition):
            await self.writer.commit({"containerd.io/gc.root": "test"})
        await self.stack.aclose()

    async def cancel(self) -> None:
        await self.stack.aclose()
        await self.client.content(self.namespace).abort(self.ref)


@dataclass(frozen=True, slots=True)
class ContainerdBed:
    client: Client
    watch: ContainerdIngests
    namespaces: tuple[str, str]
    stack: AsyncExitStack

    async def begin(self, digest: Digest, total_bytes: int, *, namespace: str = "") -> ContainerdDraft:
        namespace, ref = namespace or self.namespaces[0], f"layer-{digest}"
        stack = await self.stack.enter_async_context(AsyncExitStack())
        made = self.client.content(namespace).writer(ref, digest=str(digest), size_bytes=total_bytes)
        writer = await stack.enter_async_context(made)
        return ContainerdDraft(digest, self.client, namespace, ref, writer, stack)


@asynccontextmanager
async def containerd_bed(containerd: RealContainerd) -> AsyncIterator[ContainerdBed]:
    """Namespaces of its own, so that beds can share a containerd."""
    token = secrets.token_hex(8)
    namespaces = (f"one-{token}", f"two-{token}")
    watch = ContainerdIngests(lambda: containerd.content_root, namespaces=namespaces)
    async with Client(containerd.socket) as client, running(watch), AsyncExitStack() as stack:
        yield ContainerdBed(client, watch, namespaces, stack)


@asynccontextmanager
async def running(watch: IngestWatch) -> AsyncIterator[None]:
    """Runs the watch; it is available when this is entered."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await eventually(lambda: watch.unavailable is None, lambda: f"still unavailable: {watch.unavailable}")
        yield
        assert not task.done(), "run ended by itself"
        task.cancel()


# --- who listens


@dataclass(slots=True)
class Known:
    """One download, as far as it was heard of."""

    born: Born
    size_bytes: int | None = None


@dataclass(slots=True)
class Listener:
    """Checks the order of events on the way."""

    watch: IngestWatch
    known: dict[Digest, Known] = field(default_factory=dict)
    committed: set[Digest] = field(default_factory=set)
    heard: list[WatchEvent] = field(default_factory=list)
    _events: AsyncIterator[WatchEvent] | None = None

    async def take(self) -> WatchEvent:
        if self._events is None:
            self._events = self.watch.watch()
        event = await anext(self._events)
        self.heard.append(event)
        match event:
            case Born(digest=Digest() as digest):
                self.known[digest] = Known(event)
                self.committed.discard(digest)
            case Grew(digest, size_bytes):
                assert digest in self.known, "growth of what was never born"
                before = self.known[digest].size_bytes
                assert before is None or size_bytes > before, "growth that is none"
                self.known[digest].size_bytes = size_bytes
            case Committed(digest):
                self.known.pop(digest, None)
                self.committed.add(digest)
            case Vanished(digest):
                del self.known[digest]
            case EventsLost():
                self.known.clear()
        return event

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not condition():
                    await self.take()
        except TimeoutError:
            raise AssertionError(f"not heard in {DEADLINE_S} s; heard: {self.heard}") from None

    def size_bytes(self, digest: Digest) -> int | None:
        known = self.known.get(digest)
        return None if known is None else known.size_bytes

    async def until_size(self, digest: Digest, size_bytes: int) -> None:
        await self.until(lambda: self.size_bytes(digest) == size_bytes)

    def of(self, digest: Digest) -> list[WatchEvent]:
        """What was heard of it, growth left out."""
        return [
            event
            for event in self.heard
            if not isinstance(event, EventsLost | Grew) and event.digest == digest
        ]
