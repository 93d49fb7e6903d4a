"""What must be changed on a host so that its containerd asks the daemon first, and what the daemon is told. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.host.changes import FileChange
from mirror.host.facts import HostFacts
from mirror.host.found import Installation


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Of serve and doctor. `containerd_config_path` None: they find it themselves."""

    containerd_sock: str
    namespaces: tuple[str, ...]
    hosts_dir: str
    containerd_config_path: str | None = None


@dataclass(frozen=True, slots=True)
class HostsDir:
    """Where `configure` is to run, and with which --containerd-config-path: as it is in effect after the changes."""

    path: str
    config_path: str | None


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
    raise NotImplementedError
