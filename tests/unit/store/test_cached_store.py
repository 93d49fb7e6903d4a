"""A runtime's store with a cache beside it: the runtime's word counts, and the cache never stands in its way."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, Snapshot
from mirror.store.cached_store import CachedStore
from tests.support.directory_stores import files, name_of
from tests.support.memory_store import MemoryStore
from tests.support.store_beds import (
    Follower,
    blob_path,
    cache_running,
    cached_store,
    content_of,
    eventually,
    keep,
    running,
)


@asynccontextmanager
async def store_over(
    runtime: MemoryStore, folder: Path, *, quota_bytes: int = 1 << 30
) -> AsyncIterator[CachedStore]:
    store = cached_store(runtime, folder, quota_bytes=quota_bytes)
    async with cache_running(store):
        yield store


async def test_a_blob_that_the_runtime_does_not_keep_stays_and_is_announced(tmp_path: Path) -> None:
    runtime = MemoryStore()
    async with store_over(runtime, tmp_path) as store:
        follower = Follower(store)
        await follower.take()
        digest = runtime.add(b"layer")
        assert await follower.take() == ContentAdded(digest, 5)
        await keep(store, b"layer")
        runtime.remove(digest)
        other = runtime.add(b"later")
        assert await follower.take() == ContentAdded(other, 5), "nothing was said of the first"
        assert await content_of(store, digest) == b"layer"
        assert store.size_bytes(digest) == 5
        assert store.cache_bytes == 5


async def test_the_runtime_is_asked_first(tmp_path: Path) -> None:
    runtime = MemoryStore()
    async with store_over(runtime, tmp_path) as store:
        digest = await keep(store, b"both")
        from_cache = await store.open(digest)
        runtime.add(b"both")
        from_runtime = await store.open(digest)
        assert (from_cache.descriptor is None, from_runtime.descriptor is None) == (False, True)
        from_cache.close()


async def test_what_is_in_the_cache_survives_a_restart(tmp_path: Path) -> None:
    async with store_over(MemoryStore(), tmp_path) as store:
        digest = await keep(store, b"layer")
    async with store_over(MemoryStore(), tmp_path) as store:
        await Follower(store).take_until(lambda known: known == {digest: 5})
        assert await content_of(store, digest) == b"layer"


async def test_a_runtime_that_is_away_is_told_and_the_cache_still_serves(tmp_path: Path) -> None:
    runtime = MemoryStore()
    async with store_over(runtime, tmp_path) as store:
        follower = Follower(store)
        await follower.take()
        digest = await keep(store, b"cached")
        await follower.take_until(lambda known: digest in known)
        runtime.go_away("it restarts")
        assert store.unavailable == "it restarts"
        await follower.take()
        assert follower.lost_count == 1
        assert await content_of(store, digest) == b"cached"
        with pytest.raises(StoreUnavailable, match="it restarts"):
            await store.open(Digest.of(b"absent"))
        late = await keep(store, b"kept meanwhile")
        runtime.come_back()
        assert await follower.take() == Snapshot({digest: 6, late: 14})


async def test_wrong_ingests_are_the_runtime_s(tmp_path: Path) -> None:
    runtime = MemoryStore()
    async with store_over(runtime, tmp_path) as store:
        await store.discard_ingest(Digest.of(b"wrong"))
    assert runtime.discarded == [Digest.of(b"wrong")]


async def test_what_the_runtime_keeps_after_all_is_forgotten(tmp_path: Path) -> None:
    async with store_over(MemoryStore(), tmp_path) as store:
        digest = await keep(store, b"layer")
        assert files(tmp_path) == {name_of(digest): 5}
        await store.forget(digest)
        await store.forget(digest)
        assert files(tmp_path) == {}
        assert not store.is_cached(digest)
        with pytest.raises(ContentNotFound):
            await store.open(digest)


@pytest.mark.parametrize("trouble", ["another layout", "a file"])
async def test_without_a_cache_the_store_is_the_runtime_s(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    folder = tmp_path / "cache"
    if trouble == "a file":
        folder.write_text("not ours")
    else:
        folder.mkdir()
        (folder / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    runtime = MemoryStore(b"runtime")
    store = cached_store(runtime, folder)
    async with running(store):
        await eventually(lambda: str(folder) in caplog.text)
        assert store.cache_unavailable is not None
        digest = Digest.of(b"runtime")
        follower = Follower(store)
        assert await follower.take() == Snapshot({digest: 7})
        assert await content_of(store, digest) == b"runtime"
        with tempfile.TemporaryFile() as file:
            file.write(b"layer")
            file.flush()
            store.keep(Digest.of(b"layer"), 5, file.fileno())
        await eventually(lambda: "steps aside" in caplog.text)
        for _ in range(2):
            with pytest.raises(ContentNotFound):
                await store.open(Digest.of(b"layer"))


async def test_a_cached_blob_whose_file_is_gone_is_a_miss(tmp_path: Path) -> None:
    async with store_over(MemoryStore(), tmp_path) as store:
        digest = await keep(store, b"layer")
        blob_path(tmp_path, digest).unlink()
        with pytest.raises(ContentNotFound):
            await store.open(digest)
        await eventually(lambda: store.size_bytes(digest) is None)


async def test_whoever_is_told_of_a_blob_finds_it_in_a_watch_that_begins_then(tmp_path: Path) -> None:
    """What `size_bytes` has said is never missing from the next snapshot."""
    runtime = MemoryStore()
    async with store_over(runtime, tmp_path) as store:
        # Nothing has had the time to hear of it.
        digest = runtime.add(b"now")
        assert store.size_bytes(digest) == 3
        watch = store.watch()
        assert await anext(watch) == Snapshot({digest: 3})
