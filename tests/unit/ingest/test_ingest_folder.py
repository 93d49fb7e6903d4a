"""What one look finds, and what inotify says about the folder of blobs."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from asyncinotify import Inotify, Mask, Watch

from mirror.ingest import ingest_folder
from mirror.ingest import signs as signs_module
from mirror.ingest.ingest_folder import BlobNames, BlobsUnknown, IngestFolder
from mirror.ingest.signs import BATCH_MAX_COUNT, InotifySigns, PolledSigns, open_signs
from mirror.oci.digest import Digest
from tests.support.ingest_beds import FolderDraft

A, B = Digest.of(b"a"), Digest.of(b"b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def folder(root: Path) -> Iterator[IngestFolder]:
    made = IngestFolder(root, ["one"])
    yield made
    made.close()


def put(root: Path, digest: Digest) -> Path:
    path = root / "blobs" / "sha256" / digest.encoded
    draft = root / "draft"
    draft.touch()
    return draft.rename(path)


def open_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- blobs


def test_the_first_look_finds_no_blob_new(root: Path, folder: IngestFolder) -> None:
    put(root, A)
    assert folder.look(BlobsUnknown()).arrived == frozenset()
    put(root, B)
    assert folder.look(BlobsUnknown()).arrived == {B}
    assert folder.look(BlobsUnknown()).arrived == frozenset()


def test_a_blob_that_comes_within_the_tick_of_a_look_is_found(root: Path, folder: IngestFolder) -> None:
    folder.look(BlobsUnknown())
    before = folder.blobs.stat()
    put(root, A)
    os.utime(folder.blobs, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.look(BlobsUnknown()).arrived == {A}


def test_a_folder_that_stays_as_it_is_is_not_listed_for_ever(
    root: Path, folder: IngestFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_folder, "RACY_S", -1.0)
    folder.look(BlobsUnknown())
    before = folder.blobs.stat()
    put(root, A)
    os.utime(folder.blobs, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert folder.look(BlobsUnknown()).arrived == frozenset()


def test_names_are_told_once_and_again_when_the_blob_comes_back(folder: IngestFolder) -> None:
    folder.look(BlobsUnknown())
    came, went, back = (
        BlobNames([A.encoded, "draft-1", "ab"], []),
        BlobNames([], [A.encoded]),
        BlobNames([A.encoded], [A.encoded]),
    )
    assert [folder.look(names).arrived for names in (came, came, went, came, back)] == [
        {A},
        frozenset(),
        frozenset(),
        {A},
        {A},
    ]


async def test_a_commit_seen_by_a_look_is_not_told_again_by_its_name(
    root: Path, folder: IngestFolder
) -> None:
    folder.look(BlobsUnknown())
    one = FolderDraft(root, A, f"one/1/layer-{A}", 1)
    folder.look(BlobNames([], []))
    await one.write(b"a")
    await one.commit()
    assert folder.look(BlobNames([], [])).complete == {A}
    assert folder.look(BlobNames([A.encoded], [])).arrived == frozenset()


@pytest.mark.parametrize("digest", [A, Digest.of(b"a", "sha512")], ids=["sha256", "sha512"])
def test_a_commit_in_the_look_that_first_sees_the_ingest_is_told(
    root: Path, folder: IngestFolder, digest: Digest
) -> None:
    folder.look(BlobsUnknown())
    FolderDraft(root, digest, f"one/1/layer-{digest}", 1)
    blob = root / "blobs" / digest.algorithm / digest.encoded
    blob.parent.mkdir(exist_ok=True)
    blob.touch()
    assert folder.look(BlobNames([], [])).arrived == {digest}
    assert folder.look(BlobNames([digest.encoded], [])).arrived == frozenset()


# --- ingests


def test_an_ingest_is_nascent_until_its_data_file_is_there(root: Path, folder: IngestFolder) -> None:
    made = root / "ingest" / "x"
    made.mkdir()
    (made / "ref").write_text(f"one/1/layer-{A}")
    sighting = folder.look(BlobsUnknown())
    assert (set(sighting.nascent), list(sighting.ingests)) == ({"x"}, [])
    (made / "data").touch()
    (seen,) = folder.look(BlobsUnknown()).ingests
    assert (seen.namespace, seen.ref, seen.digest, seen.total_bytes) == ("one", f"layer-{A}", A, None)


def test_what_is_no_folder_never_becomes_an_ingest(root: Path, folder: IngestFolder) -> None:
    (root / "ingest" / "0123.ingest").touch()
    sighting = folder.look(BlobsUnknown())
    assert (set(sighting.nascent), list(sighting.ingests)) == (set(), [])


@pytest.mark.parametrize(
    ("text", "total_bytes"),
    [("7", 7), (" 7\n", 7), ("", None), ("-7", None), ("7.0", None), ("9" * 20, None), ("x", None)],
)
def test_a_total_is_a_number_or_unknown(
    root: Path, folder: IngestFolder, text: str, total_bytes: int | None
) -> None:
    (FolderDraft(root, A, f"one/1/layer-{A}", 1).folder / "total").write_text(text)
    (seen,) = folder.look(BlobsUnknown()).ingests
    assert seen.total_bytes == total_bytes


@pytest.mark.parametrize("ref", [f"two/1/layer-{A}", "one/1/no-digest", "nonsense"])
def test_what_is_not_followed_stays_closed(root: Path, folder: IngestFolder, ref: str) -> None:
    FolderDraft(root, A, ref, 1)
    before = open_count()
    folder.look(BlobsUnknown())
    assert open_count() == before


def test_no_more_than_the_limit_is_followed(
    root: Path, folder: IngestFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ingest_folder, "INGEST_MAX_COUNT", 2)
    for number in range(3):
        digest = Digest.of(bytes([number]))
        FolderDraft(root, digest, f"one/1/layer-{digest}", 1)
    for _ in range(3):
        sighting = folder.look(BlobsUnknown())
        assert (len(sighting.ingests), len(sighting.nascent)) == (2, 1)
    assert caplog.text.count("more than 2 ingests") == 1


# --- what inotify says


async def test_names_say_where_a_blob_is_in_the_end(root: Path, folder: IngestFolder) -> None:
    put(root, A)
    with open_signs(folder.ingests, folder.blobs) as signs:
        assert isinstance(signs, InotifySigns)
        put(root, A).unlink()
        assert await signs.wait(5) == BlobNames(set(), {A.encoded})
        put(root, A)
        assert await signs.wait(5) == BlobNames({A.encoded}, set())
        (folder.blobs / A.encoded).unlink()
        put(root, A)
        assert await signs.wait(5) == BlobNames({A.encoded}, {A.encoded})
        assert await signs.wait(0.01) == BlobNames(set(), set())


async def test_many_signs_come_in_bounded_batches_and_none_is_lost(root: Path, folder: IngestFolder) -> None:
    names = {Digest.of(bytes([number % 256, number // 256])).encoded for number in range(BATCH_MAX_COUNT + 9)}
    with open_signs(folder.ingests, folder.blobs) as signs:
        for name in names:
            put(root, Digest("sha256", name))
        told: set[str] = set()
        async with asyncio.timeout(10):
            while told != names:
                batch = await signs.wait(60)
                assert isinstance(batch, BlobNames) and len(batch.arrived) <= BATCH_MAX_COUNT
                told.update(batch.arrived)


async def test_a_sign_at_the_very_end_of_a_wait_is_not_lost(root: Path, folder: IngestFolder) -> None:
    """As it would be where a read is cancelled."""
    told = 0
    with open_signs(folder.ingests, folder.blobs) as signs:
        for number in range(200):
            digest = Digest.of(number.to_bytes(2))
            asyncio.get_running_loop().call_later(0.001, put, root, digest)
            async with asyncio.timeout(5):
                while True:
                    batch = await signs.wait(0.001)
                    assert isinstance(batch, BlobNames)
                    if digest.encoded in batch.arrived:
                        told += 1
                        break
    assert told == 200


async def test_polling_ends_when_it_is_time_to_try_inotify_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs_module, "POLL_S", 0.01)
    monkeypatch.setattr(signs_module, "INOTIFY_RETRY_S", 0.04)
    signs = PolledSigns("there is no instance left", waits_for_folders=False)
    # A wait is never longer than asked for, nor than a poll.
    assert [await signs.wait(longest_s) for longest_s in (10, 0.005, 10, 10, 10)] == [
        *[BlobsUnknown()] * 4,
        None,
    ]


async def test_whatever_comes_where_a_folder_is_awaited_ends_the_signs_at_once(tmp_path: Path) -> None:
    """containerd makes its folders with the first download, whose small layers may be gone before a poll."""
    root = tmp_path / "content"
    ingests, blobs = root / "ingest", root / "blobs" / "sha256"
    for made in (root, ingests, blobs.parent, blobs):
        with open_signs(ingests, blobs) as signs:
            assert signs.polling_because is None
            asyncio.get_running_loop().call_later(0.01, made.mkdir)
            async with asyncio.timeout(5):
                assert await signs.wait(60) is None, made
    with open_signs(ingests, blobs) as signs:
        asyncio.get_running_loop().call_later(0.01, put, root, Digest.of(b"first"))
        async with asyncio.timeout(5):
            assert await signs.wait(60) == BlobNames({Digest.of(b"first").encoded}, set())


async def test_while_the_folder_of_blobs_is_awaited_an_ingest_is_a_sign(tmp_path: Path) -> None:
    ingests = tmp_path / "ingest"
    ingests.mkdir()
    with open_signs(ingests, tmp_path / "blobs" / "sha256") as signs:
        asyncio.get_running_loop().call_later(0.01, (ingests / "one").mkdir)
        async with asyncio.timeout(5):
            assert await signs.wait(60) == BlobNames(set(), set())


async def test_without_a_watch_for_one_of_the_folders_all_are_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the other one is only awaited."""
    ingests = tmp_path / "ingest"
    ingests.mkdir()
    add_watch = Inotify.add_watch

    def all_but_one(self: Inotify, path: Path, mask: Mask) -> Watch:
        if path == ingests:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return add_watch(self, path, mask)

    monkeypatch.setattr(Inotify, "add_watch", all_but_one)
    with open_signs(ingests, tmp_path / "blobs" / "sha256") as signs:
        assert signs.polling_because is not None
        assert "max_user_watches" in signs.polling_because
        assert not signs.waits_for_folders
