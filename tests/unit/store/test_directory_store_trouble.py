"""The embedded store in trouble: crashes, other processes, strange files, folders that go away, full disks."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.digest import Digest
from mirror.store.directory_store import RETRY_S, DirectoryStore
from mirror.store.quota import StoreFull
from tests.support.directory_stores import files, name_of, put, small_disk, store_in
from tests.support.skips import require, root_or_missing
from tests.support.store_beds import (
    Follower,
    blob_path,
    commit_by_rename,
    content_of,
    eventually,
    started,
)


async def test_what_a_crashed_process_left_is_removed_and_a_living_one_s_work_is_not(tmp_path: Path) -> None:
    """Two processes on one folder: one is killed in the middle of a blob, the other goes on."""
    async with store_in(tmp_path) as living, living.ingest(Digest.of(b"living"), 6) as writer:
        await writer.write(b"liv")
        async with other_process(tmp_path) as crashed:
            assert crashed.stdout is not None
            assert await crashed.stdout.readline() == b"half\n"
            assert len(files(tmp_path)) == 2
        async with store_in(tmp_path):
            assert len(files(tmp_path)) == 1
        await writer.write(b"ing")
        await writer.commit()
    assert files(tmp_path) == {name_of(Digest.of(b"living")): 6}


@asynccontextmanager
async def other_process(root: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Writes half a blob, says so and waits; is killed at the end."""
    code = f"""
import asyncio
from pathlib import Path
from mirror.oci.digest import Digest
from mirror.store.directory_store import DirectoryStore

async def main():
    store = DirectoryStore(Path({str(root)!r}), quota_bytes=None)
    running = asyncio.create_task(store.run())
    while store.unavailable:
        await asyncio.sleep(0.01)
    async with store.ingest(Digest.of(b"crashed"), 7) as writer:
        await writer.write(b"cras")
        print("half", flush=True)
        await running

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def test_files_of_others_in_the_ingest_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "ingest" / "notes.txt").write_text("mine")
    (tmp_path / "ingest" / "link.ingest").symlink_to(tmp_path / "ingest" / "notes.txt")
    async with store_in(tmp_path):
        assert sorted(path.name for path in (tmp_path / "ingest").iterdir()) == ["link.ingest", "notes.txt"]


async def test_what_another_process_commits_obeys_the_quota(tmp_path: Path) -> None:
    async with store_in(tmp_path, quota_bytes=20) as store:
        follower = Follower(store)
        await follower.take()
        ours = await put(store, b"o" * 10)
        await follower.take_until(lambda known: ours in known)
        theirs = commit_by_rename(tmp_path, b"t" * 15)
        await follower.take_until(lambda known: known == {theirs: 15})
        await eventually(lambda: set(files(tmp_path)) == {name_of(theirs)})


async def test_an_overrun_by_pins_is_said_once_and_nothing_new_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as store:
        await store.pin(await put(store, b"0123456789"))
    async with store_in(tmp_path, quota_bytes=5) as store:
        commit_by_rename(tmp_path, b"a")
        await eventually(lambda: len(files(tmp_path)) == 1)
        with pytest.raises(StoreFull):
            await put(store, b"")
    assert [record.message for record in caplog.records if "over its quota" in record.message] == [
        f"{tmp_path} is 5 bytes over its quota with pinned and unfinished blobs alone: nothing new fits"
    ]


async def test_what_is_no_blob_is_ignored_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "blobs" / "sha256"
    folder.mkdir(parents=True)
    (folder / "README").write_text("hello")
    (folder / Digest.of(b"cut off").encoded).touch()
    (folder / Digest.of(b"secret").encoded).symlink_to("/etc/hostname")
    (folder / Digest.of(b"folder").encoded).mkdir()
    async with store_in(tmp_path) as store:
        good = commit_by_rename(tmp_path, b"good")
        await eventually(lambda: store.size_bytes(good) == 4)
        for name in (b"cut off", b"secret", b"folder"):
            with pytest.raises(ContentNotFound):
                await store.open(Digest.of(name))
            assert store.size_bytes(Digest.of(name)) is None
        assert store.used_bytes == 4
    warnings = sorted(record.message for record in caplog.records if record.levelname == "WARNING")
    assert len(warnings) == 4, warnings
    assert sum("not a digest" in text for text in warnings) == 1
    assert sum("not a plain file" in text for text in warnings) == 2
    assert sum("empty" in text for text in warnings) == 1
    assert (folder / "README").read_text() == "hello"


async def test_a_blob_whose_file_changed_its_size_is_withdrawn_and_can_be_written_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with store_in(tmp_path) as store:
        follower = Follower(store)
        await follower.take()
        digest = await put(store, b"0123456789")
        blob_path(tmp_path, digest).chmod(0o644)
        os.truncate(blob_path(tmp_path, digest), 5)
        for _ in range(2):
            with pytest.raises(ContentNotFound):
                await store.open(digest)
        other = commit_by_rename(tmp_path, b"other")  # Makes the store look again.
        await follower.take_until(lambda known: known == {other: 5})
        assert sum("has 5 bytes and should have 10" in record.message for record in caplog.records) == 1
        assert await put(store, b"0123456789") == digest
        assert await content_of(store, digest) == b"0123456789"


@pytest.mark.slow
async def test_a_folder_that_cannot_be_used_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "mount" / "cache"
    (tmp_path / "mount").write_text("not mounted")
    store = DirectoryStore(root, quota_bytes=None)
    async with started(store):
        await asyncio.sleep(1.5 * RETRY_S)  # Not to wait for something: several tries must happen.
        assert f"{root} cannot be read" in str(store.unavailable)
        (tmp_path / "mount").unlink()
        await eventually(lambda: store.unavailable is None)
        assert await content_of(store, await put(store, b"a")) == b"a"
    assert sum("cannot be read" in record.message for record in caplog.records) == 1


@pytest.mark.slow
async def test_a_folder_that_is_lost_is_told_and_made_again(tmp_path: Path) -> None:
    root = tmp_path / "cache"
    async with store_in(root) as store:
        follower = Follower(store)
        await follower.take()
        await put(store, b"a")
        await follower.take_until(lambda known: len(known) == 1)
        shutil.rmtree(root)
        await follower.take_until(lambda known: known == {})
        digest = await put(store, b"b")
        await follower.take_until(lambda known: known == {digest: 1})


async def test_a_blob_that_cannot_be_deleted_stays_known(tmp_path: Path) -> None:
    """A folder in a blob's place cannot be unlinked, whoever asks."""
    async with store_in(tmp_path, quota_bytes=10) as store:
        digest = await put(store, b"0123456789")
        blob_path(tmp_path, digest).unlink()
        blob_path(tmp_path, digest).mkdir()
        with pytest.raises(StoreUnavailable, match="cannot be deleted"):
            await put(store, b"a")
        assert (store.used_bytes, store.reserved_bytes) == (10, 0)


async def test_a_full_disk_is_told_as_such_and_leaves_nothing(tmp_path: Path) -> None:
    require(root_or_missing("mounting a small disk"))
    with small_disk(tmp_path):
        async with store_in(tmp_path) as store:
            with pytest.raises(StoreFull, match="disk is full"):
                await put(store, b"x" * 1024 * 1024)
            assert files(tmp_path) == {}
            assert store.reserved_bytes == 0
            await put(store, b"x")
