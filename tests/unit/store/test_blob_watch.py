"""The watch says when files come or go, with inotify and without, whatever happens to the folder."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from pathlib import Path

import pytest

from mirror.store.blob_watch import BlobWatch
from tests.support.store_beds import DEADLINE_S, no_descriptor_left

Changes = AsyncGenerator[None, None]

# Longer than a change takes to be noticed, inotify or not.
SILENCE_S = 0.3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "blobs"
    made.mkdir()
    return made


@pytest.fixture(params=["inotify", "polling"])
async def changes(request: pytest.FixtureRequest, folder: Path) -> AsyncGenerator[Changes, None]:
    """A watch that stands."""
    watch = BlobWatch([folder])
    async with aclosing(watch.changes()) as made:
        if request.param == "polling":
            with no_descriptor_left():
                await soon(anext(made))
            assert watch.polling_because is not None
        else:
            await soon(anext(made))
            assert watch.polling_because is None
        yield made


async def soon(waiting: Awaitable[None]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await waiting


def commit(folder: Path, name: str) -> None:
    draft = folder.parent / "draft"
    draft.touch()
    draft.rename(folder / name)


async def drain(changes: Changes) -> int:
    """How many items come until nothing more does. Ends the watch."""
    count = 0
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                await anext(changes)
        except (TimeoutError, StopAsyncIteration):
            return count
        count += 1


async def test_a_commit_and_a_deletion_are_changes(changes: Changes, folder: Path) -> None:
    commit(folder, "a")
    await soon(anext(changes))
    (folder / "a").unlink()
    await soon(anext(changes))


async def test_silence_is_no_change(changes: Changes) -> None:
    assert await drain(changes) == 0


async def test_many_changes_are_few_items(changes: Changes, folder: Path) -> None:
    for number in range(500):
        commit(folder, f"{number}")
    assert 1 <= await drain(changes) <= 3


async def test_a_folder_that_is_made_again_is_watched_again(changes: Changes, folder: Path) -> None:
    shutil.rmtree(folder)
    await soon(anext(changes))
    folder.mkdir()
    await soon(anext(changes))
    commit(folder, "a")
    await soon(anext(changes))


async def test_a_folder_that_is_put_in_place_of_another_is_watched(changes: Changes, folder: Path) -> None:
    other = folder.with_name("other")
    other.mkdir()
    folder.rename(folder.with_name("old"))
    other.rename(folder)
    await soon(anext(changes))
    commit(folder, "a")
    await soon(anext(changes))


async def test_a_file_that_is_being_written_is_no_change_until_it_is_closed(folder: Path) -> None:
    async with aclosing(BlobWatch([folder]).changes()) as changes:
        await soon(anext(changes))
        with (folder / "a").open("wb") as file:
            file.write(b"half")
            file.flush()
            waiting = asyncio.ensure_future(anext(changes))
            done, _ = await asyncio.wait({waiting}, timeout=SILENCE_S)
            assert not done
        await soon(waiting)


async def test_a_folder_that_comes_later_is_watched_by_inotify(folder: Path) -> None:
    late = folder / "late"
    watch = BlobWatch([folder, late])
    async with aclosing(watch.changes()) as changes:
        await soon(anext(changes))
        assert watch.polling_because is not None
        commit(folder, "a")
        await soon(anext(changes))
        late.mkdir()
        while watch.polling_because is not None:
            await soon(anext(changes))
        commit(late, "b")
        await soon(anext(changes))


async def test_every_folder_is_watched(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("sha256", "sha512")]
    for folder in folders:
        folder.mkdir()
    async with aclosing(BlobWatch(folders).changes()) as changes:
        await soon(anext(changes))
        for folder in folders:
            commit(folder, "a")
            await soon(anext(changes))


async def test_why_inotify_is_not_used_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    watch = BlobWatch([folder])
    for _ in range(2):
        async with aclosing(watch.changes()) as changes:
            with no_descriptor_left():
                await soon(anext(changes))
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "max_user_instances" in record.message
    assert str(folder) in record.message


@pytest.mark.slow
async def test_polling_looks_once_more_since_a_clock_tick_can_hide_a_change(folder: Path) -> None:
    async with aclosing(BlobWatch([folder]).changes()) as changes:
        with no_descriptor_left():
            await soon(anext(changes))
        commit(folder, "a")
        await soon(anext(changes))
        status = folder.stat()
        commit(folder, "b")
        os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))
        await soon(anext(changes))
        assert await drain(changes) == 0
