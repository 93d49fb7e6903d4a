"""Writes our entries into the hosts.toml files of registries, so that containerd asks our mirror first.

It does not decide which registries those are (its caller does), does not talk to containerd, and never
touches what is outside its marks. What it wrote is undone by `cleanup`.

Rules
1. All files are validated before the first is changed. A failure to write leaves each of them old or new.
2. A second run with the same arguments writes nothing. Another run merges anew from the user's own text.
3. The originals and the manifest in `_peili` are on disk before the first change.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from posixpath import normpath

from containerd.hosts import disk, docker_daemon, state
from containerd.hosts.docker_daemon import DockerDaemon
from containerd.hosts.errors import HostsDirUnusable, RegistryNameInvalid
from containerd.hosts.layout import Mirror, Tags
from containerd.hosts.manifest import Manifest
from containerd.hosts.names import Registry
from containerd.hosts.plan import Plan, Planner
from containerd.hosts.report import Change, Report
from containerd.hosts.search import search_path
from containerd.hosts.undo import check, remove_made, undo


def configure(
    hosts_dir: Path,
    *,
    registry_url: str,
    tags: Tags,
    registries: Sequence[str],
    config_path: str | None,
    containerd_version: tuple[int, int] | None,
    stale_tags: bool | None = None,
    default: bool = True,
) -> Report:
    """Entries for these registries, for those of earlier runs, and, with `default`, for all others
    (`_default`).

    `registry_url` is our registry listener as containerd reaches it, such as http://127.0.0.1:29020.
    `config_path` is containerd's effective setting: "" when it is unset, None when it is not known. `stale_tags`:
    whether the fallback host may resolve tags, None: as containerd's version allows.

    Raises: HostsError.
    """
    mirror = Mirror(registry_url, tags, containerd_version, stale_tags)
    wanted = [Registry.parse(name) for name in registries]
    return _run(hosts_dir, mirror, wanted, config_path, default=default, alone=False)


def add_registry(
    hosts_dir: Path,
    registry: str,
    *,
    registry_url: str,
    tags: Tags,
    config_path: str | None,
    containerd_version: tuple[int, int] | None,
    stale_tags: bool | None = None,
) -> Report:
    """An entry for one registry that was first seen in a request; all other files are left as they are.

    Raises: HostsError, also for localhost and addresses: nobody but the operator says those.
    """
    wanted = Registry.parse(registry)
    if wanted.is_address:
        raise RegistryNameInvalid(registry, "an address is mirrored only when the operator names it")
    mirror = Mirror(registry_url, tags, containerd_version, stale_tags)
    return _run(hosts_dir, mirror, [wanted], config_path, default=False, alone=True)


def registries_with_directory(hosts_dir: Path) -> tuple[str, ...]:
    """The registries that the hosts directory has a directory for; without loopback, which is another one on each
    host."""
    found = map(Registry.from_directory, disk.directories(hosts_dir))
    return tuple(sorted({it.name for it in found if it is not None and not it.is_loopback}))


def _run(
    hosts_dir: Path,
    mirror: Mirror,
    registries: Sequence[Registry],
    config_path: str | None,
    *,
    default: bool,
    alone: bool,
) -> Report:
    hosts_dir = Path(normpath(hosts_dir.absolute()))
    search = search_path(str(hosts_dir), config_path, mirror.containerd_version)
    with disk.explained(hosts_dir), _existing(hosts_dir), disk.locked(hosts_dir):
        known = state.load(hosts_dir)
        state.sweep(hosts_dir, known, search.literal)
        docker = docker_daemon.beside(hosts_dir)
        planner = Planner(hosts_dir, mirror, search, known or Manifest(), docker)
        if default:
            # Loopback needs no entry to stay insecure, and is another registry on each host.
            insecure = (it for it in docker.insecure if not it.is_loopback)
            registries = tuple(dict.fromkeys((*registries, *insecure)))
        plan = planner.plan(registries, default=default and not docker.networks, alone=alone)
        for entry in plan.stale:
            check(hosts_dir, entry)
        undone = _apply(hosts_dir, known, plan)
        told = {change.path for change in plan.changes}
        more = (change for change in undone if change.path not in told)
        warnings = (*_advice(mirror), *(_no_default(docker) if default else ()), *plan.warnings)
        return Report((*plan.changes, *more), warnings)


def _advice(mirror: Mirror) -> list[str]:
    if mirror.is_loopback:
        return []
    return [
        f"{mirror.registry_url} is not a loopback address: when nothing answers there, each request of "
        "containerd waits for it, up to 30 s on 1.6 and 1.7; a refused loopback port costs nothing"
    ]


def _no_default(docker: DockerDaemon) -> list[str]:
    if not docker.networks:
        return []
    return [
        f"Docker's insecure-registries name networks ({', '.join(map(str, docker.networks))}), and an entry for all "
        "registries would hide that: only named registries are mirrored; name others with --mirror"
    ]


@contextmanager
def _existing(hosts_dir: Path) -> Iterator[None]:
    """Makes the hosts directory, but not its parents: there, a typing error is more likely than a lack."""
    if hosts_dir.is_dir():
        yield
        return
    if not hosts_dir.parent.is_dir():
        raise HostsDirUnusable(
            f"{hosts_dir.parent}: no such directory; make it, or name another hosts directory"
        )
    with disk.appearing(hosts_dir) as directory:
        state.save(directory, Manifest((".",)))
    try:
        yield
    except BaseException:
        with suppress(OSError), disk.locked(hosts_dir):
            known = state.load(hosts_dir)
            if known == Manifest((".",)) and disk.directories(hosts_dir) == (state.DIRECTORY,):
                disk.vanish(hosts_dir)
        raise


def _apply(hosts_dir: Path, known: Manifest | None, plan: Plan) -> list[Change]:
    if plan.manifest == known and not plan.writes and not plan.stale:
        return []
    staged: list[disk.Staged] = []
    renamed = 0
    try:
        state.save(hosts_dir, plan.manifest, plan.originals)
        for number, write in enumerate(plan.writes):
            write.directory.parent.mkdir(parents=True, exist_ok=True)
            staged.append(disk.stage(write.directory, write.content, write.meta, number))
        for item in staged:
            disk.commit(item)
            renamed += 1
    except BaseException:
        disk.discard(staged[renamed:])
        if not renamed:
            _forget(hosts_dir, known, plan)
        raise
    return _finish(hosts_dir, plan)


def _forget(hosts_dir: Path, known: Manifest | None, plan: Plan) -> None:
    """Nothing was changed: as far as the disk still allows, nothing is remembered either."""
    with suppress(OSError):
        remove_made(hosts_dir, plan.manifest.made_directories)
        if known is None:
            state.remove(hosts_dir)
        else:
            state.save(hosts_dir, known)


def _finish(hosts_dir: Path, plan: Plan) -> list[Change]:
    undone = [undo(hosts_dir, entry) for entry in plan.stale]
    left = plan.manifest
    if plan.stale:
        gone = {entry.path for entry in plan.stale}
        made = remove_made(hosts_dir, plan.manifest.made_directories)
        left = Manifest(made, tuple(entry for entry in plan.manifest.entries if entry.path not in gone))
        state.save(hosts_dir, left)
    state.forget_unnamed(hosts_dir, left)
    return undone
