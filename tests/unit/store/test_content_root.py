"""What can be seen of containerd's folder from here: its files, that it has none, or nothing."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.store.blob_watch import BlobWatch
from mirror.store.content_root import ContentRoot, FileAbsent, FileUnreadable
from mirror.store.file_blob import FileBlob
from tests.support.store_beds import DEADLINE_S

DIGEST = Digest.of(b"content")
# Anybody but root.
NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """pytest's own are closed to everybody else."""
    with tempfile.TemporaryDirectory(prefix="peili-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def root(open_folder: Path) -> ContentRoot:
    """As containerd lays it out, with one blob."""
    made = ContentRoot(open_folder / "state" / "root")
    (made.path / "ingest").mkdir(parents=True)
    made.blob_folder.mkdir(parents=True)
    (made.blob_folder / DIGEST.encoded).write_bytes(b"content")
    return made


@contextmanager
def as_nobody() -> Iterator[None]:
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_is_there_is_opened(root: ContentRoot) -> None:
    file = root.open(DIGEST)
    assert isinstance(file, FileBlob)
    assert file.size_bytes == 7
    file.close()


def test_a_file_that_is_not_there_is_absent_also_when_no_blob_ever_came(root: ContentRoot) -> None:
    (root.blob_folder / DIGEST.encoded).unlink()
    assert isinstance(root.open(DIGEST), FileAbsent)
    root.blob_folder.rmdir()
    root.blob_folder.parent.rmdir()
    assert isinstance(root.open(DIGEST), FileAbsent)
    assert isinstance(root.open(Digest.of(b"content", "sha512")), FileAbsent)


def test_a_folder_that_is_not_there_says_nothing_about_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "nothing", tmp_path, tmp_path / "file"):
        file = ContentRoot(path).open(DIGEST)
        assert isinstance(file, FileUnreadable)
        assert str(path) in file.reason


@contextmanager
def closed(path: Path) -> Iterator[None]:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    try:
        with as_nobody():
            yield
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("where", ["above", "root", "blobs", "file"])
def test_what_this_user_may_not_see_is_unreadable(root: ContentRoot, where: str) -> None:
    """containerd's root is 0700: without CAP_DAC_READ_SEARCH nothing below it can be seen."""
    file_path = root.blob_folder / DIGEST.encoded
    path = {"above": root.path.parent, "root": root.path, "blobs": root.blob_folder, "file": file_path}[where]
    with as_nobody():
        seen = root.open(DIGEST)
    assert isinstance(seen, FileBlob), "so it is the mode that counts below"
    seen.close()
    with closed(path):
        file = root.open(DIGEST)
    assert isinstance(file, FileUnreadable)
    assert "permission denied" in file.reason


def test_an_operator_s_path_that_may_not_be_seen_is_believed(
    root: ContentRoot, caplog: pytest.LogCaptureFixture
) -> None:
    with closed(root.path.parent):
        assert ContentRoot.given_by_operator(root.path).path == root.path
    assert "--containerd-content-path" in caplog.text


async def test_a_watch_on_what_may_not_be_seen_waits(root: ContentRoot) -> None:
    watch = BlobWatch([root.blob_folder])
    async with aclosing(watch.changes()) as changes, asyncio.timeout(DEADLINE_S):
        with closed(root.path.parent):
            await anext(changes)
            assert "ermission denied" in str(watch.polling_because)
        while watch.polling_because is not None:
            await anext(changes)
