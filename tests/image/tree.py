"""Files of an image before it is one: path to content, and the layer that they make, the same bytes each time.

No owner, no time and no umask of the machine that builds: all is root's, modes are 0755 and 0644, times are 0.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

# The best of zlib: an image is built once and pulled often.
_GZIP_LEVEL: Final = 9


class ImageError(Exception):
    """The image cannot be built; the text is for a person."""


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    is_executable: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """Symbolic."""

    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    """One that must be there though nothing is in it, or whose mode is not 0755."""

    mode: int = 0o755


Node: TypeAlias = File | Link | Folder
# Path from the root without a slash in front. Folders of files need no entry.
Tree: TypeAlias = dict[str, Node]


@dataclass(frozen=True, slots=True)
class Layer:
    """`diff_id`: digest of the tar. `unpacked_bytes`: what its files hold."""

    what: str
    blob: bytes
    diff_id: str
    digest: str
    unpacked_bytes: int


def layer(what: str, tree: Tree) -> Layer:
    tar = tar_of(tree)
    blob = gzip.compress(tar, _GZIP_LEVEL, mtime=0)
    unpacked_bytes = sum(len(node.content) for node in tree.values() if isinstance(node, File))
    return Layer(what, blob, digest(tar), digest(blob), unpacked_bytes)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def tar_of(tree: Mapping[str, Node]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, node in _with_folders(tree):
            entry = tarfile.TarInfo(path)
            match node:
                case Folder(mode):
                    entry.type, entry.mode = tarfile.DIRTYPE, mode
                    tar.addfile(entry)
                case Link(target):
                    entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, target
                    tar.addfile(entry)
                case File(content, is_executable):
                    entry.size, entry.mode = len(content), 0o755 if is_executable else 0o644
                    tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def write_below(root: Path, tree: Mapping[str, Node], *, is_used_from_outside: bool = True) -> None:
    """is_used_from_outside: by programs for which the folder is not the root, so that no link may lead out of it."""
    root.mkdir(parents=True, exist_ok=True)
    for path, node in _with_folders(tree):
        target = root / path
        match node:
            case Folder(mode):
                target.mkdir(exist_ok=True)
                target.chmod(mode)
            case Link(goal):
                is_absolute = is_used_from_outside and goal.startswith("/")
                target.symlink_to(root / goal.lstrip("/") if is_absolute else goal)
            case File(content, is_executable):
                target.write_bytes(content)
                target.chmod(0o755 if is_executable else 0o644)


def _with_folders(tree: Mapping[str, Node]) -> list[tuple[str, Node]]:
    """A folder before what is in it."""
    folders: dict[str, Node] = {
        str(folder): Folder() for path in tree for folder in Path(path).parents if str(folder) != "."
    }
    return sorted((folders | dict(tree)).items())
