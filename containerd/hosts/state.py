"""Keeps the manifest and the originals in `_peili`, below the hosts directory.

It does not know when a file may be changed; whoever changes one saves here first.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from posixpath import normpath

from containerd.hosts import disk
from containerd.hosts.manifest import Manifest, Original, decode, digest, encode

DIRECTORY = "_peili"
MANIFEST = "manifest.json"
_ORIGINALS = "originals"


def load(hosts_dir: Path) -> Manifest | None:
    """None when there is none. Raises: HostsError, OSError."""
    path = hosts_dir / DIRECTORY / MANIFEST
    try:
        return decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None


def save(hosts_dir: Path, manifest: Manifest, originals: Sequence[bytes] = ()) -> None:
    """Originals first: the manifest on disk never names one that is not."""
    directory = hosts_dir / DIRECTORY
    disk.make_private_directory(directory)
    disk.make_private_directory(directory / _ORIGINALS)
    for content in originals:
        path = directory / _ORIGINALS / digest(content)
        if not path.exists() or path.read_bytes() != content:
            disk.write_private(path, content)
    disk.write_private(directory / MANIFEST, encode(manifest))


def original(hosts_dir: Path, wanted: Original) -> bytes | None:
    """None when somebody removed or changed it."""
    try:
        content = (hosts_dir / DIRECTORY / _ORIGINALS / wanted.sha256).read_bytes()
    except FileNotFoundError:
        return None
    return content if digest(content) == wanted.sha256 else None


def forget_unnamed(hosts_dir: Path, manifest: Manifest) -> None:
    """Removes originals that the manifest does not name."""
    named = {entry.original.sha256 for entry in manifest.entries if entry.original is not None}
    directory = hosts_dir / DIRECTORY / _ORIGINALS
    for name in disk.names(directory):
        if name not in named:
            disk.remove(directory / name)


def remove(hosts_dir: Path) -> None:
    """The manifest goes after the originals: what a crash leaves can still be undone."""
    directory = hosts_dir / DIRECTORY
    if not directory.is_dir():
        return
    if (directory / _ORIGINALS).is_dir():
        shutil.rmtree(directory / _ORIGINALS)
    if (directory / MANIFEST).exists():
        disk.remove(directory / MANIFEST)
    shutil.rmtree(directory)


def absolute(hosts_dir: Path, relative: str) -> Path:
    """A path of the manifest."""
    return Path(normpath(hosts_dir / relative))


def sweep(hosts_dir: Path, known: Manifest | None, *more_roots: str | None) -> None:
    """Takes away what a crash left unfinished, in every directory that we may have written to."""
    entries = () if known is None else known.entries
    roots = {hosts_dir, *(absolute(hosts_dir, entry.path).parent.parent for entry in entries)}
    for root in roots | {Path(root) for root in more_roots if root is not None}:
        disk.sweep(root)
