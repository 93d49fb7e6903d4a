"""What the systemd unit is told of a host that `peili up` has looked at. Pure: reads no variables and finds no program.

Every user of the host can read a unit: no password goes into it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mirror.host.found import Installation
from mirror.host.handing_on import words
from mirror.host.plan import HostPlan
from mirror.host.unit import ServiceFacts
from mirror.settings.model import ServeSettings

# As mirror/origin/proxies.py reads them.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True, slots=True)
class Program:
    """`command` and `working_dir`: as of `ServiceFacts`. `reads`: where Python and the package lie."""

    command: tuple[str, ...]
    working_dir: str | None
    reads: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ProxyVariables:
    """`told`: variables for the unit. `hidden`: names of those with a password."""

    told: Mapping[str, str]
    hidden: Sequence[str]


def proxies(environment: Mapping[str, str]) -> ProxyVariables:
    found = {name: environment[name] for name in PROXIES if name in environment}
    told = {name: url for name, url in found.items() if "@" not in url}
    return ProxyVariables(told, sorted(found.keys() - told.keys()))


def service_facts(
    settings: ServeSettings,
    chosen: Installation,
    plan: HostPlan,
    flags: Mapping[str, str | tuple[str, ...]],
    program: Program,
    environment: Mapping[str, str],
    *,
    systemd_version: int,
) -> ServiceFacts:
    """`flags`: of serve, which `settings` were made of."""
    kind = chosen.distribution
    reads = [*program.reads, Path(plan.serve.containerd_sock).parent]
    reads += [path for path in (settings.cluster_secret_file, settings.docker_config) if path is not None]
    return ServiceFacts(
        program=program.command,
        serve_flags=words(flags),
        data_dir=str(settings.data_dir),
        hosts_dirs=tuple(one.path for one in plan.hosts_dirs),
        after=tuple(f"{name}.service" for name in (kind.unit, kind.agent_unit) if name),
        reads=tuple(map(str, reads)),
        environment=environment,
        working_dir=program.working_dir,
        systemd_version=systemd_version,
    )
