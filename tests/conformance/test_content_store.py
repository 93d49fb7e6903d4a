"""What every content store does, whatever is behind it: one suite on all of them, fakes beside the real
thing."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from mirror.errors import ContentNotFound
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentRemoved, ContentStore, Snapshot
from tests.support.bed_containerds import VERSIONS, Containerds
from tests.support.fake_containerd import FakeContainerd
from tests.support.store_beds import (
    DEADLINE_S,
    Follower,
    StoreBed,
    cache_bed,
    cached_containerd_bed,
    containerd_bed,
    content_of,
    directory_bed,
    eventually,
    memory_bed,
    read,
    runtime_bed,
    shared_directory_bed,
    twice_bed,
)

# Two whole chunks and a bit.
LARGE_BYTES = 2 * 1024 * 1024 + 7


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def containerds() -> AsyncIterator[Containerds]:
    """One of each version for the whole file; beds have a namespace each."""
    # The path of a Unix socket is short, pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="peili-") as folder:
        async with AsyncExitStack() as stack:
            yield Containerds(Path(folder), stack)


@pytest.fixture(
    params=[
        "memory",
        "memory-files",
        "directory",
        "directory-shared",
        "containerd-fake-2.1",
        "containerd-fake-1.7",
        "cached-in-cache",
        "cached-in-runtime",
        "cached-in-both",
        "cached-containerd-fake",
        *(pytest.param(f"containerd-{version}", marks=pytest.mark.containerd) for version in VERSIONS),
    ]
)
async def bed(
    request: pytest.FixtureRequest, tmp_path: Path, containerds: Containerds
) -> AsyncIterator[StoreBed]:
    name: str = request.param
    async with AsyncExitStack() as stack:
        made: AbstractAsyncContextManager[StoreBed]
        if name.startswith("memory"):
            made = memory_bed(has_files=name == "memory-files")
        elif name == "directory":
            made = directory_bed(tmp_path)
        elif name.startswith("directory"):
            made = shared_directory_bed(tmp_path)
        elif name == "cached-in-cache":
            made = cache_bed(tmp_path / "cache")
        elif name == "cached-in-both":
            made = twice_bed(tmp_path / "cache")
        elif name == "cached-in-runtime":
            made = runtime_bed(tmp_path / "cache")
        elif name == "cached-containerd-fake":
            fake = await stack.enter_async_context(FakeContainerd(tmp_path))
            made = cached_containerd_bed(fake, tmp_path / "cache")
        elif "fake" in name:
            version = name.removeprefix("containerd-fake-") + ".9"
            made = containerd_bed(await stack.enter_async_context(FakeContainerd(tmp_path, version=version)))
        else:
            made = containerd_bed(await containerds.get(name.removeprefix("containerd-")))
        yield await stack.enter_async_context(made)


@pytest.fixture
def small() -> bytes:
    """Never seen before: containerd 1.6 and 1.7 give no sign of a blob whose bytes another namespace has."""
    return secrets.token_bytes(8)


@pytest.fixture
def large() -> bytes:
    return secrets.token_bytes(LARGE_BYTES)


async def test_a_watch_begins_with_all_that_is_here(bed: StoreBed, large: bytes, small: bytes) -> None:
    here = {await bed.put(small): len(small), await bed.put(large): len(large)}
    await eventually(lambda: all(bed.store.size_bytes(digest) is not None for digest in here))
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(bed.store.watch()) == Snapshot(here)


async def test_an_empty_store_begins_with_an_empty_snapshot(bed: StoreBed) -> None:
    async with asyncio.timeout(DEADLINE_S):
        assert await anext(bed.store.watch()) == Snapshot({})


async def test_what_comes_and_goes_is_heard(bed: StoreBed, small: bytes) -> None:
    follower = Follower(bed.store)
    async with asyncio.timeout(DEADLINE_S):
        await follower.take()
        digest = await bed.put(small)
        assert await follower.take() == ContentAdded(digest, len(small))
        assert bed.store.size_bytes(digest) == len(small)
        await bed.remove(digest)
        assert await follower.take() == ContentRemoved(digest)
    assert bed.store.size_bytes(digest) is None
    with pytest.raises(ContentNotFound):
        await bed.store.open(digest)


async def test_nothing_is_lost_between_snapshot_and_events(bed: StoreBed, small: bytes) -> None:
    """Watches begin in the middle of commits and removals; all of them end up knowing the same."""
    followers: list[Follower] = []
    final: dict[Digest, int] = {}

    async def write(writer: int) -> None:
        for number in range(8):
            data = small + bytes([writer, number])
            digest = await bed.put(data)
            followers.append(Follower(bed.store))
            group.create_task(followers[-1].take())
            if number % 3 == 0:
                await bed.remove(digest)
            else:
                final[digest] = len(data)

    early = Follower(bed.store)
    async with asyncio.TaskGroup() as group:
        group.create_task(early.take())
        for writer in range(3):
            group.create_task(write(writer))
    for follower in (early, *followers):
        await follower.take_until(lambda known: known == final)


async def test_a_blob_can_be_opened_as_soon_as_it_is_committed(bed: StoreBed, small: bytes) -> None:
    digest = await bed.put(small)
    assert await content_of(bed.store, digest) == small
    assert bed.store.size_bytes(digest) == len(small)


@pytest.mark.parametrize(
    "span",
    [
        ByteSpan(0, LARGE_BYTES),
        ByteSpan(0, 1),
        ByteSpan(LARGE_BYTES - 1, LARGE_BYTES),
        ByteSpan(1024 * 1024 - 1, 1024 * 1024 + 1),
        ByteSpan(17, 2 * 1024 * 1024),
        ByteSpan(5, 5),
        ByteSpan(LARGE_BYTES, LARGE_BYTES),
    ],
    ids=str,
)
async def test_every_span_can_be_read(bed: StoreBed, large: bytes, span: ByteSpan) -> None:
    blob = await bed.store.open(await bed.put(large))
    try:
        assert blob.size_bytes == len(large)
        assert await read(blob, span) == large[span.start : span.stop]
        if blob.descriptor is not None:
            assert os.pread(blob.descriptor, span.length_bytes, span.start) == large[span.start : span.stop]
    finally:
        blob.close()


async def test_one_blob_can_be_read_by_several(bed: StoreBed, large: bytes) -> None:
    digest = await bed.put(large)
    first, second = await bed.store.open(digest), await bed.store.open(digest)
    middle = ByteSpan(1, len(large) - 1)
    try:
        whole, *parts = await asyncio.gather(read(first), read(second, middle), read(first, middle))
        assert whole == large
        assert parts == [large[1:-1]] * 2
        first.close()
        assert await read(second) == large
    finally:
        second.close()


async def test_an_open_blob_survives_its_removal(bed: StoreBed, large: bytes) -> None:
    digest = await bed.put(large)
    blob = await bed.store.open(digest)
    try:
        await bed.remove(digest)
        await eventually(lambda: bed.store.size_bytes(digest) is None)
        assert await read(blob) == large
    finally:
        blob.close()


async def test_a_blob_can_be_closed_twice(bed: StoreBed, small: bytes) -> None:
    blob = await bed.store.open(await bed.put(small))
    blob.close()
    blob.close()
    assert blob.descriptor is None, "a closed blob has no descriptor"


async def test_what_is_not_here_is_not_found(bed: StoreBed) -> None:
    absent = Digest.of(b"nobody has this")
    assert bed.store.size_bytes(absent) is None
    for _ in range(2):
        with pytest.raises(ContentNotFound, match=str(absent)):
            await bed.store.open(absent)


async def test_a_blob_that_comes_back_is_served_again(bed: StoreBed, small: bytes) -> None:
    digest = await bed.put(small)
    await bed.remove(digest)
    await eventually(lambda: bed.store.size_bytes(digest) is None)
    assert await bed.put(small) == digest
    await eventually(lambda: bed.store.size_bytes(digest) == len(small))
    assert await content_of(bed.store, digest) == small


async def test_a_watcher_that_reads_nothing_holds_nobody_up(bed: StoreBed, small: bytes) -> None:
    slow, quick = Follower(bed.store), Follower(bed.store)
    await slow.take()
    await quick.take()
    digests = [await bed.put(small + bytes([number])) for number in range(5)]
    await quick.take_until(lambda known: len(known) == len(digests))
    await slow.take_until(lambda known: len(known) == len(digests))


async def test_a_watch_that_ends_leaves_the_others_alone(bed: StoreBed, large: bytes, small: bytes) -> None:
    stays = Follower(bed.store)
    await stays.take()
    task = asyncio.create_task(watch_for_ever(bed.store))
    digest = await bed.put(small)
    await stays.take_until(lambda known: digest in known)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    digest = await bed.put(large)
    await stays.take_until(lambda known: digest in known)


async def test_nothing_to_discard_is_no_error(bed: StoreBed, small: bytes) -> None:
    await bed.store.discard_ingest(Digest.of(b"nobody writes this"))
    digest = await bed.put(small)
    await bed.store.discard_ingest(digest)
    assert await content_of(bed.store, digest) == small


async def watch_for_ever(store: ContentStore) -> None:
    async for _ in store.watch():
        pass
