"""What is in the image that `make image` builds, and that it is the same each time."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.version import VERSION
from tests.image import recipe
from tests.image.elf import is_elf, needed
from tests.image.wheels import LOCK
from tests.support.built_images import BuiltImage, BuiltImages
from tests.support.spdx import check_spdx

pytestmark = [pytest.mark.slow]

UNPACKED_MAX_BYTES = 85_000_000
PACKED_MAX_BYTES = 32_000_000
# An upgrade of ours alone brings the top layer.
UPGRADE_MAX_BYTES = 2_500_000
ROOT = Path(__file__).resolve().parents[2]
# Two builds at once on a loaded machine.
BUILD_LIMIT_S = 600


def blob(layout: Path, descriptor: dict[str, Any]) -> Path:
    return layout / "blobs" / str(descriptor["digest"]).replace(":", "/")


def manifest(image: BuiltImage) -> dict[str, Any]:
    (top,) = json.loads((image.layout / "index.json").read_text())["manifests"]
    found: dict[str, Any] = json.loads(blob(image.layout, top).read_text())
    return found


@pytest.fixture(scope="module")
def files(images: BuiltImages) -> dict[str, bytes | None]:
    """Path to content; None for folders and links."""

    def entries() -> Iterator[tuple[str, bytes | None]]:
        for layer in manifest(images.current)["layers"]:
            with tarfile.open(blob(images.current.layout, layer)) as tar:
                for entry in tar:
                    content = tar.extractfile(entry) if entry.isfile() else None
                    yield entry.name, content.read() if content is not None else None

    return dict(entries())


def test_its_size_is_within_the_budget(images: BuiltImages) -> None:
    print(f"{images.current.unpacked_bytes} bytes unpacked, {images.current.compressed_bytes} packed")
    assert images.current.unpacked_bytes <= UNPACKED_MAX_BYTES
    assert images.current.compressed_bytes <= PACKED_MAX_BYTES


def test_an_upgrade_transfers_the_top_layer_only(images: BuiltImages) -> None:
    here, there = (manifest(one)["layers"] for one in (images.current, images.newer))
    assert [one["digest"] for one in here[:2]] == [one["digest"] for one in there[:2]]
    assert here[2]["digest"] != there[2]["digest"]
    assert there[2]["size"] <= UPGRADE_MAX_BYTES


def test_no_shell_no_installer_and_no_client_of_kubernetes(files: dict[str, bytes | None]) -> None:
    programs = {path for path in files if re.match(r"(?:usr/)?s?bin/.", path)}
    assert programs == {"usr/bin/peili", "usr/bin/python3", "usr/bin/python3.11"}
    unwanted = re.compile(r"(?:^|/)(?:ba|da|busybox|z)?sh$|/(?:pip|ensurepip|kubernetes|setuptools|tests?)/")
    assert [path for path in files if unwanted.search(path)] == []


def test_every_library_that_is_asked_for_is_there(files: dict[str, bytes | None]) -> None:
    there = {path.rpartition("/")[2] for path in files}
    asked = {library for data in files.values() if data is not None for library in needed(data)}
    assert asked and asked <= there
    assert sum(1 for data in files.values() if data is not None and is_elf(data)) > 50


def test_sources_of_the_daemon_have_byte_code_that_is_not_compared(files: dict[str, bytes | None]) -> None:
    lacking = []
    for path in files:
        if path.endswith(".py") and not re.search(recipe.NOT_COMPILED, f"/{path}"):
            folder, _, name = path.rpartition("/")
            code = files.get(f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc")
            # PEP 552: bit 0 says that there is a hash, bit 1 that it is to be checked.
            if code is None or code[4:8] != b"\x01\0\0\0":
                lacking.append(path)
    assert lacking == []


def test_each_package_is_listed_with_its_hash_and_its_licence_is_in_the_image(
    images: BuiltImages, files: dict[str, bytes | None]
) -> None:
    text = files[recipe.SBOM]
    assert text is not None
    document = json.loads(text)
    check_spdx(document)
    packages = {re.sub(r"[-_.]+", "-", one["name"]).lower(): one for one in document["packages"]}
    for name in recipe.DEBIAN_PACKAGES:
        assert packages[re.sub(r"[-_.]+", "-", name)]["checksums"]
        place = f"usr/share/doc/{name}"
        assert f"{place}/copyright" in files or files.get(place, b"") is None, name
        assert f"var/lib/dpkg/status.d/{name}" in files
    locked = re.findall(r"^([a-z0-9-]+)==([^ ]+)", LOCK.read_text(), re.MULTILINE)
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", LOCK.read_text()))
    for name, version in locked:
        found = packages[name]
        assert found["versionInfo"] == version
        assert found["checksums"][0]["checksumValue"] in hashes
        assert found["licenseDeclared"] != "NOASSERTION", name
        folder = rf"/{name.replace('-', '_')}-[^/]+\.dist-info/.*(?:LICEN|COPYING|NOTICE)"
        assert any(re.search(folder, path, re.IGNORECASE) for path in files), f"{name} has no licence"
    assert len(packages) == 1 + len(recipe.DEBIAN_PACKAGES) + len(locked)
    assert packages["peili"]["versionInfo"] == VERSION
    assert files["usr/share/doc/peili/copyright"] == (ROOT / "LICENSE").read_bytes()


@pytest.mark.matrix
def test_two_builds_are_the_same_byte_for_byte(images: BuiltImages, tmp_path: Path) -> None:
    """The second with another umask, another home, another time zone and another seed of hashes."""
    variants = (
        (0o022, {"TZ": "UTC", "PYTHONHASHSEED": "1"}),
        (0o077, {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "2", "HOME": str(tmp_path), "LC_ALL": "C"}),
    )
    for number, (umask, environment) in enumerate(variants):
        command = [sys.executable, "-m", "tests.image.build", "--cached", f"--out={tmp_path / str(number)}"]
        subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment},
            umask=umask,
            check=True,
            timeout=BUILD_LIMIT_S,
        )
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    (top,) = json.loads((tmp_path / "0" / "index.json").read_text())["manifests"]
    config = json.loads(
        blob(tmp_path / "0", json.loads(blob(tmp_path / "0", top).read_text())["config"]).read_text()
    )
    assert config["created"] == "2023-11-14T22:13:20Z"


@pytest.mark.matrix
def test_the_dockerfiles_folders_hold_the_files_of_the_image(images: BuiltImages, tmp_path: Path) -> None:
    """It is the command that the Dockerfile runs, but for the mirror. Contents, modes and where links lead."""
    command = [sys.executable, "-m", "tests.image.build", "--cached", f"--trees={tmp_path}"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=BUILD_LIMIT_S)
    folders = ("base", "wheels", "peili")
    assert {path.name for path in tmp_path.iterdir()} == set(folders)
    for name, layer in zip(folders, manifest(images.current)["layers"], strict=True):
        root = tmp_path / name
        with tarfile.open(blob(images.current.layout, layer)) as tar:
            entries = {root / entry.name: entry for entry in tar}
            assert set(root.rglob("*")) == set(entries)
            for path, entry in entries.items():
                if entry.issym():
                    assert str(path.readlink()) == entry.linkname
                    continue
                assert stat.S_IMODE(path.lstat().st_mode) == entry.mode, path
                content = tar.extractfile(entry)
                assert content is None or path.read_bytes() == content.read(), path
