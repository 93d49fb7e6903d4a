"""`peili configure`: which registries get entries in hosts.toml, and what the operator hears of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from containerd.hosts.configure import configure as write_hosts
from containerd.hosts.configure import registries_with_directory
from mirror.cli.options import command, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.model import StaleTags, Tags
from mirror.settings.setting import Command

if TYPE_CHECKING:
    from containerd.hosts.layout import Tags as HostsTags
    from containerd.hosts.report import Report

# A fallback host can only be written for a registry that is named, and `_default` names none: these are where
# most images of most clusters come from.
WELL_KNOWN_REGISTRIES = (
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "lscr.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "quay.io",
    "registry.gitlab.com",
    "registry.k8s.io",
)

TAGS: dict[Tags, HostsTags] = {Tags.UPSTREAM: "upstream", Tags.PEERS: "peers", Tags.OFF: "off"}
# None: as containerd's version allows.
STALE_TAGS = {StaleTags.AUTO: None, StaleTags.ON: True, StaleTags.OFF: False}


def run(flags: Flags) -> int:
    """Raises: SettingsError, HostsError."""
    values = load.read(Command.CONFIGURE, flags, os.environ)
    resolved = resolve.configure(values, machine.surroundings())
    settings = resolved.settings
    print_warnings(resolved.warnings)
    report = write_hosts(
        settings.hosts.hosts_dir,
        registry_url=settings.hosts.registry_url,
        tags=TAGS[settings.tags],
        registries=_registries(settings.hosts.hosts_dir, settings.mirrors),
        config_path=settings.hosts.containerd_config_path,
        stale_tags=STALE_TAGS[settings.hosts.stale_tags],
        containerd_version=_containerd_version(settings.containerd_sock),
    )
    print_report(report)
    return 0


def _registries(hosts_dir: Path, named: Sequence[str]) -> tuple[str, ...]:
    """A registry with a directory of the user's is not served by `_default`: it gets an entry of its own."""
    return tuple(dict.fromkeys((*WELL_KNOWN_REGISTRIES, *registries_with_directory(hosts_dir), *named)))


def print_report(report: Report) -> None:
    """One line a file, aligned; warnings go to standard error."""
    print_warnings(report.warnings)
    for change in report.changes:
        click.echo(f"{change.action.value:<9}  {change.path}")


def _containerd_version(sock: Path) -> tuple[int, int] | None:
    """None where containerd cannot be asked; its default is then taken for that of every release."""
    from containerd.client import Client  # grpc
    from containerd.errors import ContainerdError

    async def ask() -> tuple[int, int]:
        async with Client(sock) as client:
            return (await client.version()).release

    try:
        release = asyncio.run(ask())
    except ContainerdError as exc:
        print_warnings((f"containerd's version is not known: {exc}",))
        return None
    return release if release > (0, 0) else None


configure = command(
    Command.CONFIGURE,
    "Writes containerd's hosts.toml files so that pulls ask the daemon first, and the registry where it has "
    "nothing. What is in them stays and keeps working; cleanup undoes it. Running it again changes nothing.",
    run,
)
