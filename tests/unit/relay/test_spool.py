from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.relay.errors import SpoolBroken, SpoolFull, SpoolUnusable
from mirror.relay.spool import KEEP_S, Spool
from mirror.relay.spool_file import SpoolFile

QUOTA_BYTES = 1000


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def spool(tmp_path: Path, clock: Clock) -> AsyncIterator[Spool]:
    async with Spool(tmp_path / "spool", quota_bytes=QUOTA_BYTES, clock=clock, disk_full_ratio=1.0) as made:
        yield made


def digest(number: int) -> Digest:
    return Digest.of(str(number).encode())


def files(folder: Path) -> list[str]:
    return sorted(path.name[:13] for path in (folder / "spool").iterdir())


def named(*numbers: int) -> list[str]:
    return sorted(f"sha256-{digest(number).encoded}"[:13] for number in numbers)


async def test_what_is_written_is_there_and_read(spool: Spool) -> None:
    file = await spool.make(digest(1), 100)
    await file.write(10, b"abcdef")
    await file.write(90, b"z" * 10)
    assert file.have() == [ByteSpan(10, 16), ByteSpan(90, 100)]
    assert file.missing(ByteSpan(0, 100)) == [ByteSpan(0, 10), ByteSpan(16, 90)]
    assert await file.read(ByteSpan(11, 14)) == b"bcd"
    assert not file.is_whole
    await file.write(0, b"-" * 10)
    await file.write(16, b"-" * 74)
    assert file.is_whole
    hasher = hashlib.sha256()
    await file.hash_into(hasher, ByteSpan(0, 100))
    expected = b"-" * 10 + b"abcdef" + b"-" * 74 + b"z" * 10
    assert hasher.digest() == hashlib.sha256(expected).digest()


async def test_bytes_that_are_there_are_not_written_again(spool: Spool) -> None:
    """Whoever sends them later may be lying, and they may be hashed already."""
    file = await spool.make(digest(1), 10)
    await file.write(3, b"good")
    await asyncio.gather(file.write(0, b"badbadbadb"), file.write(0, b"xxxxxxxxxx"))
    assert await file.read(ByteSpan(0, 10)) == b"badgoodadb"


async def test_a_waiter_is_told_how_far_it_goes(spool: Spool) -> None:
    file = await spool.make(digest(1), 100)
    waiting = asyncio.ensure_future(file.has(20))
    await file.write(0, b"-" * 20)
    await asyncio.sleep(0)
    assert not waiting.done()
    await file.write(20, b"-" * 5)
    assert await asyncio.wait_for(waiting, 5) == 25


async def test_a_cancelled_write_leaves_a_consistent_file(spool: Spool) -> None:
    file = await spool.make(digest(1), 10)
    writing = asyncio.ensure_future(file.write(0, b"0123456789"))
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await file.write(0, b"0123456789")
    assert await file.read(ByteSpan(0, 10)) == b"0123456789"


async def test_a_disk_that_fails_is_told(spool: Spool, clock: Clock) -> None:
    reading, writing = os.pipe()  # neither end can be written or read at an offset
    try:
        file = SpoolFile(digest(1), 10, writing)
        for _ in range(2):
            with pytest.raises(SpoolBroken, match="cannot be written at 2"):
                await file.write(2, b"abc")
        assert file.have() == []
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_second_taker_finds_the_same_file(spool: Spool) -> None:
    first = await spool.make(digest(1), 100)
    assert await spool.make(digest(1), 100) is first
    assert spool.find(digest(1)) is first
    assert spool.find(digest(2)) is None


async def test_what_nobody_holds_goes_oldest_first(spool: Spool, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        spool.release(await spool.make(digest(number), 300))
    first = spool.find(digest(1))
    assert first is not None
    spool.release(first)
    await spool.make(digest(4), 300)
    assert files(tmp_path) == named(1, 3, 4)
    assert spool.used_bytes == 900


async def test_what_is_held_stays_and_the_newcomer_is_refused(spool: Spool, tmp_path: Path) -> None:
    await spool.make(digest(1), 600)
    spool.release(await spool.make(digest(2), 300))
    with pytest.raises(SpoolFull, match=r"500 bytes have no room in the spool: 600 of 1000"):
        await spool.make(digest(3), 500)
    assert spool.find(digest(1)) is not None


async def test_two_holders_give_it_back_each(spool: Spool) -> None:
    file = await spool.make(digest(1), 600)
    spool.find(digest(1))
    spool.release(file)
    with pytest.raises(SpoolFull):
        await spool.make(digest(2), 500)
    spool.release(file)
    await spool.make(digest(2), 500)


async def test_what_can_never_fit_evicts_nothing(spool: Spool, tmp_path: Path) -> None:
    spool.release(await spool.make(digest(1), 600))
    with pytest.raises(SpoolFull):
        await spool.make(digest(2), QUOTA_BYTES + 1)
    assert files(tmp_path) == named(1)


async def test_a_file_is_kept_some_time_after_its_last_reader(
    spool: Spool, tmp_path: Path, clock: Clock
) -> None:
    held = await spool.make(digest(1), 10)
    spool.release(await spool.make(digest(2), 10))
    clock.now_s += KEEP_S - 1
    await spool.sweep()
    assert files(tmp_path) == named(1, 2)
    clock.now_s += 1
    await spool.sweep()
    assert files(tmp_path) == named(1)
    spool.release(held)
    await spool.sweep()
    assert files(tmp_path) == named(1)
    clock.now_s += KEEP_S
    await spool.sweep()
    assert files(tmp_path) == []
    assert spool.used_bytes == 0


async def test_a_dropped_file_is_found_by_nobody_and_readable_by_who_holds_it(
    spool: Spool, tmp_path: Path
) -> None:
    wrong = await spool.make(digest(1), 10)
    await wrong.write(0, b"wrong")
    spool.drop(wrong)
    assert spool.find(digest(1)) is None
    right = await spool.make(digest(1), 10)
    assert right is not wrong
    await right.write(0, b"right")
    assert await wrong.read(ByteSpan(0, 5)) == b"wrong"
    assert spool.used_bytes == 20
    spool.release(wrong)
    await spool.sweep()
    assert await right.read(ByteSpan(0, 5)) == b"right"
    assert files(tmp_path) == named(1)
    assert spool.used_bytes == 10


async def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    async with Spool(tmp_path / "spool", quota_bytes=1000, clock=clock, disk_full_ratio=0.0) as spool:
        with pytest.raises(SpoolFull, match="would fill the spool's disk over 0%"):
            await spool.make(digest(1), 10)
        assert files(tmp_path) == []


async def test_no_room_on_the_disk_leaves_nothing_behind(tmp_path: Path, clock: Clock) -> None:
    """More than any file can have: the file system itself says no, as with ENOSPC."""
    quota_bytes = 1 << 80
    async with Spool(
        tmp_path / "spool", quota_bytes=quota_bytes, clock=clock, disk_full_ratio=float(1 << 70)
    ) as spool:
        with pytest.raises(SpoolFull, match="no spool file of"):
            await spool.make(digest(1), (1 << 63) - 1)
        assert files(tmp_path) == []
        assert spool.used_bytes == 0
        spool.release(await spool.make(digest(1), 10))


async def test_the_start_purges_what_is_ours_and_nothing_else(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / f"sha256-{'0' * 64}.1.part").write_bytes(b"old")
    (folder / "notes.txt").write_bytes(b"not ours")
    async with Spool(folder, quota_bytes=1000, clock=clock):
        assert [path.name for path in folder.iterdir()] == ["notes.txt"]


async def test_the_end_leaves_nothing(tmp_path: Path, clock: Clock) -> None:
    async with Spool(tmp_path / "spool", quota_bytes=1000, clock=clock, disk_full_ratio=1.0) as spool:
        held = await spool.make(digest(1), 10)
        dropped = await spool.make(digest(2), 10)
        spool.drop(dropped)
        assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
        assert next((tmp_path / "spool").iterdir()).stat().st_mode & 0o777 == 0o600
    assert files(tmp_path) == []
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(held.descriptor)


async def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolUnusable, match="mend it, or choose another --data-dir"):
        async with Spool(tmp_path / "file" / "spool", quota_bytes=1000, clock=clock):
            pass
