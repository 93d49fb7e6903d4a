"""Takes our entries out of a hosts directory: every file that nobody touched is byte for byte what it was.

It needs nothing but the directory, so that any process can do it, also after one that died.

Rules
1. What the user wrote after us stays; what he removed stays removed.
2. All files are checked before the first is changed.
3. Without a manifest, the marks in the files say what is ours.
"""

from pathlib import Path
from posixpath import normpath

from containerd.hosts import disk, state
from containerd.hosts.manifest import Manifest
from containerd.hosts.report import Action, Change, Report
from containerd.hosts.splice import has_marks
from containerd.hosts.undo import check, remove_made, undo, without_marks


def cleanup(hosts_dir: Path) -> Report:
    """Idempotent. Raises: HostsError."""
    hosts_dir = Path(normpath(hosts_dir.absolute()))
    with disk.explained(hosts_dir):
        if hosts_dir.parent.is_dir():
            disk.sweep_aside(hosts_dir)
        if not hosts_dir.is_dir():
            return Report(())
        with disk.locked(hosts_dir):
            return Report(tuple(_clean(hosts_dir)))


def _clean(hosts_dir: Path) -> list[Change]:
    known = state.load(hosts_dir) or Manifest()
    state.sweep(hosts_dir, known)
    strays = _strays(hosts_dir, known)
    for entry in known.entries:
        check(hosts_dir, entry)
    changes = [undo(hosts_dir, entry) for entry in known.entries]
    for path, found in strays.items():
        change = without_marks(path, found, path.parent.name, was_there=False)
        if change.action is Action.REMOVED:
            disk.remove_if_empty(path.parent)
        changes.append(change)
    made = remove_made(hosts_dir, known.made_directories)
    if "." in made and [entry.name for entry in hosts_dir.iterdir()] == [state.DIRECTORY]:
        disk.vanish(hosts_dir)
    else:
        state.remove(hosts_dir)
    return changes


def _strays(hosts_dir: Path, known: Manifest) -> dict[Path, disk.Found]:
    """Files with our marks that the manifest does not name. Raises: HostsFileInvalid."""
    named = {state.absolute(hosts_dir, entry.path) for entry in known.entries}
    strays = {}
    for name in disk.directories(hosts_dir):
        path = hosts_dir / name / disk.HOSTS_TOML
        found = None if path in named or path.parent.is_symlink() else disk.read(path)
        if found is None or found.link is not None:
            continue
        if has_marks(found.content.decode(errors="surrogateescape")):
            strays[path] = found
    return strays
