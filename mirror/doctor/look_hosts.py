"""What is in the hosts directory. Reads, and takes no lock: a run of configure at the same moment may be half seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from containerd.errors import ContainerdError
from containerd.hosts import disk, state
from containerd.hosts.errors import HostsFileInvalid
from containerd.hosts.hosts_file import read
from containerd.hosts.manifest import Manifest, digest
from containerd.hosts.names import DEFAULT, Registry
from containerd.hosts.search import search_path
from containerd.hosts.splice import has_marks
from mirror.doctor.facts import HostsFacts, HostsFile

# Beyond the registries of any host: what is more is another kind of directory.
DIRECTORIES_MAX_COUNT = 1000


def look_hosts(hosts_dir: Path, config_path: str | None, release: tuple[int, int]) -> HostsFacts:
    if not hosts_dir.is_dir():
        return HostsFacts(exists=False)
    trouble = ""
    known: Manifest | None = None
    files: tuple[HostsFile, ...] = ()
    changed: tuple[str, ...] = ()
    # Another user's rights say nothing of the daemon's.
    if os.geteuid() == 0 and not os.access(hosts_dir, os.W_OK):
        trouble = "read-only file system, or no right to write"
    try:
        files = tuple(_files(hosts_dir))
        known = state.load(hosts_dir)
        changed = () if known is None else tuple(_changed(hosts_dir, known))
    except ContainerdError as exc:
        # The manifest is damaged; the message says how to go on.
        changed = (str(exc),)
    except PermissionError:
        # What we keep beside the files is root's alone; without it only the files tell.
        pass
    except OSError as exc:
        trouble = trouble or str(exc)
    literal = search_path(str(hosts_dir), config_path, release if release > (0, 0) else None).literal
    return HostsFacts(
        exists=True,
        is_configured=known is not None and bool(known.entries),
        files=files,
        changed=changed,
        unwritable=trouble,
        has_literal=literal is not None and _one(Path(literal), DEFAULT).is_ours,
    )


def _files(hosts_dir: Path) -> Iterator[HostsFile]:
    for name in disk.directories(hosts_dir)[:DIRECTORIES_MAX_COUNT]:
        # What is no registry's is not looked up by containerd.
        if name == DEFAULT or Registry.from_directory(name) is not None:
            yield _one(hosts_dir, name)


def _one(hosts_dir: Path, name: str) -> HostsFile:
    registry = Registry.from_directory(name)
    is_loopback = registry is not None and registry.is_loopback
    path = hosts_dir / name / disk.HOSTS_TOML
    is_ours = False
    try:
        found = disk.read(path)
        text = "" if found is None else found.content.decode()
        is_ours = has_marks(text)
        hosts = read(text, str(path)).hosts
    except HostsFileInvalid as exc:
        return HostsFile(name, is_ours, is_loopback, invalid=str(exc))
    except (OSError, ValueError) as exc:
        return HostsFile(name, is_ours, is_loopback, invalid=f"{path}: {exc}")
    return HostsFile(name, is_ours, is_loopback, first_host=hosts[0].url if hosts else "")


def _changed(hosts_dir: Path, known: Manifest) -> Iterator[str]:
    for entry in known.entries:
        path = state.absolute(hosts_dir, entry.path)
        try:
            found = disk.read(path)
        except HostsFileInvalid:
            continue
        if found is None:
            yield f"{path} is gone"
        elif digest(found.content) != entry.written_sha256:
            yield f"{path} was edited"
