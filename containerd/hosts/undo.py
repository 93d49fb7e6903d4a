"""Takes our entries out of one hosts.toml: to the byte if nobody touched it, else without losing an edit.

It serves cleanup, and configure for files that should no longer be ours. It works on any file with our
marks; the manifest only tells it more.
"""

from collections.abc import Iterable
from pathlib import Path

from containerd.hosts import disk, state
from containerd.hosts.manifest import Entry, Original, digest
from containerd.hosts.report import Action, Change
from containerd.hosts.splice import unsplice


def check(hosts_dir: Path, entry: Entry) -> None:
    """Raises what `undo` would raise before it changes anything."""
    path = state.absolute(hosts_dir, entry.path)
    found = None if path.parent.is_symlink() else disk.read(path)
    if found is not None and digest(found.content) != entry.written_sha256:
        _user_bytes(found.content, path)


def undo(hosts_dir: Path, entry: Entry) -> Change:
    """Idempotent, and no change when the file was never written. Raises: HostsFileInvalid, OSError."""
    path = state.absolute(hosts_dir, entry.path)
    if path.parent.is_symlink():
        # The user put it in the place of the directory that we wrote to; what is behind it is not ours.
        return Change(entry.registry, path, Action.KEPT)
    found = disk.read(path)
    if found is None:
        return Change(entry.registry, path, Action.REMOVED)
    if found.link is None and digest(found.content) == entry.written_sha256:
        if entry.original is None:
            disk.remove(path)
            return Change(entry.registry, path, Action.REMOVED)
        if _restore(hosts_dir, path, found.meta, entry.original):
            return Change(entry.registry, path, Action.RESTORED)
    return without_marks(path, found, entry.registry, was_there=entry.original is not None)


def without_marks(path: Path, found: disk.Found, registry: str, *, was_there: bool) -> Change:
    """For a file that is not as we left it: our blocks go, the rest stays with its owner and mode."""
    content = _user_bytes(found.content, path)
    if content == found.content:
        return Change(registry, path, Action.KEPT)
    if not content.strip() and not was_there:
        disk.remove(path)
        return Change(registry, path, Action.REMOVED)
    disk.replace(path, content, found.meta, keep_mtime=False)
    return Change(registry, path, Action.KEPT)


def remove_made(hosts_dir: Path, directories: Iterable[str]) -> tuple[str, ...]:
    """Removes those that are empty, the deepest first, and returns those that are still there."""
    there = [name for name in reversed(tuple(directories)) if name == "." or not _removed(hosts_dir, name)]
    return tuple(reversed(there))


def _removed(hosts_dir: Path, name: str) -> bool:
    return disk.remove_if_empty(state.absolute(hosts_dir, name))


def _user_bytes(content: bytes, path: Path) -> bytes:
    # What is not UTF-8 cannot be ours: the user put it there, and each of its bytes stays.
    return unsplice(content.decode(errors="surrogateescape"), str(path)).encode(errors="surrogateescape")


def _restore(hosts_dir: Path, path: Path, now: disk.Meta, original: Original) -> bool:
    if original.link is not None:
        disk.replace_by_link(path, original.link)
        return True
    content = state.original(hosts_dir, original)
    if content is None:
        return False
    # We left mode and owner as they were: what they are now is the same, or the user's wish.
    meta = disk.Meta(now.mode, now.uid, now.gid, original.mtime_ns)
    disk.replace(path, content, meta, keep_mtime=True)
    return True
