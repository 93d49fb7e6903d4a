"""The middle layer of the image: the wheels that requirements/run.txt locks, for one architecture.

pip fetches them by the machine's own settings and checks each against the lock; what is kept is checked again at each
use. Nothing is built: a package without a wheel for the architecture is an error.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Final

from tests.image import recipe
from tests.image.elf import without_sections
from tests.image.tree import File, ImageError, Tree

LOCK: Final = Path(__file__).resolve().parents[2] / "requirements" / "run.txt"
# Of a slow index, 12 MB of wheels.
_PIP_TIMEOUT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class Wheel:
    """`metadata`: the fields of its METADATA file."""

    path: Path
    name: str
    version: str
    sha256: str
    metadata: Message


def wheels(architecture: str, cache: Path) -> list[Wheel]:
    """By name. Raises: ImageError."""
    folder = _folder(architecture, cache)
    if not are_kept(architecture, cache):
        _download(architecture, folder)
    allowed = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", LOCK.read_text()))
    found = sorted((_described(path) for path in folder.glob("*.whl")), key=lambda wheel: wheel.name)
    for wheel in found:
        if wheel.sha256 not in allowed:
            raise ImageError(f"{wheel.path} is not what the lock names: delete its folder and build again.")
    return found


def are_kept(architecture: str, cache: Path) -> bool:
    return _folder(architecture, cache).exists()


def wheels_tree(packages: list[Wheel]) -> Tree:
    """Raises: ImageError."""
    tree: Tree = {}
    for wheel in packages:
        with zipfile.ZipFile(wheel.path) as archive:
            for entry in archive.infolist():
                if entry.is_dir() or recipe.is_unused_of_wheel(entry.filename):
                    continue
                if ".data/" in entry.filename:
                    raise ImageError(
                        f"{wheel.path.name} installs {entry.filename}, which no layer has a place for."
                    )
                data = archive.read(entry)
                tree[f"{recipe.SITE}/{entry.filename}"] = File(without_sections(data))
    return tree


def _folder(architecture: str, cache: Path) -> Path:
    """Another lock has another folder."""
    return cache / f"wheels-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}-{architecture}"


def _download(architecture: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    tag = recipe.PYTHON_VERSION.replace(".", "")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "download",
            "--quiet",
            "--no-deps",
        ]
        command += [
            "--require-hashes",
            "--only-binary=:all:",
            f"--dest={scratch}/wheels",
            f"--requirement={LOCK}",
        ]
        command += ["--implementation=cp", f"--python-version={recipe.PYTHON_VERSION}"]
        command += [f"--abi={abi}" for abi in (f"cp{tag}", "abi3", "none")]
        command += [f"--platform={platform}" for platform in recipe.wheel_platforms(architecture)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        if done.returncode:
            raise ImageError(f"pip cannot fetch the wheels for {architecture}: {done.stderr.strip()[-500:]}")
        try:
            (Path(scratch) / "wheels").rename(folder)
        except OSError as error:
            if not folder.exists():  # Else another build was faster.
                raise ImageError(f"{folder} cannot be made: {error}") from error


def _described(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as archive:
        (name,) = [one for one in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one)]
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(path, str(metadata["Name"]), str(metadata["Version"]), sha256, metadata)
