"""Files of a host that are changed and given back: to the byte, also after a crash, and never over an edit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import whole_file
from mirror.host.changes import FileChange
from mirror.host.errors import HostError
from mirror.host.ledger import LedgerDamaged, Outcome, give_back, load, make

State = dict[str, tuple[int, int, int, int, bytes | None]]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    made = tmp_path / "etc"
    made.mkdir()
    (made / "config.toml").write_bytes(b"version = 2\n")
    (made / "config.toml").chmod(0o640)
    os.utime(made / "config.toml", ns=(1, 123_456_789))
    return made


def state(folder: Path) -> State:
    """All that can be compared."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        told = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        mtime_ns = 0 if path.is_dir() else told.st_mtime_ns
        found[str(path)] = (told.st_mode, told.st_uid, told.st_gid, mtime_ns, content)
    return found


def change(path: Path, content: bytes = b"ours\n", mode: int = 0o644) -> FileChange:
    return FileChange(str(path), content, "a test", mode)


def test_all_is_as_before_once_it_is_given_back(etc: Path, data_dir: Path) -> None:
    before = state(etc)
    changes = [change(etc / "config.toml"), change(etc / "rancher" / "k3s" / "registries.yaml", mode=0o600)]
    assert [done.outcome for done in make(data_dir, changes)] == [Outcome.WRITTEN, Outcome.WRITTEN]
    assert (etc / "config.toml").read_bytes() == b"ours\n"
    assert (etc / "config.toml").stat().st_mode & 0o7777 == 0o640
    assert (etc / "rancher/k3s/registries.yaml").stat().st_mode & 0o7777 == 0o600
    assert [done.outcome for done in make(data_dir, changes)] == [Outcome.UNCHANGED, Outcome.UNCHANGED]
    told = give_back(data_dir)
    assert [done.outcome for done in told] == [Outcome.REMOVED, Outcome.RESTORED]
    assert state(etc) == before
    assert give_back(data_dir) == []


def test_what_is_changed_twice_is_given_back_as_it_was_at_first(etc: Path, data_dir: Path) -> None:
    before = state(etc)
    make(data_dir, [change(etc / "config.toml", b"one\n"), change(etc / "new", b"one\n")])
    make(data_dir, [change(etc / "config.toml", b"two\n"), change(etc / "new", b"two\n")])
    give_back(data_dir)
    assert state(etc) == before


def test_what_somebody_edited_stays(etc: Path, data_dir: Path) -> None:
    make(data_dir, [change(etc / "config.toml"), change(etc / "deep" / "new")])
    (etc / "config.toml").write_bytes(b"ours\nand theirs\n")
    (etc / "deep" / "other").write_bytes(b"theirs\n")
    assert [done.outcome for done in give_back(data_dir)] == [Outcome.REMOVED, Outcome.KEPT]
    assert (etc / "config.toml").read_bytes() == b"ours\nand theirs\n"
    assert (etc / "deep" / "other").exists()


def test_an_edit_before_the_next_change_is_what_is_given_back(etc: Path, data_dir: Path) -> None:
    make(data_dir, [change(etc / "config.toml", b"one\n")])
    (etc / "config.toml").write_bytes(b"theirs\n")
    make(data_dir, [change(etc / "config.toml", b"two\n")])
    give_back(data_dir)
    assert (etc / "config.toml").read_bytes() == b"theirs\n"


def test_what_the_user_removed_or_restored_is_let_be(etc: Path, data_dir: Path) -> None:
    make(data_dir, [change(etc / "config.toml"), change(etc / "new")])
    (etc / "config.toml").write_bytes(b"version = 2\n")
    (etc / "new").unlink()
    assert [done.outcome for done in give_back(data_dir)] == [Outcome.REMOVED, Outcome.RESTORED]
    assert (etc / "config.toml").read_bytes() == b"version = 2\n"


class Killed(BaseException):
    """As SIGKILL: nothing is tidied but what a `finally` of this process does, which the tests look past."""


@pytest.mark.parametrize("is_run_again", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_a_crash_at_any_point_is_given_back(
    etc: Path, data_dir: Path, step: int, is_run_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(etc)
    changes = [change(etc / "config.toml"), change(etc / "a" / "b" / "new"), change(etc / "b")]
    calls = 0

    def until_killed(call: Callable[..., None]) -> Callable[..., None]:
        def called(*arguments: object, **named: object) -> None:
            nonlocal calls
            calls += 1
            if calls > step:
                raise Killed
            call(*arguments, **named)

        return called

    with monkeypatch.context() as patch:
        patch.setattr(whole_file, "replace", until_killed(whole_file.replace))
        patch.setattr(Path, "mkdir", until_killed(Path.mkdir))
        with pytest.raises(Killed):
            make(data_dir, changes)
    if is_run_again:
        make(data_dir, changes)
    give_back(data_dir)
    assert state(etc) == before


def test_what_a_killed_process_left_unfinished_is_swept(etc: Path, data_dir: Path) -> None:
    before = state(etc)
    (etc / ".config.toml.peili.abc").write_bytes(b"half")
    make(data_dir, [change(etc / "config.toml")])
    (etc / ".config.toml.peili.def").write_bytes(b"half")
    give_back(data_dir)
    assert state(etc) == before


def test_a_link_is_not_written_through(etc: Path, data_dir: Path) -> None:
    (etc / "link.toml").symlink_to(etc / "config.toml")
    before = state(etc)
    with pytest.raises(HostError, match="symbolic link"):
        make(data_dir, [change(etc / "link.toml")])
    assert state(etc) == before and load(data_dir) is None


def test_a_link_in_the_place_of_what_was_written_stays(etc: Path, data_dir: Path) -> None:
    make(data_dir, [change(etc / "new")])
    (etc / "new").unlink()
    (etc / "new").symlink_to(etc / "config.toml")
    assert [done.outcome for done in give_back(data_dir)] == [Outcome.KEPT]
    assert (etc / "new").is_symlink() and (etc / "config.toml").read_bytes() == b"version = 2\n"


def test_a_directory_in_the_place_of_a_file_is_refused(etc: Path, data_dir: Path) -> None:
    (etc / "folder").mkdir()
    with pytest.raises(HostError, match="no configuration file"):
        make(data_dir, [change(etc / "folder")])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"files": [{"path": 1}]}', b"[" * 100_000])
def test_a_damaged_ledger_changes_nothing(etc: Path, data_dir: Path, content: bytes) -> None:
    (data_dir / "host.json").write_bytes(content)
    before = state(etc)
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        make(data_dir, [change(etc / "config.toml")])
    with pytest.raises(LedgerDamaged, match="cannot be read"):
        give_back(data_dir)
    assert state(etc) == before


def test_the_ledger_of_another_release_is_named(data_dir: Path) -> None:
    (data_dir / "host.json").write_bytes(b'{"format": 2}')
    with pytest.raises(LedgerDamaged, match="another release"):
        load(data_dir)


def test_the_ledger_is_its_owners_alone(etc: Path, data_dir: Path) -> None:
    """It holds what others may not be able to read."""
    make(data_dir, [change(etc / "config.toml")])
    assert (data_dir / "host.json").stat().st_mode & 0o7777 == 0o600
