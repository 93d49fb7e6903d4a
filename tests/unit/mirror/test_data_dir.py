from pathlib import Path

import pytest

from mirror.data_dir import DataDirTaken, owned


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
