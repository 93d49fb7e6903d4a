"""The watch over a folder laid out as containerd's, where things are not as they should be."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.ingest import containerd_ingests, table
from mirror.ingest.base import Born, Committed, Grew, IngestFile, Vanished
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.ingest.signs import PolledSigns
from mirror.oci.digest import Digest
from tests.support.ingest_beds import FolderBed, FolderDraft, Listener, folder_bed, running
from tests.support.store_beds import eventually

NAMESPACES = ("one", "two")


def watch_of(root: Path) -> ContainerdIngests:
    return ContainerdIngests(lambda: root, namespaces=NAMESPACES)


def polled_watch_of(root: Path) -> ContainerdIngests:
    return ContainerdIngests(
        lambda: root,
        namespaces=NAMESPACES,
        open_signs=lambda *_: nullcontext(PolledSigns("the test wants it", waits_for_folders=False)),
    )


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[FolderBed]:
    async with folder_bed(tmp_path, watch_of(tmp_path)) as bed:
        yield bed


@pytest.fixture(params=[watch_of, polled_watch_of], ids=["inotify", "polled"])
def make_watch(request: pytest.FixtureRequest) -> Callable[[Path], ContainerdIngests]:
    made: Callable[[Path], ContainerdIngests] = request.param
    return made


def read(file: IngestFile) -> bytes:
    return os.pread(file.descriptor, file.size_bytes(), 0)


def draft(root: Path, data: bytes, total_bytes: int | None = None) -> FolderDraft:
    digest = Digest.of(data)
    return FolderDraft(root, digest, f"one/7/layer-{digest}", total_bytes)


async def until_born(listener: Listener, digest: Digest) -> None:
    await listener.until(lambda: digest in listener.known)


# --- what is there at the start


async def test_a_leftover_is_told_without_growth_and_adopted_when_it_grows(
    tmp_path: Path, make_watch: Callable[[Path], ContainerdIngests]
) -> None:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    old = draft(tmp_path, b"0123456789", 10)
    await old.write(b"01234")
    watch = make_watch(tmp_path)
    listener = Listener(watch)
    async with running(watch):
        await until_born(listener, old.digest)
        assert (watch.size_bytes(old.digest), listener.size_bytes(old.digest)) == (5, None)
        await old.write(b"5")
        await listener.until_size(old.digest, 6)


async def test_blobs_that_stand_there_at_the_start_are_no_commits(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    first = draft(tmp_path, b"before")
    await first.write(b"before")
    await first.commit()
    watch = watch_of(tmp_path)
    listener = Listener(watch)
    async with running(watch):
        second = draft(tmp_path, b"after")
        await until_born(listener, second.digest)
        await second.write(b"after")
        await second.commit()
        await listener.until(lambda: second.digest in listener.committed)
    assert listener.committed == {second.digest}


@pytest.mark.parametrize("made_at_start", [[], ["content"], ["content/ingest"], ["content/blobs"]], ids=str)
async def test_folders_that_come_later_are_watched_and_their_first_blob_is_told(
    tmp_path: Path, made_at_start: list[str]
) -> None:
    """A new containerd 1.7 or 2.1 makes even the content root with its first ingest."""
    root = tmp_path / "content"
    for name in made_at_start:
        (tmp_path / name).mkdir(parents=True)
    watch = watch_of(root)
    listener = Listener(watch)
    async with running(watch):
        assert watch.polling_because is None, "what is above is watched"
        (root / "ingest").mkdir(parents=True, exist_ok=True)
        first = draft(root, b"first", 5)
        await until_born(listener, first.digest)
        await first.write(b"first")
        await first.commit()
        await listener.until(lambda: first.digest in listener.committed)
        await eventually(lambda: watch.polling_because is None)
        second = draft(root, b"second", 6)
        await until_born(listener, second.digest)


async def test_where_containerd_never_ran_its_folders_are_polled_for(tmp_path: Path) -> None:
    root = tmp_path / "containerd" / "content"
    watch = watch_of(root)
    listener = Listener(watch)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await eventually(lambda: watch.polling_because is not None)
        assert watch.unavailable is not None
        (root / "ingest").mkdir(parents=True)
        await until_born(listener, draft(root, b"first").digest)
        await eventually(lambda: watch.polling_because is None)
        assert watch.unavailable is None
        task.cancel()


async def test_a_root_that_nobody_knows_yet_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd_ingests, "RETRY_S", 0.01)
    roots: list[Path] = []
    watch = ContainerdIngests(lambda: roots[0] if roots else None, namespaces=NAMESPACES)
    listener = Listener(watch)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await eventually(lambda: "has not named" in str(watch.unavailable))
        roots.append(tmp_path / "content")
        await eventually(lambda: watch.unavailable is None)
        (tmp_path / "content" / "ingest").mkdir(parents=True)
        await until_born(listener, draft(tmp_path / "content", b"x").digest)
        task.cancel()


async def test_what_is_not_mounted_is_said(tmp_path: Path) -> None:
    watch = watch_of(tmp_path / "nothing" / "content")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(watch.run())
        await eventually(lambda: f"{tmp_path / 'nothing'} is not there" in str(watch.unavailable))
        with pytest.raises(ContentNotFound):
            watch.open(Digest.of(b""))
        (tmp_path / "nothing").mkdir()
        await eventually(lambda: watch.unavailable is None)
        task.cancel()


# --- while it runs


async def test_folders_that_are_replaced_are_watched_again(bed: FolderBed) -> None:
    listener = Listener(bed.watch)
    old = draft(bed.root, b"old")
    await until_born(listener, old.digest)
    for name in ("ingest", "blobs"):
        shutil.rmtree(bed.root / name)
    await listener.until(lambda: Vanished(old.digest) in listener.heard)
    (bed.root / "ingest").mkdir()
    new = draft(bed.root, b"new")
    await until_born(listener, new.digest)
    await new.write(b"new")
    await new.commit()
    await listener.until(lambda: new.digest in listener.committed)
    await eventually(lambda: bed.watch.polling_because is None)


async def test_an_overflow_of_the_queue_loses_nothing(bed: FolderBed) -> None:
    limit_count = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    listener = Listener(bed.watch)
    early = draft(bed.root, b"early")
    await until_born(listener, early.digest)
    # The loop does not turn meanwhile, so that nobody reads. Equal events would be merged: two names.
    blobs = bed.root / "blobs" / "sha256"
    (blobs / "a").touch()
    for _ in range(limit_count // 4 + 100):
        (blobs / "a").rename(blobs / "b")
        (blobs / "b").rename(blobs / "a")
    unseen, late = b"landed unseen", draft(bed.root, b"late")
    (bed.root / "draft").write_bytes(unseen)
    (bed.root / "draft").rename(blobs / Digest.of(unseen).encoded)
    await early.cancel()
    await listener.until(
        lambda: (
            late.digest in listener.known
            and Digest.of(unseen) in listener.committed
            and Vanished(early.digest) in listener.heard
        )
    )


async def test_a_file_that_begins_again_is_born_again(
    tmp_path: Path, make_watch: Callable[[Path], ContainerdIngests]
) -> None:
    async with folder_bed(tmp_path, make_watch(tmp_path)) as bed:
        listener = Listener(bed.watch)
        cut = draft(bed.root, b"0123456789", 10)
        await cut.write(b"01234")
        await listener.until_size(cut.digest, 5)
        os.truncate(cut.data, 2)
        await listener.until_size(cut.digest, 2)
        assert len(listener.of(cut.digest)) == 2
        file = bed.watch.open(cut.digest)
        other = cut.folder / "other"
        other.write_bytes(b"0123456")
        other.rename(cut.data)
        await listener.until_size(cut.digest, 7)
        assert len(listener.of(cut.digest)) == 3
        assert read(file) == b"01"
        file.close()


async def test_a_size_that_nobody_knows_is_none(bed: FolderBed) -> None:
    listener = Listener(bed.watch)
    unknown = draft(bed.root, b"x", None)
    await until_born(listener, unknown.digest)
    assert listener.heard == [Born("one", f"layer-{unknown.digest}", unknown.digest, None)]


@pytest.mark.parametrize(
    "ref",
    ["three/1/layer-{digest}", "layer-{digest}", "", "one/x/layer-{digest}", "one/1/"],
    ids=["unwatched", "no-namespace", "empty", "no-number", "no-name"],
)
async def test_what_is_not_for_us_is_left_alone(bed: FolderBed, ref: str) -> None:
    listener = Listener(bed.watch)
    digest = Digest.of(b"not for us")
    FolderDraft(bed.root, digest, ref.format(digest=digest), 10)
    marker = draft(bed.root, b"marker")
    await until_born(listener, marker.digest)
    assert [event.digest for event in listener.heard if isinstance(event, Born)] == [marker.digest]
    assert bed.watch.size_bytes(digest) is None


async def test_a_ref_without_a_digest_is_told_once(bed: FolderBed) -> None:
    listener = Listener(bed.watch)
    nameless = FolderDraft(bed.root, Digest.of(b""), "one/1/import/a b", 10)
    await listener.until(lambda: Born("one", "import/a b", None, 10) in listener.heard)
    await nameless.write(b"more")
    await nameless.cancel()
    marker = draft(bed.root, b"marker")
    await until_born(listener, marker.digest)
    assert len(listener.heard) == 2


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "file-in-place-of-the-folder"])
async def test_a_data_file_that_is_none_is_not_read(bed: FolderBed, kind: str) -> None:
    listener = Listener(bed.watch)
    odd = draft(bed.root, b"secret")
    await until_born(listener, odd.digest)
    odd.data.unlink()
    await listener.until(lambda: Vanished(odd.digest) in listener.heard)
    if kind == "link":
        (bed.root / "secret").write_bytes(b"secret")
        odd.data.symlink_to(bed.root / "secret")
    elif kind == "folder":
        odd.data.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd.data)
    else:
        (bed.root / "ingest" / "file").touch()
    marker = draft(bed.root, b"marker")
    await until_born(listener, marker.digest)
    assert bed.watch.size_bytes(odd.digest) is None


async def test_a_sha512_download_is_followed_to_its_commit(bed: FolderBed) -> None:
    listener = Listener(bed.watch)
    digest = Digest.of(b"long", "sha512")
    long = FolderDraft(bed.root, digest, f"one/1/layer-{digest}", 4)
    await until_born(listener, digest)
    await long.write(b"long")
    await long.commit()
    await listener.until(lambda: digest in listener.committed)


@pytest.mark.parametrize("left_count", [0, 1, 2])
async def test_without_a_descriptor_left_nothing_is_lost(
    bed: FolderBed, left_count: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd_ingests, "RETRY_S", 0.05)
    caplog.set_level(logging.INFO)
    listener = Listener(bed.watch)
    first = draft(bed.root, b"first")
    await until_born(listener, first.digest)
    (bed.root / "aside" / "ingest").mkdir(parents=True)
    late = draft(bed.root / "aside", b"late")
    with few_descriptors_left(left_count):
        late.folder.rename(bed.root / "ingest" / "late")
        if left_count == 0:
            await eventually(lambda: "open files" in str(bed.watch.unavailable))
            with pytest.raises(StoreUnavailable, match="open files"):
                bed.watch.open(first.digest)
        elif left_count == 1:
            await eventually(lambda: "cannot be read: Too many open files" in caplog.text)
            assert bed.watch.size_bytes(late.digest) is None
        else:
            await until_born(listener, late.digest)
    await until_born(listener, late.digest)
    await first.write(b"first")
    await listener.until_size(first.digest, 5)
    assert bed.watch.unavailable is None
    assert not any(isinstance(event, Vanished) for event in listener.heard)


async def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    before = open_count()
    watch = watch_of(tmp_path)
    listener = Listener(watch)
    async with running(watch):
        for number in range(10):
            one = draft(tmp_path, bytes([number]))
            await until_born(listener, one.digest)
            if number % 2:
                await one.cancel()
        assert open_count() > before
    assert open_count() == before


@pytest.mark.slow
async def test_commits_at_full_speed_are_all_told(
    tmp_path: Path, make_watch: Callable[[Path], ContainerdIngests]
) -> None:
    """Looks meet commits at every step."""
    contents = [b"%d" % number for number in range(600)]

    def commit_all(root: Path) -> None:
        for content in contents:
            one = draft(root, content, len(content))
            one.data.write_bytes(content)
            one.data.rename(root / "blobs" / "sha256" / one.digest.encoded)
            shutil.rmtree(one.folder)

    async with folder_bed(tmp_path, make_watch(tmp_path)) as bed:
        listener = Listener(bed.watch)
        marker = draft(bed.root, b"marker")
        await until_born(listener, marker.digest)
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(commit_all, bed.root))
            await listener.until(lambda: len(listener.committed) == len(contents))
        assert set(listener.known) == {marker.digest}
        committed = [event for event in listener.heard if isinstance(event, Committed)]
        assert len(committed) == len(contents), "none is told twice"
        assert not any(isinstance(event, Vanished) for event in listener.heard)


async def test_the_file_of_an_ended_download_is_let_go_after_a_while(
    bed: FolderBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "KEPT_AFTER_END_S", 0.05)
    listener = Listener(bed.watch)
    before = open_count()
    one = draft(bed.root, b"one")
    await until_born(listener, one.digest)
    assert open_count() == before + 1
    await one.cancel()
    await listener.until(lambda: Vanished(one.digest) in listener.heard)

    def is_let_go() -> bool:
        (bed.root / "ingest" / "sign").mkdir(exist_ok=True)
        return open_count() == before

    await eventually(is_let_go)
    with pytest.raises(ContentNotFound):
        bed.watch.open(one.digest)


async def test_forty_downloads_are_followed_at_once(bed: FolderBed) -> None:
    listener = Listener(bed.watch)
    many = [draft(bed.root, secrets.token_bytes(4)) for _ in range(40)]
    await listener.until(lambda: len(listener.known) == 40)
    for one in many:
        await one.write(b"x")
    await listener.until(lambda: all(listener.size_bytes(one.digest) == 1 for one in many))
    assert sum(isinstance(event, Grew) for event in listener.heard) == 40
    assert not any(isinstance(event, Committed | Vanished) for event in listener.heard)


def open_count() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def few_descriptors_left(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open() as lowest_free:
        limit = lowest_free.fileno() + count
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
