"""A data directory goes, and nothing else does."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import pytest

from dht.state_files import PEERS_FILE, RECORDS_FILE
from mirror import daemon, herding, identity
from mirror.cleanup import data
from mirror.cleanup.data import DataDirKept, Removal, is_ours, remove
from mirror.data_dir import LOCK_FILE, DataDirTaken, owned
from mirror.host.ledger import LEDGER_FILE, SECRET_FILE
from mirror.origin.memory_file import ORIGINS_FILE
from mirror.settings import resolve


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """As a daemon leaves it, and one that was killed before."""
    path = tmp_path / "peili"
    with owned(path):
        for name in (*sorted(set(data.FILES) - {LEDGER_FILE}), "records.msgpack.damaged", ".node.json.x7f_"):
            (path / name).write_text("x")
        for name in data.FOLDERS:
            (path / name / "deep").mkdir(parents=True)
            (path / name / "deep" / "blob").write_text("x")
    return path


def test_it_goes_with_all_that_a_daemon_left(data_dir: Path) -> None:
    assert remove(data_dir) == Removal(True, ())
    assert list(data_dir.parent.iterdir()) == []
    assert remove(data_dir) == Removal(True, ())


def test_what_up_must_know_is_kept_until_the_host_is_given_back(data_dir: Path) -> None:
    (data_dir / LEDGER_FILE).write_text("x")
    with pytest.raises(DataDirKept, match="peili down undoes that"):
        remove(data_dir)
    assert (data_dir / "node.json").exists()
    assert remove(data_dir, is_given_back=True) == Removal(True, ())


def test_the_names_are_those_of_the_modules_that_make_them() -> None:
    files = {identity.NODE_FILE, ORIGINS_FILE, PEERS_FILE, RECORDS_FILE, LEDGER_FILE, SECRET_FILE}
    assert files == set(data.FILES)
    spool = herding.PIECES_FOLDER.parts[0]
    assert {daemon.CACHE_FOLDER, resolve.STORE_FOLDER, spool} == set(data.FOLDERS)


@pytest.mark.parametrize(
    "name", ["", "lock2", "node.json2", ".node.json", "cached", "cache.damaged", "etc", ".ssh", "lost+found"]
)
def test_other_names_are_not_ours(name: str) -> None:
    assert not is_ours(name)


def test_what_is_not_ours_stays_and_is_named(data_dir: Path) -> None:
    (data_dir / "lost+found").mkdir()
    (data_dir / "notes").write_text("mine")
    assert remove(data_dir) == Removal(False, ("lost+found", "notes"))
    assert sorted(path.name for path in data_dir.iterdir()) == ["lost+found", "notes"]


def test_a_directory_without_a_lock_is_not_a_data_directory(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("mine")
    with pytest.raises(DataDirKept, match="not a data directory of peili: it has no file 'lock'"):
        remove(tmp_path)
    assert (tmp_path / "node.json").read_text() == "mine"


def test_an_empty_directory_is_what_a_kubelet_made(tmp_path: Path) -> None:
    (tmp_path / "peili").mkdir()
    assert remove(tmp_path / "peili") == Removal(True, ())
    assert not (tmp_path / "peili").exists()


def test_a_directory_that_is_a_link_is_refused(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(data_dir)
    with pytest.raises(DataDirKept, match="symbolic link"):
        remove(tmp_path / "link")
    assert (data_dir / LOCK_FILE).exists() and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("name", ["cache", "node.json"])
def test_a_link_inside_goes_and_what_it_points_to_stays(data_dir: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    (data_dir / name).rename(tmp_path / "aside")
    (data_dir / name).symlink_to(precious)
    (data_dir / "spool" / "deep" / "out").symlink_to(precious)
    assert remove(data_dir).is_gone
    assert (precious / "file").read_text() == "mine"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "peili").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "peili" / LOCK_FILE).symlink_to(tmp_path / "file")
    with pytest.raises(DataDirKept, match="cannot be removed"):
        remove(tmp_path / "peili")
    assert (tmp_path / "file").exists()


def test_a_daemon_that_runs_keeps_its_data(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "LOCK_WAIT_S", 0.2)
    with owned(data_dir), pytest.raises(DataDirKept, match="in use by a daemon; stop it"):
        remove(data_dir)
    assert (data_dir / "node.json").exists()


def test_a_daemon_that_ends_is_waited_for(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holder = (data_dir / LOCK_FILE).open("ab")
    fcntl.flock(holder, fcntl.LOCK_EX)
    (data_dir / "records.msgpack").unlink()
    # It ends at the second look, and writes what it knows before: its half-written file is gone then.
    looks = []

    def passed(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            (data_dir / ".node.json.x7f_").rename(data_dir / "records.msgpack")
            holder.close()

    monkeypatch.setattr(time, "sleep", passed)
    assert remove(data_dir).is_gone and len(looks) == 2


def test_no_daemon_begins_while_it_is_emptied(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = os.unlink, list[str]()

    def unlink(name: str, *, dir_fd: int) -> None:
        if not refused:
            with pytest.raises(DataDirTaken, match="in use"), owned(data_dir):
                pass
            refused.append(name)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    assert remove(data_dir).is_gone and refused


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "peili").write_text("mine")
    with pytest.raises(DataDirKept, match="cannot be removed: Not a directory"):
        remove(tmp_path / "peili")


def test_a_crash_leaves_what_the_next_run_removes(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.unlink
    for survived in range(20):
        count = 0

        def dying(name: str, *, dir_fd: int, allowed: int = survived) -> None:
            nonlocal count
            count += 1
            if count > allowed:
                raise KeyboardInterrupt
            real(name, dir_fd=dir_fd)

        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", dying)
            try:
                remove(data_dir)
                break
            except KeyboardInterrupt:
                assert (data_dir / LOCK_FILE).exists()
    else:
        pytest.fail("it never ended")
    assert not data_dir.exists()
