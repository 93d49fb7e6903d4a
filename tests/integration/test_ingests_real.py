"""The downloads of real containerds, seen while they pull through CRI from an origin that takes its time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from mirror.ingest.base import Born, Committed, EventsLost, Grew, IngestFile, Vanished
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.oci.digest import Digest
from tests.support.bed_hosts_toml import HostEntry, hosts_toml, install
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.ingest_beds import Listener, running
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Answer, Asked, Hold, Journal, Pause, RecordingHost, Serve, Shelf

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

LAYER_BYTES = 6_000_000
SLOW = Serve(bytes_per_s=10e6)
_SEEDS = count(53_000)


@dataclass(frozen=True, slots=True)
class Bed:
    containerd: RealContainerd
    origin: RecordingHost
    image: Image
    watch: ContainerdIngests

    @property
    def layer(self) -> Digest:
        return Digest.parse(self.image.layers[0].digest)

    @property
    def layer_bytes(self) -> bytes:
        return self.image.layers[0].content

    @property
    def blobs(self) -> set[Digest]:
        return {Digest.parse(blob.digest) for blob in self.image}

    def answers_layer(self, answer: Answer) -> None:
        self.origin.answer = lambda asked: answer if self._is_layer(asked) else Serve()

    def _is_layer(self, asked: Asked) -> bool:
        return asked.reference == str(self.layer)

    async def pull(self) -> object:
        return await cri_pull(self.containerd, f"{self.origin.authority}/lib/app:v1")


@pytest_asyncio.fixture
async def bed(containerd: RealContainerd) -> AsyncIterator[Bed]:
    image = build_image(next(_SEEDS), [LAYER_BYTES])
    shelf = Shelf()
    shelf.add(image, "lib/app", "v1")
    async with RecordingHost("origin", shelf, Journal()) as origin:
        install(containerd.certs_dir, origin.authority, hosts_toml(HostEntry(origin.url)))
        watch = ContainerdIngests(lambda: containerd.content_root, namespaces=["k8s.io"])
        yield Bed(containerd, origin, image, watch)


async def test_a_pull_is_seen_from_birth_to_commit_and_every_prefix_is_exact(bed: Bed) -> None:
    bed.answers_layer(SLOW)
    listener = Listener(bed.watch)
    sizes_bytes: list[int] = []
    file: IngestFile | None = None
    async with running(bed.watch), asyncio.TaskGroup() as group:
        pulled = group.create_task(bed.pull())
        while not bed.blobs <= listener.committed:
            match await next_event(listener):
                case Born(digest=bed.layer):
                    file = bed.watch.open(bed.layer)
                case Grew(digest=bed.layer, size_bytes=size_bytes):
                    assert file is not None
                    sizes_bytes.append(size_bytes)
                    assert os.pread(file.descriptor, size_bytes, 0) == bed.layer_bytes[:size_bytes]
                case Vanished(digest):
                    raise AssertionError(f"{digest} vanished")
        assert isinstance(await pulled, Pulled)
    assert file is not None
    assert os.pread(file.descriptor, len(bed.layer_bytes) + 1, 0) == bed.layer_bytes
    file.close()
    assert len(sizes_bytes) >= 3, f"seen to grow: {sizes_bytes}"
    layer = [event for event in listener.of(bed.layer) if not isinstance(event, Committed)]
    assert layer == [Born("k8s.io", f"layer-{bed.layer}", bed.layer, len(bed.layer_bytes))]


async def test_a_birth_is_seen_while_the_origin_still_says_nothing(bed: Bed) -> None:
    released = asyncio.Event()
    bed.answers_layer(Hold(released, Serve()))
    listener = Listener(bed.watch)
    async with running(bed.watch), asyncio.TaskGroup() as group:
        pulled = group.create_task(bed.pull())
        await listener.until(lambda: bed.layer in listener.known)
        assert bed.watch.size_bytes(bed.layer) == 0
        assert listener.size_bytes(bed.layer) is None
        released.set()
        await listener.until(lambda: bed.blobs <= listener.committed)
        assert isinstance(await pulled, Pulled)


async def test_a_cancelled_pull_vanishes_and_its_bytes_stay_readable(bed: Bed) -> None:
    released = asyncio.Event()
    bed.answers_layer(Pause(3_500_000, released))
    listener = Listener(bed.watch)
    async with running(bed.watch), asyncio.TaskGroup() as group:
        pulled = group.create_task(bed.pull())
        await listener.until(lambda: (listener.size_bytes(bed.layer) or 0) >= 3 << 20)
        file = bed.watch.open(bed.layer)
        pulled.cancel()
        await listener.until(lambda: Vanished(bed.layer) in listener.heard)
        released.set()
    size_bytes = file.size_bytes()
    assert size_bytes >= 3 << 20
    assert os.pread(file.descriptor, size_bytes, 0) == bed.layer_bytes[:size_bytes]
    file.close()


async def test_a_growing_download_is_adopted_by_a_watch_that_starts_in_its_middle(bed: Bed) -> None:
    released = asyncio.Event()
    bed.answers_layer(Pause(3_500_000, released))
    data_files = bed.containerd.content_root / "ingest"
    async with asyncio.TaskGroup() as group:
        pulled = group.create_task(bed.pull())
        await poll(lambda: any(size >= 3 << 20 for size in sizes_of(data_files.glob("*/data"))))
        listener = Listener(bed.watch)
        async with running(bed.watch):
            await listener.until(lambda: bed.layer in listener.known)
            assert (bed.watch.size_bytes(bed.layer) or 0) >= 3 << 20
            assert listener.size_bytes(bed.layer) is None, "it may be a leftover, as far as one can tell"
            file = bed.watch.open(bed.layer)
            released.set()
            await listener.until(lambda: bed.layer in listener.committed)
            assert isinstance(await pulled, Pulled)
    assert os.pread(file.descriptor, len(bed.layer_bytes), 0) == bed.layer_bytes
    file.close()
    assert not any(isinstance(event, Vanished | EventsLost) for event in listener.heard)


async def next_event(listener: Listener) -> object:
    async with asyncio.timeout(30):
        return await listener.take()


async def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        await asyncio.sleep(0.01)


def sizes_of(paths: Iterable[Path]) -> list[int]:
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append(path.stat().st_size)
    return found
