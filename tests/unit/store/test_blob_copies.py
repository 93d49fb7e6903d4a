"""Copies into the cache: whole and verified or not there, never too many at once, never what fills the disk."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.blob_copies import (
    COMPLAIN_EVERY_S,
    COPIES_AT_ONCE_COUNT,
    WAITING_MAX_COUNT,
    BlobCopies,
)
from mirror.store.directory_store import DirectoryStore
from mirror.store.disk_room import DiskRoom
from tests.support.directory_stores import files, name_of, put, small_disk, store_in
from tests.support.skips import require, root_or_missing
from tests.support.store_beds import EMPTY_DISK, blob_path, eventually

FULL_DISK = DiskRoom(1000, 0)


class Surroundings:
    """What the copies look at beside the cache."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.disk = EMPTY_DISK
        # By the cache, of what is free on the disk.
        self.taken_bytes: Callable[[], int] = lambda: 0

    def clock(self) -> float:
        return self.now_s

    def ask_disk(self, _: Path) -> DiskRoom:
        return DiskRoom(self.disk.capacity_bytes, self.disk.free_bytes - self.taken_bytes())


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


def copies_into(
    cache: DirectoryStore,
    folder: Path,
    around: Surroundings,
    *,
    quota_bytes: int = 1 << 30,
    disk_check_s: float = 0.01,
) -> BlobCopies:
    return BlobCopies(
        cache,
        folder,
        quota_bytes=quota_bytes,
        clock=around.clock,
        ask_disk=around.ask_disk,
        disk_check_s=disk_check_s,
    )


@asynccontextmanager
async def running(copies: BlobCopies) -> AsyncIterator[BlobCopies]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(copies.run())
        await asyncio.sleep(0)
        yield copies
        assert not task.done(), "run ended by itself"
        task.cancel()


@contextmanager
def opened(data: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def keep(copies: BlobCopies, data: bytes) -> Digest:
    digest = Digest.of(data)
    with opened(data) as source:
        copies.keep(digest, len(data), source)
    return digest


def open_descriptors_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


async def test_what_is_kept_is_copied_though_its_file_is_gone(tmp_path: Path, around: Surroundings) -> None:
    before_count = open_descriptors_count()
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
        digests = [keep(copies, bytes([number]) * 1000) for number in range(5)]
        await eventually(lambda: all(cache.size_bytes(digest) == 1000 for digest in digests))
        assert files(tmp_path) == {name_of(digest): 1000 for digest in digests}
    assert open_descriptors_count() == before_count


async def test_one_digest_is_copied_once_and_used_again(tmp_path: Path, around: Surroundings) -> None:
    """A second descriptor of one digest is not even held."""
    async with (
        store_in(tmp_path, quota_bytes=30) as cache,
        running(copies_into(cache, tmp_path, around)) as copies,
    ):
        before_count = open_descriptors_count()
        first = keep(copies, b"1" * 10)
        assert keep(copies, b"1" * 10) == first
        assert open_descriptors_count() == before_count + 1
        await eventually(lambda: cache.size_bytes(first) == 10)
        inode = blob_path(tmp_path, first).stat().st_ino
        second = await put(cache, b"2" * 10)
        # It is there, so keeping it is using it; the one that was not used goes when room is needed.
        keep(copies, b"1" * 10)
        await eventually(lambda: open_descriptors_count() == before_count)
        third = keep(copies, b"3" * 20)
        await eventually(lambda: cache.size_bytes(third) == 20)
        assert (cache.size_bytes(first), cache.size_bytes(second)) == (10, None)
        assert blob_path(tmp_path, first).stat().st_ino == inode


async def test_wrong_bytes_are_not_kept_and_the_next_are(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
        digest = Digest.of(b"right byte")
        for wrong in (b"wrong byte", b"short"):
            with opened(wrong) as source:
                copies.keep(digest, 10, source)
            await eventually(lambda: bool(warnings(caplog)))
            assert files(tmp_path) == {}
            assert str(digest) in warnings(caplog).pop()
            caplog.clear()
        keep(copies, b"right byte")
        await eventually(lambda: cache.size_bytes(digest) == 10)


async def test_the_least_recently_used_makes_room(tmp_path: Path, around: Surroundings) -> None:
    async with (
        store_in(tmp_path, quota_bytes=25) as cache,
        running(copies_into(cache, tmp_path, around, quota_bytes=25)) as copies,
    ):
        for number in range(4):
            digest = keep(copies, bytes([number]) * 10)
            await eventually(lambda digest=digest: cache.size_bytes(digest) == 10)  # type: ignore[misc]
        assert files(tmp_path) == {name_of(Digest.of(bytes([number]) * 10)): 10 for number in (2, 3)}


async def test_what_the_quota_cannot_hold_is_not_kept_and_nothing_goes_for_it(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        store_in(tmp_path, quota_bytes=20) as cache,
        running(copies_into(cache, tmp_path, around, quota_bytes=20)) as copies,
    ):
        small = await put(cache, b"small")
        before_count = open_descriptors_count()
        keep(copies, b"x" * 21)
        assert open_descriptors_count() == before_count
        assert "has 21 bytes, the cache at most 20" in warnings(caplog)[0]
        pinned = await put(cache, b"p" * 10)
        await cache.pin(pinned)
        keep(copies, b"y" * 15)
        around.now_s += COMPLAIN_EVERY_S
        await eventually(lambda: len(warnings(caplog)) == 2)
        assert "10 are pinned" in warnings(caplog)[1]
        assert cache.size_bytes(small) == 5


async def test_of_too_many_the_oldest_are_let_go(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
        before_count = open_descriptors_count()
        # No copy begins between two of them.
        digests = [keep(copies, b"%d" % number) for number in range(WAITING_MAX_COUNT + 3)]
        assert open_descriptors_count() == before_count + WAITING_MAX_COUNT
        await eventually(lambda: len(files(tmp_path)) == WAITING_MAX_COUNT)
        assert all(cache.size_bytes(digest) is None for digest in digests[:3])
        assert len(warnings(caplog)) == 1
        assert f"{digests[0]} waited behind too many others" in warnings(caplog)[0]


async def test_more_bytes_than_the_cache_has_do_not_wait(tmp_path: Path, around: Surroundings) -> None:
    async with (
        store_in(tmp_path, quota_bytes=30) as cache,
        running(copies_into(cache, tmp_path, around, quota_bytes=30)) as copies,
    ):
        before_count = open_descriptors_count()
        digests = [keep(copies, bytes([number]) * 10) for number in range(5)]
        assert open_descriptors_count() == before_count + 3
        await eventually(lambda: all(cache.size_bytes(digest) == 10 for digest in digests[2:]))


async def test_few_are_copied_at_once(tmp_path: Path, around: Surroundings) -> None:
    size_bytes = 4 * 1024 * 1024
    seen: set[int] = set()
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
        digests = [keep(copies, os.urandom(16) * (size_bytes // 16)) for _ in range(6)]
        while not all(cache.size_bytes(digest) for digest in digests):
            seen.add(cache.reserved_bytes)
            await asyncio.sleep(0)
    assert max(seen) == COPIES_AT_ONCE_COUNT * size_bytes


async def test_on_a_full_disk_nothing_is_kept_and_one_line_a_minute_says_so(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
        around.disk = FULL_DISK
        before_count = open_descriptors_count()
        for number in range(5):
            keep(copies, b"%d" % number)
        await eventually(lambda: open_descriptors_count() == before_count)
        assert len(warnings(caplog)) == 1
        assert "would fill its disk over 84%" in warnings(caplog)[0]
        assert "free some of that disk" in warnings(caplog)[0]
        around.now_s += COMPLAIN_EVERY_S
        keep(copies, b"later")
        await eventually(lambda: len(warnings(caplog)) == 2)
        assert "4 more since" in warnings(caplog)[1]
        assert files(tmp_path) == {}
        around.disk = EMPTY_DISK
        digest = keep(copies, b"now")
        await eventually(lambda: cache.size_bytes(digest) == 3)


async def test_new_blobs_take_the_place_of_old_ones_on_a_disk_that_is_nearly_full(
    tmp_path: Path, around: Surroundings
) -> None:
    async with (
        store_in(tmp_path) as cache,
        running(copies_into(cache, tmp_path, around, disk_check_s=3600)) as copies,
    ):
        around.taken_bytes = lambda: cache.used_bytes
        old = await put(cache, b"o" * 10)
        around.disk = DiskRoom(1000, 160 + 15)
        new = keep(copies, b"n" * 10)
        await eventually(lambda: cache.size_bytes(new) == 10)
        assert cache.size_bytes(old) is None


async def test_when_the_disk_fills_up_from_elsewhere_the_cache_gives_way(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)):
        old, new = await put(cache, b"o" * 10), await put(cache, b"n" * 10)
        around.taken_bytes = lambda: cache.used_bytes
        around.disk = DiskRoom(1000, 160 + 13)
        await eventually(lambda: bool(warnings(caplog)))
        assert (cache.size_bytes(old), cache.size_bytes(new)) == (None, 10)
        assert "over 84% full, 10 bytes were removed" in warnings(caplog)[0]


async def test_a_disk_that_has_no_room_is_no_error(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    require(root_or_missing("mounting a small disk"))
    with small_disk(tmp_path):
        async with store_in(tmp_path) as cache, running(copies_into(cache, tmp_path, around)) as copies:
            keep(copies, b"x" * 1024 * 1024)
            await eventually(lambda: "the disk is full" in "".join(warnings(caplog)))
            assert files(tmp_path) == {}
            digest = keep(copies, b"x")
            await eventually(lambda: cache.size_bytes(digest) == 1)


async def test_a_disk_that_cannot_be_asked_is_left_alone(
    tmp_path: Path, around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as cache:
        copies = BlobCopies(cache, tmp_path / "gone", quota_bytes=100, clock=around.clock, disk_check_s=0.01)
        async with running(copies):
            keep(copies, b"x")
            await eventually(lambda: "its disk cannot be asked" in "".join(warnings(caplog)))
        assert files(tmp_path) == {}


async def test_what_waits_at_the_end_is_let_go(tmp_path: Path, around: Surroundings) -> None:
    before_count = open_descriptors_count()
    async with store_in(tmp_path) as cache:
        copies = copies_into(cache, tmp_path, around)
        keep(copies, b"before it runs")
        async with running(copies):
            for number in range(10):
                keep(copies, b"%d" % number)
        keep(copies, b"when it is over")
    assert open_descriptors_count() == before_count
    assert all(name.startswith("blobs/") for name in files(tmp_path)), "no half blob"
