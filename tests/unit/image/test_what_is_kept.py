"""Packages that were fetched are checked again at each use, and an image that lacks a library is not built."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import multidict
import pytest

from tests.image import debian, recipe, wheels
from tests.image.build import check_libraries
from tests.image.tree import File, ImageError, Link, Tree


def kept_debs(cache: Path) -> Path:
    """As a fetch leaves them, but for what is in them."""
    folder = cache / f"debian-{recipe.SUITE}-amd64"
    folder.mkdir()
    lines = []
    for name in sorted(recipe.DEBIAN_PACKAGES):
        (folder / f"{name}.deb").write_bytes(name.encode())
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        lines.append(
            {"path": f"{name}.deb", "package": name, "version": "1", "sha256": sha256, "control": ""}
        )
    (folder / "packages.json").write_text(json.dumps({"has_security_updates": True, "debs": lines}))
    return folder


def test_a_debian_package_that_was_changed_is_refused(tmp_path: Path) -> None:
    folder = kept_debs(tmp_path)
    found = debian.debs("amd64", tmp_path, ask_mirror=False)
    assert [deb.package for deb in found] == sorted(recipe.DEBIAN_PACKAGES)
    (folder / "libc6.deb").write_bytes(b"another")
    with pytest.raises(ImageError, match=r"libc6\.deb is not what was fetched"):
        debian.debs("amd64", tmp_path, ask_mirror=False)


def test_a_debian_package_that_is_gone_is_fetched_again(tmp_path: Path) -> None:
    folder = kept_debs(tmp_path)
    assert debian.are_kept("amd64", tmp_path)
    (folder / "libc6.deb").unlink()
    assert not debian.are_kept("amd64", tmp_path)


@pytest.mark.parametrize("is_locked", [True, False])
def test_a_wheel_that_the_lock_does_not_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_locked: bool
) -> None:
    wheel = tmp_path / "one-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("one-1.dist-info/METADATA", "Name: one\nVersion: 1\n")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest() if is_locked else "0" * 64
    lock = tmp_path / "run.txt"
    lock.write_text(f"one==1 --hash=sha256:{sha256}\n")
    monkeypatch.setattr(wheels, "LOCK", lock)
    folder = tmp_path / f"wheels-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}-amd64"
    folder.mkdir()
    wheel.rename(folder / wheel.name)
    if is_locked:
        assert [one.name for one in wheels.wheels("amd64", tmp_path)] == ["one"]
    else:
        with pytest.raises(ImageError, match="is not what the lock names"):
            wheels.wheels("amd64", tmp_path)


def test_a_library_that_is_linked_to_must_be_in_the_image() -> None:
    extension = next(Path(multidict.__file__).parent.glob("_multidict*.so"))
    tree: Tree = {"usr/lib/it.so": File(extension.read_bytes())}
    with pytest.raises(ImageError, match=r"the image lacks .*libc\.so\.6 \(of usr/lib/it\.so\)"):
        check_libraries(tree)
    there = {f"lib/{name}": Link("x") for name in ("libc.so.6", "libpthread.so.0")}
    check_libraries({**tree, **there})
