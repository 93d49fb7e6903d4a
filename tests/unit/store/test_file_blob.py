"""A blob that is an open file, and work in threads that is seen to its end."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from mirror.errors import StoreUnavailable
from mirror.oci.byterange import ByteSpan
from mirror.store.disk_work import run_to_the_end
from mirror.store.file_blob import CHUNK_MAX_BYTES, INLINE_READ_MAX_BYTES, FileBlob
from tests.support.store_beds import eventually, read


@pytest.mark.parametrize(
    "size_bytes",
    [0, 1, INLINE_READ_MAX_BYTES, INLINE_READ_MAX_BYTES + 1, CHUNK_MAX_BYTES, CHUNK_MAX_BYTES + 1],
)
async def test_all_sizes_are_read_whole(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "blob"
    path.write_bytes(data := os.urandom(size_bytes))
    blob = FileBlob.open(path)
    path.unlink()
    assert blob.size_bytes == size_bytes
    assert await read(blob) == data
    blob.close()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "nothing"])
def test_what_is_no_plain_file_is_not_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "blob"
    if kind == "link":
        (tmp_path / "secret").write_bytes(b"secret")
        path.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        FileBlob.open(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("size_bytes", [100, CHUNK_MAX_BYTES], ids=["inline", "threaded"])
async def test_a_file_that_was_cut_short_is_an_error_and_not_an_end(tmp_path: Path, size_bytes: int) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"x" * size_bytes)
    blob = FileBlob.open(path)
    os.truncate(path, size_bytes // 2)
    with pytest.raises(StoreUnavailable, match=f"ends at {size_bytes // 2}, not at {size_bytes}"):
        await read(blob)
    blob.close()


async def test_a_blob_that_is_closed_between_two_chunks_gives_no_other_file_s_bytes(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 2 * CHUNK_MAX_BYTES)
    (tmp_path / "other").write_bytes(b"y" * 2 * CHUNK_MAX_BYTES)
    blob = FileBlob.open(tmp_path / "blob")
    number = blob.descriptor
    chunks = blob.chunks(ByteSpan(0, blob.size_bytes))
    assert set(await anext(chunks)) == {ord("x")}
    blob.close()
    other = FileBlob.open(tmp_path / "other")
    assert other.descriptor == number, "the number was given to another file"
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(chunks)
    other.close()


async def test_a_blob_that_is_closed_during_a_read_gives_no_other_file_s_bytes(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * CHUNK_MAX_BYTES)
    (tmp_path / "other").write_bytes(b"y" * CHUNK_MAX_BYTES)
    blob = FileBlob.open(tmp_path / "blob")
    reading = asyncio.ensure_future(anext(blob.chunks(ByteSpan(0, blob.size_bytes))))
    await asyncio.sleep(0)  # The read is on its way to a thread now.
    blob.close()
    other = FileBlob.open(tmp_path / "other")
    with pytest.raises(StoreUnavailable):
        await reading
    other.close()


async def test_work_in_a_thread_gives_its_result_and_its_errors() -> None:
    assert await run_to_the_end(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        await run_to_the_end(divmod, 1, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_caller_waits_for_the_thread(fails: bool) -> None:
    begun, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.append(True)
        if fails:
            raise OSError("late")

    task = asyncio.create_task(run_to_the_end(work))
    try:
        await eventually(begun.is_set)
        for _ in range(3):
            task.cancel()
            await asyncio.wait({task}, timeout=0.05)
            assert not task.done()
    finally:
        go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
