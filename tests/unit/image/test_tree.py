"""A layer is made of its files and of nothing of the machine."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from tests.image.tree import File, Folder, Link, Tree, layer, tar_of, write_below

TREE: Tree = {
    "usr/bin/peili": File(b"#!/usr/bin/python3\n", is_executable=True),
    "lib": Link("usr/lib"),
    "tmp": Folder(0o1777),
    "root": Folder(0o700),
    "root/note": File(b"2"),
    "usr/lib/ssl/cert.pem": Link("/etc/ssl/cert.pem"),
    "a": File(b"1"),
}


def entries(tree: Tree) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(tar_of(tree))) as tar:
        return tar.getmembers()


def test_the_order_of_making_does_not_show() -> None:
    assert layer("", TREE) == layer("", dict(reversed(TREE.items())))


def test_the_time_of_packing_does_not_show() -> None:
    """RFC 1952: bytes 4 to 7 of the header are the time, 0 where there is none."""
    assert layer("", TREE).blob[4:8] == bytes(4)


def test_a_changed_byte_shows() -> None:
    assert layer("", TREE).digest != layer("", TREE | {"a": File(b"2")}).digest


def test_everything_is_roots_has_no_time_and_lies_in_a_folder_that_comes_first() -> None:
    seen: list[str] = []
    for entry in entries(TREE):
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
        parent = str(Path(entry.name).parent)
        assert parent == "." or parent in seen, entry.name
        seen.append(entry.name)


@pytest.mark.parametrize(
    ("path", "mode"),
    [("usr/bin/peili", 0o755), ("a", 0o644), ("usr/bin", 0o755), ("tmp", 0o1777), ("root", 0o700)],
)
def test_modes_are_fixed(path: str, mode: int) -> None:
    assert next(entry for entry in entries(TREE) if entry.name == path).mode == mode


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_written_files_have_the_modes_of_the_layer_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_below(tmp_path / "root", TREE, is_used_from_outside=False)
    finally:
        os.umask(before)
    for path, mode in (("usr/bin/peili", 0o755), ("a", 0o644), ("tmp", 0o1777)):
        assert (tmp_path / "root" / path).stat().st_mode & 0o7777 == mode
    assert (tmp_path / "root" / "usr/bin").stat().st_mode & 0o777 == 0o755


def test_a_link_leads_out_of_the_folder_only_where_the_folder_is_the_root(tmp_path: Path) -> None:
    for name, is_outside, goal in (
        ("a", True, f"{tmp_path}/a/etc/ssl/cert.pem"),
        ("b", False, "/etc/ssl/cert.pem"),
    ):
        write_below(tmp_path / name, TREE, is_used_from_outside=is_outside)
        assert str((tmp_path / name / "usr/lib/ssl/cert.pem").readlink()) == goal
        assert str((tmp_path / name / "lib").readlink()) == "usr/lib"
