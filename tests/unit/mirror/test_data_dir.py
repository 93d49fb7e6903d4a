import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from mirror.data_dir import LOCK_FILE, DataDirTaken, daemon_pid, is_owned, owned


def test_one_daemon_at_a_time(tmp_path: Path) -> None:
    with owned(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
        with pytest.raises(DataDirTaken, match="in use by another daemon"), owned(tmp_path / "data"):
            pass
    with owned(tmp_path / "data"):
        pass


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirTaken, match="--data-dir"), owned(tmp_path / "file" / "data"):
        pass


def test_a_directory_that_a_kubelet_made_is_closed_to_other_users(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)
    with owned(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_the_mode_of_a_directory_in_use_is_the_operator_s(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "lock").touch()
    (tmp_path / "data").chmod(0o750)
    with owned(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o777 == 0o750


def test_the_daemon_of_a_directory_is_known_as_long_as_it_has_it(tmp_path: Path) -> None:
    assert daemon_pid(tmp_path) is None and not is_owned(tmp_path)
    with owned(tmp_path):
        assert daemon_pid(tmp_path) == os.getpid() and is_owned(tmp_path)
    # The number stays in the file.
    assert (tmp_path / LOCK_FILE).read_text() == str(os.getpid())
    assert daemon_pid(tmp_path) is None and not is_owned(tmp_path)


def test_a_process_that_has_only_the_number_is_not_taken_for_the_daemon(tmp_path: Path) -> None:
    """As where a daemon in a container wrote the number that it has there, and a host's process has it here."""
    with subprocess.Popen(["sleep", "infinity"]) as other, (tmp_path / LOCK_FILE).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for text in (str(other.pid), "", "no number", "0", str(2**22 + 1)):
                (tmp_path / LOCK_FILE).write_text(text)
                with pytest.raises(DataDirTaken, match="not among the processes"):
                    daemon_pid(tmp_path)
        finally:
            other.kill()
