"""`peili cleanup-wait`: what a hook of Kubernetes runs, so that an uninstall ends when all hosts are clean."""

from __future__ import annotations

import asyncio
import os

import click

from mirror.cli.options import command, print_warnings
from mirror.settings import load, resolve
from mirror.settings.load import Flags
from mirror.settings.setting import Command


def run(flags: Flags) -> int:
    """Raises: SettingsError, NotClean."""
    resolved = resolve.cleanup_wait(load.read(Command.CLEANUP_WAIT, flags, os.environ))
    print_warnings(resolved.warnings)
    from mirror.cleanup.waiting import wait  # aiohttp

    settings = resolved.settings
    count = asyncio.run(wait(settings.wait_for, settings.give_up_after_s, click.echo))
    click.echo("the host is clean" if count == 1 else f"all {count} hosts are clean")
    return 0


cleanup_wait = command(
    Command.CLEANUP_WAIT,
    "Waits until peili cleanup --stay-addr has said on every host that it is done. The list of hosts is a DNS name's; "
    "it must stay the same for half a minute, since name servers cache it.",
    run,
)
