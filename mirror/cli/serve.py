"""`peili serve`: settles the settings, sets up the log, and hands over to the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
from pathlib import Path

from mirror.cli.options import command
from mirror.log import configure_logging
from mirror.settings import load, machine, resolve, table
from mirror.settings.load import Flags
from mirror.settings.setting import Command
from mirror.version import VERSION

log = logging.getLogger(__name__)


def run(flags: Flags) -> int:
    """Returns when the daemon was told to stop. Raises: MirrorError where it cannot start."""
    values = load.read(Command.SERVE, flags, os.environ)
    with contextlib.ExitStack() as stack:
        data_dir = machine.DEFAULT_DATA_DIR
        is_temporary = not values.is_given(table.DATA_DIR) and not machine.can_use(data_dir)
        if is_temporary:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peili-")))
        resolved = resolve.serve(values, machine.surroundings(), data_dir)
        settings = resolved.settings
        configure_logging(settings.log_level, settings.log_format)
        for warning in (*resolved.warnings, *machine.check_serve(settings)):
            log.warning(warning)
        log.info("settings", extra={"version": VERSION, **resolve.described(settings)})
        if is_temporary:
            log.info("the data directory is temporary: this node starts anew each time; --data-dir keeps one")

        from mirror import daemon  # aiohttp and grpc: not for a command line that is wrong

        # An interrupt that the daemon did not get to handle is an order to stop, like the one it handles.
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(daemon.run(settings))
    return 0


serve = command(
    Command.SERVE,
    "The daemon: gives what this host's containerd (or a directory) holds to every other host, and gets from "
    "them what containerd asks for.",
    run,
)
