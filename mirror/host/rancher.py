"""What must be changed where K3s or RKE2 run: they make hosts.toml files at each start, from registries.yaml. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.host.changes import SECRET_MODE, FileChange
from mirror.host.distribution import Distribution
from mirror.host.errors import HostError
from mirror.host.facts import HostFacts
from mirror.host.registries_yaml import with_endpoint

# Before March 2024, and in the releases of February 2025 (containerd 2.0.2), what they write for "*" leaves containerd
# without the registry itself: every pull of what peers do not have would fail (K3s issues 9728 and 11857).
_OLDEST_GOOD = (1, 7, 15)
_BAD_FROM, _GOOD_AGAIN = (2, 0, 0), (2, 0, 4)
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class RancherFiles:
    changes: tuple[FileChange, ...]
    must_restart: bool
    notes: tuple[str, ...]


def settings_files(distribution: Distribution) -> tuple[str, ...]:
    """Where the flags of K3s or RKE2 may stand, besides a directory config.yaml.d beside the first."""
    folder = distribution.registries_file.rpartition("/")[0]
    units = (distribution.unit, distribution.agent_unit)
    return (
        f"{folder}/config.yaml",
        *(f"/etc/systemd/system/{unit}.service{end}" for unit in units for end in ("", ".env")),
    )


def rancher_files(
    host: HostFacts, distribution: Distribution, version: str, hosts_dir: str, registry_url: str
) -> RancherFiles:
    """`version`: containerd's, in full. `hosts_dir`: where hosts.toml files are generated. Raises: HostError."""
    kind, file = distribution.kind, distribution.registries_file
    _check_version(kind, version)
    settings = list(_settings_lines(host, distribution))
    elsewhere = next((found for line in settings if (found := _option(line, "private-registry"))), None)
    if elsewhere is not None and elsewhere not in ("true", file):
        raise HostError(
            f"{kind} is told to read its registries from {elsewhere} (private-registry): put {registry_url} there, as "
            f'the first endpoint of each registry and of "*", then restart {kind} and run peili serve; or move the '
            f"file to {file} and take the setting out"
        )
    if file in host.unreadable:
        raise HostError(f"{file} cannot be read: {host.unreadable[file]}")
    has_default = not any(_is_on(line, "disable-default-registry-endpoint") for line in settings)
    text = host.files.get(file, "")
    spliced = with_endpoint(text, registry_url, file, has_default=has_default)
    notes = [f"{file}: {one}" for one in spliced.left]
    if spliced.is_rewritten:
        notes.append(
            f"{file} is written anew, without its comments; peili down brings the file back as it was"
        )
    if any(_is_on(line, "embedded-registry") for line in settings):
        notes.append(f"{kind} has its own mirror (embedded-registry) as well: use one of the two")
    if spliced.text == text:
        is_pending = has_default and not _is_generated(host, hosts_dir, registry_url)
        if is_pending:
            notes.append(f"{file} names peili already, and {kind} was not restarted since")
        return RancherFiles((), is_pending, tuple(notes))
    why = f"{registry_url} as the first endpoint of every registry; {kind} makes hosts.toml files from it at each start"
    # It may hold credentials, if not now.
    return RancherFiles((FileChange(file, spliced.text.encode(), why, SECRET_MODE),), True, tuple(notes))


def default_file(hosts_dir: str) -> str:
    return f"{hosts_dir}/_default/hosts.toml"


def _is_generated(host: HostFacts, hosts_dir: str, registry_url: str) -> bool:
    return f'[host."{registry_url}' in host.files.get(default_file(hosts_dir), "")


def _check_version(kind: str, version: str) -> None:
    match = _VERSION.match(version)
    if match is None:
        return
    found = (int(match[1]), int(match[2]), int(match[3]))
    if found < _OLDEST_GOOD or _BAD_FROM <= found < _GOOD_AGAIN:
        raise HostError(
            f"this release of {kind} (containerd {version}) does not go on to the registry itself behind a mirror for "
            '"*" (mended in K3s of March 2024 and, again, of March 2025): upgrade it, then run peili up'
        )


def _settings_lines(host: HostFacts, distribution: Distribution) -> Iterator[str]:
    folder = distribution.registries_file.rpartition("/")[0]
    for path, text in host.files.items():
        if path in settings_files(distribution) or path.startswith(f"{folder}/config.yaml.d/"):
            yield from (line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _option(line: str, name: str) -> str | None:
    """What a flag of a unit or a line of config.yaml says: `--name=value`, `'--name' 'value'`, `name: value`; "true"
    where it says no more."""
    found = re.search(rf"""(?:^|[\s'"=-]){name}['"]?(?:\s*[:=]\s*|['"\s]+(?!-))?['"]?([^\s'"\\]*)""", line)
    return None if found is None else found[1] or "true"


def _is_on(line: str, name: str) -> bool:
    return _option(line, name) not in (None, "false")
