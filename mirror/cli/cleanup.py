"""`peili cleanup`: the hosts directory as it was before `peili configure`."""

from __future__ import annotations

import os

import click

from containerd.hosts.cleanup import cleanup as restore_hosts
from mirror.cli.configure import print_report
from mirror.cli.options import command, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.table import Command


def run(flags: Flags) -> int:
    """Raises: SettingsError, HostsError."""
    values = load.read(Command.CLEANUP, flags, os.environ)
    resolved = resolve.cleanup(values, machine.surroundings())
    print_warnings(resolved.warnings)
    hosts_dir = resolved.settings.hosts_dir
    report = restore_hosts(hosts_dir)
    print_report(report)
    if not report.changes:
        click.echo(f"nothing of peili is in {hosts_dir}")
    return 0


cleanup = command(
    Command.CLEANUP,
    "Undoes configure: restores the files that it changed, byte for byte, and removes those that it made. "
    "What was written by hand since then stays.",
    run,
)
