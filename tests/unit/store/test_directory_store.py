"""The embedded store: what it writes is whole and verified or not there, and it never exceeds its quota."""

from __future__ import annotations

import asyncio
import json
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.base import ContentRemoved
from mirror.store.directory_store import DirectoryStore
from mirror.store.ingest_file import DigestMismatch
from mirror.store.oci_layout import LayoutInvalid
from mirror.store.quota import StoreFull
from tests.support.directory_stores import files, name_of, put, store_in
from tests.support.store_beds import (
    Follower,
    blob_path,
    content_of,
)


async def test_the_folder_is_an_image_layout(tmp_path: Path) -> None:
    async with store_in(tmp_path / "new" / "cache"):
        root = tmp_path / "new" / "cache"
        assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
        assert json.loads((root / "index.json").read_text()) == {"schemaVersion": 2, "manifests": []}


async def test_an_index_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": [1]}')
    async with store_in(tmp_path):
        assert (tmp_path / "index.json").read_text() == '{"schemaVersion": 2, "manifests": [1]}'


@pytest.mark.parametrize("text", ['{"imageLayoutVersion": "9"}', "[]", "{}", "\x00"])
async def test_a_folder_of_another_kind_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "oci-layout").write_text(text)
    with pytest.raises(LayoutInvalid, match="name another folder"):
        await DirectoryStore(tmp_path, quota_bytes=None).run()
    assert (tmp_path / "oci-layout").read_text() == text


async def test_construction_touches_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "new", quota_bytes=1)
    assert not (tmp_path / "new").exists()
    assert "not been read" in str(store.unavailable)
    with pytest.raises(StoreUnavailable):
        async with store.ingest(Digest.of(b""), 0):
            pass


async def test_a_blob_comes_in_pieces_and_is_read_only(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        data = os.urandom(100_000)
        digest = Digest.of(data)
        async with store.ingest(digest, len(data)) as writer:
            for start in range(0, len(data), 30_000):
                await writer.write(memoryview(data)[start : start + 30_000])
            assert store.size_bytes(digest) is None
            assert not blob_path(tmp_path, digest).exists()
            await writer.commit()
            assert store.size_bytes(digest) == len(data)
        assert await content_of(store, digest) == data
        assert blob_path(tmp_path, digest).stat().st_mode & 0o777 == 0o444
        assert files(tmp_path) == {name_of(digest): len(data)}
        assert (store.used_bytes, store.reserved_bytes) == (len(data), 0)


async def test_an_empty_blob_and_one_of_sha512_are_blobs(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        empty = await put(store, b"")
        digest = Digest.of(b"long", "sha512")
        async with store.ingest(digest, 4) as writer:
            await writer.write(b"long")
            await writer.commit()
        assert await content_of(store, empty) == b""
        assert await content_of(store, digest) == b"long"
    async with store_in(tmp_path) as again:
        assert again.size_bytes(empty) == 0
        assert again.size_bytes(digest) == 4


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"wrong byte", "the bytes are sha256:"),
        (b"short", "ended after 5 of 10 bytes"),
        (b"", "ended after 0 of 10 bytes"),
        (b"one byte more", "more bytes than the 10"),
    ],
)
async def test_of_wrong_bytes_nothing_is_kept(tmp_path: Path, written: bytes, message: str) -> None:
    async with store_in(tmp_path, quota_bytes=10) as store:
        digest = Digest.of(b"right byte")
        with pytest.raises(DigestMismatch, match=message):
            async with store.ingest(digest, 10) as writer:
                await writer.write(written)
                await writer.commit()
        assert files(tmp_path) == {}
        assert (store.used_bytes, store.reserved_bytes) == (0, 0)
        assert await put(store, b"right byte") == digest


async def test_too_many_bytes_are_refused_before_they_reach_the_disk(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        with pytest.raises(DigestMismatch):
            async with store.ingest(Digest.of(b"1234"), 4) as writer:
                await writer.write(b"123")
                try:
                    await writer.write(b"45")
                finally:
                    assert set(files(tmp_path).values()) == {3}


async def test_an_ingest_left_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=10) as store:
        async with store.ingest(Digest.of(b"1234"), 4) as writer:
            await writer.write(b"1234")
            assert store.reserved_bytes == 4
        with pytest.raises(ZeroDivisionError):
            async with store.ingest(Digest.of(b"1234"), 4) as writer:
                await writer.write(b"1234")
                raise ZeroDivisionError
        assert files(tmp_path) == {}
        assert store.reserved_bytes == 0


@pytest.mark.parametrize("after_steps", range(12))
async def test_a_cancelled_ingest_leaves_a_whole_blob_or_nothing(tmp_path: Path, after_steps: int) -> None:
    async with store_in(tmp_path, quota_bytes=100) as store:
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        task = asyncio.create_task(put(store, b"whole"))
        for _ in range(after_steps):
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: None)
        task.cancel()
        await asyncio.wait({task})
        here = files(tmp_path)
        assert here in ({}, {name_of(Digest.of(b"whole")): 5})
        assert (store.used_bytes, store.reserved_bytes) == (sum(here.values()), 0)
        assert store.size_bytes(Digest.of(b"whole")) == (5 if here else None)
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


async def test_a_blob_may_be_written_twice_at_once(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=10) as store:
        follower = Follower(store)
        await follower.take()
        first, second = await asyncio.gather(put(store, b"same"), put(store, b"same"))
        assert first == second
        assert (store.used_bytes, store.reserved_bytes) == (4, 0)
        await put(store, b"other")
        await follower.take_until(lambda known: len(known) == 2)


async def test_the_least_recently_used_makes_room(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=30) as store:
        follower = Follower(store)
        await follower.take()
        old, used, new = [await put(store, bytes([number]) * 10) for number in range(3)]
        (await store.open(old)).close()
        await follower.take_until(lambda known: len(known) == 3)
        latest = await put(store, b"x" * 10)
        assert await follower.take() == ContentRemoved(used)
        assert set(files(tmp_path)) == {name_of(digest) for digest in (old, new, latest)}
        with pytest.raises(ContentNotFound):
            await store.open(used)


async def test_use_is_remembered_by_the_next_process(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        used, unused = await put(store, b"used"), await put(store, b"unus")
        # As if both had been written long ago, the used one first.
        for age_s, digest in enumerate([unused, used]):
            os.utime(blob_path(tmp_path, digest), (1_000_000 - age_s, 1_000_000 - age_s))
        (await store.open(used)).close()
    async with store_in(tmp_path, quota_bytes=8) as store:
        await put(store, b"new!")
        assert store.size_bytes(used) == 4
        assert store.size_bytes(unused) is None


async def test_pins_stay_also_after_a_restart_and_before_the_blob_comes(tmp_path: Path) -> None:
    pinned, early = Digest.of(b"pinned"), Digest.of(b"early!")
    async with store_in(tmp_path) as store:
        await put(store, b"pinned")
        await store.pin(pinned)
        await store.pin(early)
    async with store_in(tmp_path, quota_bytes=12) as store:
        await put(store, b"early!")
        with pytest.raises(StoreFull, match="12 are pinned"):
            await put(store, b"a")
        assert set(files(tmp_path)) == {name_of(pinned), name_of(early)}
        await store.unpin(early)
    async with store_in(tmp_path, quota_bytes=12) as store:
        await put(store, b"a")
        assert store.size_bytes(pinned) == 6
        assert store.size_bytes(early) is None


async def test_a_pin_that_cannot_be_written_down_is_no_pin(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=4) as store:
        digest = await put(store, b"1234")
        (tmp_path / "pins").rmdir()
        (tmp_path / "pins").touch()
        with pytest.raises(StoreUnavailable):
            await store.pin(digest)
        await put(store, b"5678")
        assert store.size_bytes(digest) is None


async def test_a_blob_over_the_quota_is_refused_and_evicts_nothing(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=10) as store:
        digest = await put(store, b"1234567890")
        with pytest.raises(StoreFull, match="no room for 11 bytes"):
            await put(store, b"12345678901")
        assert store.size_bytes(digest) == 10


async def test_a_quota_that_became_smaller_is_obeyed_at_start(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        digests = [await put(store, bytes([number]) * 10) for number in range(3)]
        for number, digest in enumerate(digests):
            os.utime(blob_path(tmp_path, digest), (number, number))
    async with store_in(tmp_path, quota_bytes=15):
        assert set(files(tmp_path)) == {name_of(digests[2])}


@pytest.mark.parametrize("seed", range(5))
async def test_concurrent_ingests_never_exceed_the_quota(tmp_path: Path, seed: int) -> None:
    """Looks at the disk itself, all the time: whole blobs and unfinished ones together."""
    rng = random.Random(seed)
    quota_bytes = 5000
    most_bytes = refused = 0
    seen: list[Digest] = []

    async def look() -> None:
        nonlocal most_bytes
        while True:
            # Blobs first: a file that is renamed meanwhile is missed, never counted twice.
            most_bytes = max(most_bytes, on_disk(tmp_path / "blobs/sha256") + on_disk(tmp_path / "ingest"))
            assert store.used_bytes + store.reserved_bytes <= quota_bytes
            # Opening goes on without the lock: what is on its way out must not be found again.
            for digest in seen:
                with suppress(ContentNotFound):
                    (await store.open(digest)).close()
            await asyncio.sleep(0)

    async def write(data: bytes) -> None:
        nonlocal refused
        try:
            async with store.ingest(Digest.of(data), len(data)) as writer:
                for start in range(0, len(data), 300):
                    await writer.write(data[start : start + 300])
                if rng.random() < 0.8:
                    await writer.commit()
                    seen.append(Digest.of(data))
        except StoreFull:
            refused += 1

    async with store_in(tmp_path, quota_bytes=quota_bytes) as store, asyncio.TaskGroup() as group:
        looking = group.create_task(look())
        for _ in range(4):
            await asyncio.gather(*(write(rng.randbytes(rng.randrange(2000))) for _ in range(8)))
        looking.cancel()
    assert quota_bytes / 2 < most_bytes <= quota_bytes
    assert refused > 0, "the load was too small to show anything"
    assert sum(files(tmp_path).values()) == store.used_bytes


def on_disk(folder: Path) -> int:
    total_bytes = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total_bytes += entry.stat().st_size
    return total_bytes
