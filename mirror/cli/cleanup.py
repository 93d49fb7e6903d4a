"""`peili cleanup`: this host as it was before `peili configure`, and before `peili serve` where that is asked for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from containerd.hosts.cleanup import cleanup as restore_hosts
from mirror.cleanup.data import remove
from mirror.cli.configure import print_report
from mirror.cli.options import command, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.setting import Command


def run(flags: Flags) -> int:
    """Raises: SettingsError, HostsError, DataDirKept, ListenFailed."""
    values = load.read(Command.CLEANUP, flags, os.environ)
    resolved = resolve.cleanup(values, machine.surroundings())
    settings = resolved.settings
    print_warnings(resolved.warnings)
    # First: from here on containerd asks a daemon that ends no more.
    report = restore_hosts(settings.hosts_dir)
    print_report(report)
    if not report.changes:
        click.echo(f"nothing of peili is in {settings.hosts_dir}")
    if settings.remove_data_dir is not None:
        _remove_data(settings.remove_data_dir)
    if settings.stay_addr is not None:
        from mirror.cleanup.stay import stay  # aiohttp

        asyncio.run(stay(settings.stay_addr, click.echo))
    return 0


def _remove_data(data_dir: Path) -> None:
    was_there = data_dir.exists()
    removal = remove(data_dir)
    if removal.foreign:
        names = ", ".join(removal.foreign)
        print_warnings((f"{data_dir} stays: what is in it is not of peili: {names}",))
    elif not removal.is_gone:
        click.echo(f"{'emptied':<9}  {data_dir}")
    elif was_there:
        click.echo(f"{'removed':<9}  {data_dir}")


cleanup = command(
    Command.CLEANUP,
    "Undoes configure: restores the files that it changed, byte for byte, and removes those that it made. "
    "What was written by hand since then stays.",
    run,
)
