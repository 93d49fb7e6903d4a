"""From commit to cache: what the runtime lets go is copied though it is gone, what it keeps is not stored twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.errors import StoreUnavailable
from mirror.ingest.base import Committed, WatchEvent
from mirror.keep.fates import Fate
from mirror.keep.layer_keeper import LayerKeeper
from mirror.oci.digest import Digest
from mirror.store.cached_store import CachedStore
from tests.support.directory_stores import files, name_of
from tests.support.memory_ingests import MemoryIngests
from tests.support.memory_store import MemoryStore
from tests.support.store_beds import blob_path, cache_running, cached_store, content_of, eventually, keep

GOES, STAYS = Fate.GOES, Fate.STAYS


class ToldFates:
    """Implements `FateSource` with what a test says."""

    def __init__(self) -> None:
        self.known: dict[Digest, Fate] = {}
        self.asked: list[frozenset[Digest]] = []
        self.is_away = False

    async def fates(self, digests: Collection[Digest]) -> Mapping[Digest, Fate]:
        self.asked.append(frozenset(digests))
        if self.is_away:
            raise StoreUnavailable("containerd restarts")
        return {digest: self.known[digest] for digest in digests if digest in self.known}


class Ingests(MemoryIngests):
    def __init__(self) -> None:
        super().__init__()
        self.watched = asyncio.Event()

    async def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        self.watched.set()
        async for event in super().watch(is_patient):
            yield event

    def commit_unseen(self, digest: Digest) -> None:
        """It was written too quickly for its ingest to be seen, or in another namespace."""
        self._feed.tell(Committed(digest))


class Bed:
    """Runs. Its keeper holds `held_count` files open."""

    def __init__(self, folder: Path, *, quota_bytes: int = 1 << 20) -> None:
        self.runtime = MemoryStore(has_files=True)
        self.content_root: Path | None = folder / "runtime"
        (folder / "runtime" / "blobs" / "sha256").mkdir(parents=True)
        self.folder = folder / "cache"
        self.ingests = Ingests()
        self.fates = ToldFates()
        self.store: CachedStore = cached_store(self.runtime, self.folder, quota_bytes=quota_bytes)
        self.keeper = LayerKeeper(
            self.store, self.ingests, self.fates, lambda: self.content_root, time.monotonic
        )
        self.open_before_count = 0
        self.pulled_count = 0

    def pull(self, data: bytes, fate: Fate | None) -> Digest:
        """A blob is downloaded and committed."""
        digest = Digest.of(data)
        if fate is not None:
            self.fates.known[digest] = fate
        ingest = self.ingests.begin(digest, len(data))
        ingest.write(data)
        self.pulled_count += 1
        self.runtime.add(data)
        ingest.commit()
        return digest

    def commit_unseen(self, data: bytes, fate: Fate | None) -> Digest:
        """Its file is there, and nothing else: no ingest was seen, no record is written."""
        digest = Digest.of(data)
        if fate is not None:
            self.fates.known[digest] = fate
        assert self.content_root is not None
        blob_path(self.content_root, digest).write_bytes(data)
        self.ingests.commit_unseen(digest)
        return digest

    async def asked_about(self, digest: Digest) -> None:
        await eventually(lambda: any(digest in asked for asked in self.fates.asked))

    @property
    def held_count(self) -> int:
        # The fake keeps a file of each download open.
        return open_descriptors_count() - self.open_before_count - self.pulled_count


def open_descriptors_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@asynccontextmanager
async def running(bed: Bed) -> AsyncIterator[Bed]:
    async with cache_running(bed.store), asyncio.TaskGroup() as group:
        bed.open_before_count = open_descriptors_count()
        task = group.create_task(bed.keeper.run())
        await bed.ingests.watched.wait()
        try:
            yield bed
            assert not task.done(), "run ended by itself"
        finally:
            task.cancel()
            bed.ingests.close()


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with running(Bed(tmp_path)) as made:
        yield made


async def test_what_goes_is_cached_though_it_is_gone_at_once(bed: Bed) -> None:
    digest = bed.pull(b"layer", GOES)
    bed.runtime.remove(digest)
    await eventually(lambda: bed.store.is_cached(digest))
    assert await content_of(bed.store, digest) == b"layer"
    await eventually(lambda: bed.held_count == 0)


async def test_what_stays_is_not_stored_twice(bed: Bed) -> None:
    digest = bed.pull(b"layer", STAYS)
    await bed.asked_about(digest)
    await eventually(lambda: bed.held_count == 0)
    assert files(bed.folder) == {}


async def test_what_the_runtime_begins_to_keep_leaves_the_cache(bed: Bed) -> None:
    kept, other = await keep(bed.store, b"layer"), await keep(bed.store, b"other")
    assert bed.pull(b"layer", STAYS) == kept
    await eventually(lambda: not bed.store.is_cached(kept))
    assert files(bed.folder) == {name_of(other): 5}


async def test_layers_that_are_committed_together_are_one_question(bed: Bed) -> None:
    digests = [bed.pull(bytes([number]), GOES) for number in range(5)]
    await eventually(lambda: all(bed.store.is_cached(digest) for digest in digests))
    assert bed.fates.asked == [frozenset(digests)]


async def test_what_is_not_known_yet_is_held_and_asked_again(bed: Bed) -> None:
    digest = bed.pull(b"layer", None)
    bed.runtime.remove(digest)
    await bed.asked_about(digest)
    assert bed.held_count == 1
    bed.fates.known[digest] = GOES
    await eventually(lambda: bed.store.is_cached(digest))


async def test_a_runtime_that_cannot_answer_is_asked_again(bed: Bed) -> None:
    bed.fates.is_away = True
    digest = bed.pull(b"layer", GOES)
    await bed.asked_about(digest)
    bed.fates.is_away = False
    await eventually(lambda: bed.store.is_cached(digest))


async def test_a_blob_whose_ingest_was_not_seen_is_opened_where_it_stands(bed: Bed) -> None:
    """Before the runtime has a record of it: it may be gone before it is in any list."""
    digest = bed.commit_unseen(b"quick", GOES)
    await eventually(lambda: bed.store.is_cached(digest))
    assert await content_of(bed.store, digest) == b"quick"
    await eventually(lambda: bed.held_count == 0)


async def test_a_blob_of_another_namespace_is_let_go(bed: Bed) -> None:
    foreign = bed.commit_unseen(b"foreign", None)
    digest = bed.pull(b"layer", GOES)
    await eventually(lambda: bed.store.is_cached(digest))
    assert not bed.store.is_cached(foreign)


@pytest.mark.parametrize("root", ["unknown", "elsewhere", "without it"])
async def test_what_cannot_be_read_as_a_file_is_not_held(bed: Bed, root: str) -> None:
    blind = Digest.of(b"blind")
    match root:
        case "unknown":
            bed.content_root = None
        case "elsewhere":
            bed.content_root = bed.folder / "nothing"
    bed.ingests.commit_unseen(blind)
    digest = bed.pull(b"layer", GOES)
    await eventually(lambda: bed.store.is_cached(digest))
    assert bed.fates.asked == [frozenset([digest])]


async def test_more_than_the_cache_could_take_is_not_held(tmp_path: Path) -> None:
    async with running(Bed(tmp_path, quota_bytes=10)) as bed:
        large = bed.pull(b"x" * 11, GOES)
        digest = bed.pull(b"layer", GOES)
        await eventually(lambda: bed.store.is_cached(digest))
        assert not any(large in asked for asked in bed.fates.asked)
        await eventually(lambda: bed.held_count == 0)


async def test_the_end_closes_what_is_held(tmp_path: Path) -> None:
    before_count = open_descriptors_count()
    async with running(Bed(tmp_path)) as bed:
        digest = bed.pull(b"layer", None)
        await bed.asked_about(digest)
        assert bed.held_count == 1
    assert open_descriptors_count() == before_count


async def test_that_layers_are_cached_is_said_once(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for data in (b"one", b"two"):
        digest = bed.pull(data, GOES)
        await eventually(lambda digest=digest: bed.store.is_cached(digest))  # type: ignore[misc]
    assert sum("discard_unpacked_layers" in record.message for record in caplog.records) == 1
