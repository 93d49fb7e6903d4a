"""What settings amount to for any command, on a plain machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirror.settings import resolve
from mirror.settings.load import Values
from mirror.settings.resolve import Surroundings
from mirror.settings.setting import Command

AROUND = Surroundings(working_dir=Path("/"), has_ipv6=True, is_terminal=False)
DATA_DIR = Path("/data")


def settled(command: Command, values: Values) -> resolve.Resolved[Any]:
    """Raises: SettingsError."""
    match command:
        case Command.UP | Command.SERVE:
            return resolve.serve(values, AROUND, DATA_DIR)
        case Command.DOWN:
            return resolve.down(values, AROUND, DATA_DIR)
        case Command.CONFIGURE:
            return resolve.configure(values, AROUND)
        case Command.CLEANUP:
            return resolve.cleanup(values, AROUND)
        case Command.CLEANUP_WAIT:
            return resolve.cleanup_wait(values)
        case Command.STATUS | Command.PEERS | Command.IMAGES:
            return resolve.asking(values)
        case Command.DOCTOR:
            return resolve.doctor(values, AROUND)
        case Command.IMPORT | Command.EXPORT:
            return resolve.archive(values, AROUND)
