"""Looks at this host as `peili up` needs it: sockets, configurations, files. It changes nothing, and waits for each
thing for a bounded time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from containerd.client import Client
from containerd.errors import ContainerdError, InvalidArgument, SocketForbidden, SocketMissing
from mirror.host.distribution import (
    DOCKER_API_SOCK,
    DOCKER_HOSTS_DIR,
    DOCKER_SOCK,
    KNOWN_SOCKS,
    RKE2_DIR,
    STOCK_SOCK,
    Distribution,
    canonical_sock,
    distribution_of,
)
from mirror.host.facts import Answer, HostFacts, SocketFacts
from mirror.host.look_docker import look_docker
from mirror.host.look_process import config_files, config_of, listener
from mirror.host.rancher import default_file, settings_files

ROOT = Path("/")
# Two calls, each with its own limit, and a dump; a containerd that needs longer in all is stuck.
CONTAINERD_LIMIT_S = 20.0
# Configuration files have some kilobytes.
FILE_MAX_BYTES = 2**20
# config.yaml.d of K3s and units of systemd: what is more is something else.
FILES_MAX_COUNT = 1000
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
_UNIT_DIRS = tuple(f"{folder}/systemd/system" for folder in ("etc", "run", "usr/lib", "usr/local/lib", "lib"))


async def look_host(sock: Path | None = None, *, root: Path = ROOT) -> HostFacts:
    """`sock`: looked at before those that are known. `root`: looked at in the place of /, for tests. Never fails: what
    could not be seen is a fact, too."""
    docker, trouble = await look_docker(
        _at(root, DOCKER_API_SOCK),
        default_sock=DOCKER_SOCK if _at(root, DOCKER_SOCK).is_socket() else STOCK_SOCK,
    )
    has_rke2 = _at(root, RKE2_DIR).is_dir()
    asked = [] if sock is None else [canonical_sock(str(sock))]
    named = [*asked, *KNOWN_SOCKS, *([docker.containerd_sock] if docker is not None else [])]
    there = [path for path in dict.fromkeys(named) if path in asked or _at(root, path).is_socket()]
    async with asyncio.TaskGroup() as group:
        looks = [group.create_task(_socket(root, path, has_rke2=has_rke2)) for path in there]
    sockets = tuple(look.result() for look in looks)
    return await asyncio.to_thread(
        _with_files, root, HostFacts("", "", sockets, docker, trouble, has_rke2=has_rke2)
    )


def _at(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _inside(root: Path, path: str) -> str:
    return "/" + path.removeprefix(str(root)).lstrip("/")


async def _socket(root: Path, sock: str, *, has_rke2: bool) -> SocketFacts:
    try:
        async with asyncio.timeout(CONTAINERD_LIMIT_S), Client(_at(root, sock)) as client:
            version = await client.version()
            namespaces = await client.namespaces()
            kind = distribution_of(sock, has_rke2=has_rke2)
            found = SocketFacts(sock, Answer.ANSWERS, "", version.text, version.release, namespaces)
            return await asyncio.to_thread(_with_config, root, kind, found)
    except (SocketMissing, InvalidArgument) as exc:
        return SocketFacts(sock, Answer.ABSENT, str(exc))
    except SocketForbidden as exc:
        return SocketFacts(sock, Answer.FORBIDDEN, str(exc))
    except ContainerdError as exc:
        return SocketFacts(sock, Answer.SILENT, str(exc))
    except TimeoutError:
        return SocketFacts(sock, Answer.SILENT, f"it did not answer within {CONTAINERD_LIMIT_S:.0f} s")


def _with_config(root: Path, kind: Distribution, found: SocketFacts) -> SocketFacts:
    process = listener(_at(root, found.sock))
    default = str(_at(root, kind.running_config))
    config = config_of(process, found.release, default)
    files = tuple(_inside(root, path) for path in config_files(process, default))
    return replace(
        found,
        config=None if config is None else replace(config, file=_inside(root, config.file)),
        config_files=files,
    )


# --- Files


def _with_files(root: Path, host: HostFacts) -> HostFacts:
    files: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for path in dict.fromkeys(_read_files(root, host)):
        try:
            text = _text(_at(root, path))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            unreadable[path] = (exc.strerror if isinstance(exc, OSError) else "") or str(exc)
            continue
        files[path] = text
    units, enabled = _units(root)
    release = _os_release(root)
    return replace(
        host,
        os_id=release.get("ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        files=files,
        unreadable=unreadable,
        read_only=tuple(path for path in dict.fromkeys(_written_dirs(host)) if _is_read_only(root, path)),
        units=units,
        enabled_units=enabled,
    )


def _read_files(root: Path, host: HostFacts) -> Iterator[str]:
    for one in host.sockets:
        yield from one.config_files
        kind = distribution_of(one.sock, has_rke2=host.has_rke2)
        if kind.registries_file:
            yield kind.registries_file
            yield from settings_files(kind)
            folder = f"{kind.registries_file.rpartition('/')[0]}/config.yaml.d"
            yield from (f"{folder}/{name}" for name in _names(_at(root, folder), ".yaml"))
            yield from (default_file(path) for path in (kind.hosts_dir, *_config_path(one)))


def _config_path(one: SocketFacts) -> Sequence[str]:
    effective = None if one.config is None else one.config.effective
    return [part for part in effective.config_path.split(":") if part] if effective is not None else []


def _written_dirs(host: HostFacts) -> Iterator[str]:
    for one in host.sockets:
        kind = distribution_of(one.sock, has_rke2=host.has_rke2)
        yield from (kind.hosts_dir, *_config_path(one))
        for file in (*one.config_files, kind.registries_file):
            if file:
                yield file.rpartition("/")[0]
    if host.docker is not None:
        yield DOCKER_HOSTS_DIR


def _is_read_only(root: Path, path: str) -> bool:
    here = _at(root, path)
    while not here.exists() and here != here.parent:
        here = here.parent
    try:
        return bool(os.statvfs(here).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _text(path: Path) -> str:
    with path.open("rb") as opened:
        content = opened.read(FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        raise ValueError("it is no configuration file: too large")
    return content.decode()


def _names(folder: Path, end: str) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.name.endswith(end))[:FILES_MAX_COUNT]
    except OSError:
        return []


def _units(root: Path) -> tuple[frozenset[str], frozenset[str]]:
    there = {name for folder in _UNIT_DIRS for name in _names(root / folder, ".service")}
    wants = _names(root / _UNIT_DIRS[0], ".wants")
    enabled = {name for folder in wants for name in _names(root / _UNIT_DIRS[0] / folder, ".service")}
    return frozenset(there), frozenset(enabled)


def _os_release(root: Path) -> dict[str, str]:
    for path in _OS_RELEASE:
        try:
            lines = _text(root / path).splitlines()
        except (OSError, ValueError):
            continue
        pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
        return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return {}
