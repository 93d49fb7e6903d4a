"""The embedded store as a cache: blobs come from open files, and go when somebody asks for their room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mirror.errors import ContentNotFound
from mirror.oci.digest import Digest
from mirror.store.directory_store import COPY_CHUNK_BYTES, DirectoryStore
from mirror.store.ingest_file import DigestMismatch
from tests.support.directory_stores import files, name_of, put, store_in
from tests.support.store_beds import Follower, content_of

# Three buffers of a copy by hand, and a bit.
DATA = os.urandom(3 * 256 * 1024 + 11)

Opened = Callable[[Path, bytes], AbstractContextManager[int]]
"""An open file that has these bytes."""


@contextmanager
def on_the_same_disk(folder: Path, data: bytes) -> Iterator[int]:
    path = folder / "source"
    path.write_bytes(data)
    with path.open("rb") as file:
        # As containerd does with what it does not keep.
        path.unlink()
        yield file.fileno()


@contextmanager
def in_memory(_: Path, data: bytes) -> Iterator[int]:
    """The kernel copies nothing between a file in memory and one on a disk."""
    with os.fdopen(os.memfd_create("source"), "wb+") as file:
        file.write(data)
        file.flush()
        yield file.fileno()


async def copy(store: DirectoryStore, digest: Digest, size_bytes: int, source: int) -> None:
    async with store.ingest(digest, size_bytes) as writer:
        await writer.copy(source)
        await writer.commit()


@pytest.mark.parametrize("opened", [on_the_same_disk, in_memory])
@pytest.mark.parametrize("data", [DATA, b"", b"x"], ids=len)
async def test_a_blob_is_copied_from_an_open_file(tmp_path: Path, opened: Opened, data: bytes) -> None:
    async with store_in(tmp_path / "cache") as store:
        digest = Digest.of(data)
        with opened(tmp_path, data) as source:
            os.lseek(source, 5, os.SEEK_SET)
            await copy(store, digest, len(data), source)
            assert os.lseek(source, 0, os.SEEK_CUR) == 5, "the position is its owner's"
        assert await content_of(store, digest) == data
        assert files(tmp_path / "cache") == {name_of(digest): len(data)}


async def test_a_blob_of_several_chunks_is_copied(tmp_path: Path) -> None:
    data = os.urandom(1024) * (COPY_CHUNK_BYTES // 1024 + 1)
    async with store_in(tmp_path / "cache") as store:
        with on_the_same_disk(tmp_path, data) as source:
            await copy(store, Digest.of(data), len(data), source)
        assert await content_of(store, Digest.of(data)) == data


@pytest.mark.parametrize("opened", [on_the_same_disk, in_memory])
@pytest.mark.parametrize(
    ("written", "message"),
    [
        (DATA[:-1] + bytes([DATA[-1] ^ 1]), "the bytes are sha256:"),
        (DATA[:-1], f"ended after {len(DATA) - 1} of {len(DATA)}"),
    ],
    ids=["wrong", "short"],
)
async def test_of_a_file_with_other_bytes_nothing_is_kept(
    tmp_path: Path, opened: Opened, written: bytes, message: str
) -> None:
    async with store_in(tmp_path / "cache") as store:
        with opened(tmp_path, written) as source, pytest.raises(DigestMismatch, match=message):
            await copy(store, Digest.of(DATA), len(DATA), source)
        assert files(tmp_path / "cache") == {}
        assert store.reserved_bytes == 0


async def test_a_file_with_more_bytes_is_copied_to_the_blob_s_end(tmp_path: Path) -> None:
    """A spool file may be longer than what is asked of it; what makes it the blob is the digest."""
    async with store_in(tmp_path / "cache") as store:
        with on_the_same_disk(tmp_path, DATA + b"more") as source:
            await copy(store, Digest.of(DATA), len(DATA), source)
        assert await content_of(store, Digest.of(DATA)) == DATA


async def test_what_was_used_longest_ago_is_shed_first(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        old, pinned, new = [await put(store, bytes([number]) * 10) for number in range(3)]
        await store.pin(pinned)
        follower = Follower(store)
        await follower.take()
        (await store.open(old)).close()
        assert await store.shed(0) == 0
        assert await store.shed(1) == 10
        await follower.take_until(lambda known: new not in known)
        assert store.size_bytes(old) == 10
        assert await store.shed(1000) == 10
        assert set(files(tmp_path)) == {name_of(pinned)}
        assert store.used_bytes == 10


async def test_one_blob_is_removed(tmp_path: Path) -> None:
    async with store_in(tmp_path) as store:
        gone, stays = await put(store, b"gone"), await put(store, b"stays")
        follower = Follower(store)
        await follower.take()
        await store.remove(gone)
        await store.remove(gone)
        await follower.take_until(lambda known: known == {stays: 5})
        with pytest.raises(ContentNotFound):
            await store.open(gone)
        assert files(tmp_path) == {name_of(stays): 5}
        assert store.used_bytes == 5
        assert await put(store, b"gone") == gone
