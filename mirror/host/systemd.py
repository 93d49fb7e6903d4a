"""Starts and stops a unit with systemd, and says why where it does not come up. Writes no unit file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from mirror.host.unit import UNIT_NAME

RUNTIME_DIR = Path("/run/systemd/system")


class Started(StrEnum):
    """What `start` had to do."""

    STARTED = "started"
    RESTARTED = "restarted"
    RUNS_ALREADY = "runs already"


def is_here(runtime_dir: Path = RUNTIME_DIR) -> bool:
    """Whether systemd is PID 1 of this host, as sd_booted(3) tells it."""
    return runtime_dir.is_dir()


async def start(unit: str = UNIT_NAME, *, restart: bool = False) -> Started:
    """Reads unit files anew, has the unit start at boot and now, and waits until it is active. A unit that runs is
    restarted where its file has changed since it was started, or where `restart` says so (the program has changed).
    Idempotent. Raises: HostError with the end of its log."""
    raise NotImplementedError


async def stop(unit: str = UNIT_NAME) -> None:
    """Ends it, waits for its drain, and has it not start at boot. To be called before the unit file is taken away;
    idempotent, also where there is none. Raises: HostError."""
    raise NotImplementedError


async def forget(unit: str = UNIT_NAME) -> None:
    """After the unit file is taken away: systemd knows nothing of it any more. Idempotent. Raises: HostError."""
    raise NotImplementedError
