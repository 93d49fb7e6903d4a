"""What must be changed on a host so that its containerd asks the daemon first, and what the daemon is told. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from posixpath import dirname

from containerd.effective_config import ConfigInvalid, EffectiveConfig, effective
from containerd.hosts.search import search_path
from mirror.host.changes import FileChange
from mirror.host.config_path import Unspliceable, file_version, with_config_path
from mirror.host.distribution import (
    CRI_NAMESPACE,
    DEFAULT_HOSTS_DIR,
    DEFAULT_NAMESPACE,
    DOCKER_HOSTS_DIR,
    MICROK8S,
    STOCK_SOCK,
    Kind,
)
from mirror.host.errors import HostError
from mirror.host.facts import ConfigFacts, DockerFacts, HostFacts
from mirror.host.found import Installation
from mirror.host.rancher import rancher_files
from mirror.host.refusals import DOCKER_OLDEST, docker_refusal, legacy_refusal, read_only_refusal

# Older ones do not read hosts.toml as it is written here, and nobody tries them.
OLDEST = (1, 6)
# The snap's data are below the number of its revision; `current` is a link to it that outlives a refresh.
_MICROK8S_DIR = re.compile(r"/var/snap/microk8s/[^/]+/args/certs\.d/?")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Of serve and doctor. `containerd_config_path`: as it is in effect after the changes."""

    containerd_sock: str
    namespaces: tuple[str, ...]
    hosts_dir: str
    containerd_config_path: str


@dataclass(frozen=True, slots=True)
class HostsDir:
    """Where `configure` is to run, and with which --containerd-config-path: as it is in effect after the changes."""

    path: str
    config_path: str


@dataclass(frozen=True, slots=True)
class HostPlan:
    """In this order: `changes` are made, `configure` runs for each of `hosts_dirs` (none where the distribution writes
    hosts.toml itself), then `restart`, a line for a shell, after which the changes are in effect (None: no restart is
    needed). `notes`: for the operator, one line each. A host that is as it should be: no changes, no restart."""

    serve: ServeSettings
    hosts_dirs: tuple[HostsDir, ...]
    changes: tuple[FileChange, ...] = ()
    restart: str | None = None
    notes: tuple[str, ...] = ()


def plan(
    host: HostFacts, chosen: Installation, registry_url: str, *, hosts_dir: str | None = None
) -> HostPlan:
    """`registry_url`: of our registry, as containerd reaches it, such as http://127.0.0.1:29020. `hosts_dir`: the
    operator's wish in the place of the distribution's. Raises: HostError, which says what to do by hand."""
    release = chosen.socket.release
    if (0, 0) < release < OLDEST:
        raise HostError(
            f"{chosen.name} is containerd {chosen.socket.version}; 1.6 is the oldest that works with Peili: upgrade it"
        )
    made = _made(host, chosen, registry_url, hosts_dir)
    for path in (*(dirname(change.path) for change in made.changes), *(one.path for one in made.hosts_dirs)):
        if any(path == one or path.startswith(f"{one}/") for one in host.read_only):
            raise HostError(read_only_refusal(path))
    used = (made.serve.hosts_dir, *(one.path for one in made.hosts_dirs))
    if hosts_dir is None or hosts_dir in used:
        return made
    note = f"--hosts-dir {hosts_dir} has no effect: {chosen.name} reads {made.serve.hosts_dir}"
    return replace(made, notes=(*made.notes, note))


def _made(host: HostFacts, chosen: Installation, registry_url: str, told: str | None) -> HostPlan:
    match chosen.distribution.kind:
        case Kind.K3S | Kind.RKE2:
            return _rancher(host, chosen, registry_url)
        case Kind.MICROK8S:
            return _microk8s(chosen, told)
        case Kind.DOCKER:
            return _docker(host, chosen)
        case Kind.STOCK:
            return _stock(host, chosen, told)


# --- The system's containerd


def _stock(host: HostFacts, chosen: Installation, told: str | None) -> HostPlan:
    config, docker, there = _config(chosen), chosen.docker, chosen.socket.namespaces
    serves_docker = docker is not None and _why_not(docker) is None
    # Docker's packages start containerd for Docker alone; whether its CRI is there for anybody, namespaces tell.
    serves_cri = (
        docker is None
        or (config.has_cri and CRI_NAMESPACE in there)
        or (not serves_docker and DEFAULT_NAMESPACE in there)
    )
    if docker is not None and not serves_docker and not serves_cri:
        raise HostError(_why_not(docker) or "")
    notes: list[str] = []
    changes: tuple[FileChange, ...] = ()
    restart: str | None = None
    hosts_dirs: list[HostsDir] = []
    namespaces: list[str] = []
    if serves_cri:
        found, changes, restart = _cri_part(host, chosen, config, told, notes)
        hosts_dirs.append(found)
        namespaces += [CRI_NAMESPACE, *(name for name in (DEFAULT_NAMESPACE,) if name in there)]
    if docker is not None:
        if serves_docker:
            hosts_dirs.append(HostsDir(DOCKER_HOSTS_DIR, DOCKER_HOSTS_DIR))
            namespaces.append(docker.namespace)
        else:
            notes.append(f"Docker is left alone: {_why_not(docker)}")
    first = hosts_dirs[0]
    return HostPlan(
        ServeSettings(chosen.socket.sock, tuple(namespaces), first.path, first.config_path),
        tuple(hosts_dirs),
        changes,
        restart,
        tuple(notes),
    )


def _cri_part(
    host: HostFacts, chosen: Installation, config: EffectiveConfig, told: str | None, notes: list[str]
) -> tuple[HostsDir, tuple[FileChange, ...], str | None]:
    hosts_dir = told or _preferred(config.config_path)
    if not config.has_cri:
        notes.append(
            "containerd's CRI is switched off (disabled_plugins), so config_path is of no matter: nerdctl reads "
            f"{DEFAULT_HOSTS_DIR} by itself, ctr what --hosts-dir names"
        )
        return HostsDir(hosts_dir, hosts_dir), (), None
    facts = chosen.socket.config
    assert facts is not None
    if config.config_path and not _reads_elsewhere(hosts_dir, config.config_path, chosen):
        if config.legacy:
            raise HostError(legacy_refusal(facts.file, config.legacy, hosts_dir))
        restart = _restart(host, chosen, notes) if facts.is_newer else None
        if facts.is_newer:
            notes.append(
                f"{facts.file} was changed after containerd was started, which does not know the change yet"
            )
        return HostsDir(hosts_dir, config.config_path), (), restart
    if config.legacy:
        raise HostError(legacy_refusal(facts.file, config.legacy, hosts_dir))
    change = _config_change(host, chosen, facts, hosts_dir)
    return HostsDir(hosts_dir, hosts_dir), (change,), _restart(host, chosen, notes)


def _preferred(config_path: str) -> str:
    parts = [part for part in config_path.split(":") if part]
    return DEFAULT_HOSTS_DIR if not parts or DEFAULT_HOSTS_DIR in parts else parts[0].rstrip("/") or "/"


def _reads_elsewhere(hosts_dir: str, config_path: str, chosen: Installation) -> bool:
    return bool(search_path(hosts_dir, config_path, chosen.socket.release).warnings)


def _config_change(host: HostFacts, chosen: Installation, facts: ConfigFacts, hosts_dir: str) -> FileChange:
    """In the main file, or in the imported one that would take it away again."""
    files = chosen.socket.config_files
    if not files:
        raise HostError(
            f"containerd runs in another mount namespace (a container), where config_path is not set in {facts.file}: "
            f"set it to {hosts_dir} there, and run peili up again"
        )
    for file in files:
        if file in host.unreadable:
            raise HostError(f"{file} cannot be read: {host.unreadable[file]}")
    texts = [host.files.get(file, "") for file in files]
    version = file_version(texts[0])
    refusal: Unspliceable | None = None
    for index in (0, *range(len(files) - 1, 0, -1)):
        try:
            new = with_config_path(
                texts[index],
                hosts_dir,
                chosen.socket.release,
                files[index],
                main_version=version if index else 1,
            )
        except Unspliceable as error:
            refusal = refusal or error
            continue
        if _takes_effect([*texts[:index], new, *texts[index + 1 :]], hosts_dir, chosen):
            why = f"config_path = {hosts_dir}, so that containerd reads hosts.toml files there"
            return FileChange(files[index], new.encode(), why)
    raise refusal or HostError(
        f"config_path cannot be set in {files[0]}: a file that it imports puts another in its place; set it to "
        f"{hosts_dir} there, and run again"
    )


def _takes_effect(texts: list[str], hosts_dir: str, chosen: Installation) -> bool:
    try:
        return effective(texts, chosen.socket.release).config_path == hosts_dir
    except ConfigInvalid:
        return False


def _restart(host: HostFacts, chosen: Installation, notes: list[str]) -> str | None:
    # A containerd at another socket is of another unit.
    if chosen.socket.sock == STOCK_SOCK and "containerd.service" in host.units:
        return chosen.distribution.restart
    notes.append(
        "containerd is no unit of systemd here: restart it the way it was started, and the change is in effect"
    )
    return None


# --- The others


def _docker(host: HostFacts, chosen: Installation) -> HostPlan:
    """dockerd's own containerd."""
    docker = chosen.docker
    if docker is None:
        raise HostError(
            f"{chosen.name} is dockerd's own containerd, and dockerd does not say what it keeps there: "
            f"{host.docker_trouble or 'there is no /run/docker.sock'}"
        )
    if (why_not := _why_not(docker)) is not None:
        raise HostError(why_not)
    return HostPlan(
        ServeSettings(chosen.socket.sock, (docker.namespace,), DOCKER_HOSTS_DIR, DOCKER_HOSTS_DIR),
        (HostsDir(DOCKER_HOSTS_DIR, DOCKER_HOSTS_DIR),),
    )


def _why_not(docker: DockerFacts) -> str | None:
    major = re.match(r"\d+", docker.version)
    is_too_old = major is not None and int(major[0]) < DOCKER_OLDEST
    if docker.has_containerd_store and not is_too_old:
        return None
    return docker_refusal(docker, is_too_old=is_too_old)


def _microk8s(chosen: Installation, told: str | None) -> HostPlan:
    config = _config(chosen)
    if config.legacy:
        raise HostError(legacy_refusal(MICROK8S.config_file, config.legacy, MICROK8S.hosts_dir))
    if not config.config_path:
        raise HostError(
            f"MicroK8s's containerd reads no hosts.toml: its own template does. Set config_path = "
            f'"${{SNAP_DATA}}/args/certs.d" in {MICROK8S.config_file}, below '
            f'[plugins."io.containerd.grpc.v1.cri".registry], then {MICROK8S.restart}, and run peili up again'
        )
    is_its_own = _MICROK8S_DIR.fullmatch(config.config_path) is not None
    path = told or (MICROK8S.hosts_dir if is_its_own else _preferred(config.config_path))
    in_effect = path if is_its_own else config.config_path
    return HostPlan(
        ServeSettings(chosen.socket.sock, (CRI_NAMESPACE,), path, in_effect), (HostsDir(path, in_effect),)
    )


def _rancher(host: HostFacts, chosen: Installation, registry_url: str) -> HostPlan:
    config = _config(chosen)
    hosts_dir = config.config_path
    if not hosts_dir:
        raise HostError(
            f"the containerd of {chosen.distribution.kind} reads no hosts.toml: a template of yours "
            f"({chosen.distribution.config_file}) leaves config_path out, or the release is of before 2024; mend the "
            "template, or upgrade"
        )
    files = rancher_files(host, chosen.distribution, chosen.socket.version, hosts_dir, registry_url)
    distribution = chosen.distribution
    # RKE2's archive holds both units, so it counts which is enabled.
    is_agent = {f"{distribution.agent_unit}.service"} == host.enabled_units & {
        f"{unit}.service" for unit in (distribution.unit, distribution.agent_unit)
    }
    unit = distribution.agent_unit if is_agent else distribution.unit
    return HostPlan(
        ServeSettings(chosen.socket.sock, (CRI_NAMESPACE,), hosts_dir, hosts_dir),
        (),
        files.changes,
        f"systemctl restart {unit}" if files.must_restart else None,
        files.notes,
    )


# --- What all have


def _config(chosen: Installation) -> EffectiveConfig:
    found = chosen.socket.config
    if found is None or found.effective is None:
        raise HostError(
            f"the configuration of {chosen.name} could not be read: "
            f"{'no file was found' if found is None else f'{found.source}: {found.trouble}'}; run peili up as root, on "
            "the host itself"
        )
    return found.effective
