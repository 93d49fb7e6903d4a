"""`peili down`: this host as it was before `peili up`, and nothing of peili left on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import click

from containerd.hosts.cleanup import cleanup as restore_hosts
from mirror.cleanup.data import LOCK_WAIT_S, Removal, remove
from mirror.cli.configure import print_report
from mirror.cli.options import command, print_warnings
from mirror.data_dir import LOCK_FILE, daemon_pid, is_owned
from mirror.host import ledger, systemd
from mirror.host.errors import HostError
from mirror.host.ledger import Ledger, Outcome
from mirror.settings import load, machine, resolve
from mirror.settings.load import Flags
from mirror.settings.setting import Command

_POLL_S = 0.1


def run(flags: Flags) -> int:
    """Raises: MirrorError, ContainerdError. Running it again goes on where it ended."""
    values = load.read(Command.DOWN, flags, os.environ)
    data_dir = resolve.down(values, machine.surroundings(), machine.DEFAULT_DATA_DIR).settings.data_dir
    if os.geteuid() != 0:
        raise HostError("peili down must be root to give back what peili up changed: sudo peili down")
    known = ledger.load(data_dir)
    if known is None and not _is_left_over(data_dir):
        click.echo(f"nothing to undo: peili up has not run here with the data directory {data_dir}")
        return 0
    with ledger.begun(data_dir):
        removal = _undo(data_dir, known or Ledger())
    if removal.foreign:
        names = ", ".join(removal.foreign)
        print_warnings((f"{data_dir} stays: what is in it is not of peili: {names}",))
    return 0


def _is_left_over(data_dir: Path) -> bool:
    """Of a down that was killed as it had all but ended, or of an up that was before the ledger was whole."""
    if not data_dir.is_dir():
        return False
    names = {path.name for path in data_dir.iterdir()}
    return LOCK_FILE in names and all(
        name.startswith(f".{ledger.LEDGER_FILE}.") for name in names - {LOCK_FILE}
    )


def _undo(data_dir: Path, known: Ledger) -> Removal:
    # First: from here on containerd asks no daemon that ends.
    _restore(known)
    if known.service is not None:
        asyncio.run(systemd.stop(known.service))
        click.echo(f"{'stopped':<9}  {known.service}")
    _end_daemon(data_dir)
    # The daemon may have been about to add a registry.
    _restore(known)
    was_changed = bool(known.files)
    for done in ledger.give_back(data_dir):
        click.echo(f"{done.outcome.value:<9}  {done.path}")
        if done.outcome is Outcome.KEPT:
            print_warnings(
                (f"{done.path} was edited after peili up, and stays: take out by hand what peili put in",)
            )
    if known.service is not None:
        asyncio.run(systemd.forget(known.service))
    removal = remove(data_dir, is_given_back=True)
    if removal.is_gone:
        click.echo(f"{'removed':<9}  {data_dir}")
    if was_changed and known.restart is not None:
        click.echo(f"containerd forgets its old configuration with its next restart: {known.restart}")
    return removal


def _restore(known: Ledger) -> None:
    for hosts_dir in known.hosts_dirs:
        print_report(restore_hosts(Path(hosts_dir)))


def _end_daemon(data_dir: Path) -> None:
    """One that was started by hand. Raises: HostError, DataDirTaken."""
    pid = daemon_pid(data_dir)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + LOCK_WAIT_S
    while is_owned(data_dir):
        if time.monotonic() > deadline_s:
            raise HostError(f"the daemon (process {pid}) does not end: kill it, then run peili down again")
        time.sleep(_POLL_S)
    click.echo(f"{'stopped':<9}  the daemon that ran as process {pid}")


down = command(
    Command.DOWN,
    "Undoes up: restores every file that it changed, byte for byte, stops and removes the service, and removes the "
    "data directory. What was edited by hand since then stays.",
    run,
)
