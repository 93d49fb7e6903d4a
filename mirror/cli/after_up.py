"""What commands that speak with this host's daemon take for granted where `peili up` started it: what it was given."""

from __future__ import annotations

import os

from mirror.host import ledger
from mirror.host.handing_on import remembered
from mirror.host.ledger import LedgerDamaged
from mirror.settings import load, machine
from mirror.settings.load import Flags
from mirror.settings.setting import Command


def with_what_up_found(command: Command, flags: Flags) -> Flags:
    """`flags` and variables win. As it stands where up has not run, or only root may read what it wrote."""
    try:
        known = ledger.load(machine.DEFAULT_DATA_DIR)
    except LedgerDamaged:
        return flags
    if known is None:
        return flags
    given = load.given(command, flags, os.environ)
    return {**flags, **remembered(command, known.flags, given)}
