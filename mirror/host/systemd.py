"""Starts and stops a unit with systemd, and says why where it does not come up. Writes no unit file and removes none.

Source: systemctl(1); what it says of a unit, org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mirror import child_process
from mirror.host.errors import HostError
from mirror.host.unit import START_TIMEOUT_S, STOP_TIMEOUT_S, UNIT_NAME

RUNTIME_DIR = Path("/run/systemd/system")
# Reading all unit files anew takes a second on a large host, and more on one that is just booting.
COMMAND_TIMEOUT_S = 60
# systemd itself ends a start or a stop that takes too long, and says so; this is for a systemd that says nothing.
MARGIN_S = 15
# What a daemon says before it ends fits in; a traceback's last lines do, too.
LOG_LINES_COUNT = 12
_VERSION = re.compile(r"^systemd (\d+)")
_SHOWN = (
    *("LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "UnitFileState"),
    *("FragmentPath", "DropInPaths", "ExecMainStartTimestampMonotonic"),
)
_RUNS = ("active", "reloading")
_ENDED = ("inactive", "failed")


class Started(StrEnum):
    """What `start` had to do."""

    STARTED = "started"
    RESTARTED = "restarted"
    RUNS_ALREADY = "runs already"


@dataclass(frozen=True, slots=True)
class _Done:
    exit_code: int
    output: str
    complaint: str


def is_here(runtime_dir: Path = RUNTIME_DIR) -> bool:
    """Whether systemd is PID 1 of this host, as sd_booted(3) tells it."""
    return runtime_dir.is_dir()


def version() -> int:
    """0 where it does not say. Blocks for some milliseconds: nothing of the host is asked for."""
    try:
        told = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = _VERSION.match(told.stdout)
    return int(found[1]) if found else 0


async def start(unit: str = UNIT_NAME, *, restart: bool = False) -> Started:
    """Reads unit files anew, has the unit start at boot and now, and waits until it is active: for a Type=notify unit,
    until it has said so. One that runs is restarted where its file has changed since it was started, or where `restart`
    says so (the program has changed). Idempotent. What does not start is left as it is: enabled, and tried again by
    systemd. Raises: HostError with the end of its log."""
    await _checked("daemon-reload")
    facts = await _facts(unit)
    if facts["LoadState"] == "masked":
        raise HostError(f"{unit} is masked on this host; allow it with: systemctl unmask {unit}")
    if facts["LoadState"] != "loaded":
        raise HostError(
            f"systemd cannot load {unit} ({facts['LoadState']}); look at: systemctl status {unit}"
        )
    await _checked("enable", unit)
    if facts["ActiveState"] in _RUNS:
        if not restart and not await asyncio.to_thread(_is_outdated, facts):
            return Started.RUNS_ALREADY
        verb, limit_s, done = "restart", STOP_TIMEOUT_S + START_TIMEOUT_S + MARGIN_S, Started.RESTARTED
    else:
        # Earlier failures shall not count. There may be none.
        await _systemctl("reset-failed", unit)
        verb, limit_s, done = "start", START_TIMEOUT_S + MARGIN_S, Started.STARTED
    outcome = await _systemctl(verb, unit, limit_s=limit_s)
    facts = await _facts(unit)
    if outcome.exit_code == 0 and facts["ActiveState"] in _RUNS:
        return done
    raise HostError(
        f"{unit} does not run: {facts['ActiveState']} ({facts['SubState']}), {facts['Result']}, exit status "
        f"{facts['ExecMainStatus']}; mend what its log says and run this again. The end of journalctl -u {unit}:\n"
        f"{await _log_end(unit)}"
    )


async def stop(unit: str = UNIT_NAME) -> None:
    """Ends it, waits for its drain, and has it not start at boot. To be called before the unit file is taken away;
    idempotent, also where there is none. Raises: HostError."""
    facts = await _facts(unit)
    if facts["ActiveState"] not in _ENDED:
        outcome = await _systemctl("stop", unit, limit_s=STOP_TIMEOUT_S + MARGIN_S)
        facts = await _facts(unit)
        if facts["ActiveState"] not in _ENDED:
            raise HostError(
                f"{unit} does not end: {facts['ActiveState']} ({facts['SubState']}) {outcome.complaint}; "
                f"end it with: systemctl kill --signal=KILL {unit}. Its log:\n{await _log_end(unit)}"
            )
    if facts["LoadState"] != "not-found":
        await _checked("disable", unit)
    await forget(unit)


async def forget(unit: str = UNIT_NAME) -> None:
    """After the unit file is taken away: systemd knows nothing of it any more. Idempotent. Raises: HostError."""
    await _checked("daemon-reload")
    # That it never failed is no failure.
    await _systemctl("reset-failed", unit)


def _is_outdated(facts: dict[str, str]) -> bool:
    """Whether a file of the unit was written after the process was started. systemd's own word, NeedDaemonReload=, is
    lost with the next daemon-reload of anybody."""
    started_us = int(facts["ExecMainStartTimestampMonotonic"] or 0)
    started_at = time.time() - (time.monotonic() - started_us / 1_000_000)
    # One that cannot be read any more has changed, too.
    for name in [facts["FragmentPath"], *facts["DropInPaths"].split()]:
        try:
            if Path(name).stat().st_mtime > started_at:
                return True
        except OSError:
            return True
    return False


async def _facts(unit: str) -> dict[str, str]:
    """By name, each of `_SHOWN`; empty what this systemd does not know."""
    output = await _checked("show", f"--property={','.join(_SHOWN)}", unit)
    told = dict(line.partition("=")[::2] for line in output.splitlines())
    return {name: told.get(name, "") for name in _SHOWN}


async def _log_end(unit: str) -> str:
    try:
        done = await _run("journalctl", f"--unit={unit}", f"--lines={LOG_LINES_COUNT}", "--output=cat")
    except HostError as exc:
        return str(exc)
    return done.output.strip() or done.complaint or "(no line)"


async def _checked(*words: str) -> str:
    done = await _systemctl(*words)
    if done.exit_code != 0:
        hint = "" if os.geteuid() == 0 else "; run it as root"
        raise HostError(f"systemctl {' '.join(words)} failed: {done.complaint or done.exit_code}{hint}")
    return done.output


async def _systemctl(*words: str, limit_s: float | None = None) -> _Done:
    return await _run("systemctl", "--no-ask-password", *words, limit_s=limit_s)


async def _run(*command: str, limit_s: float | None = None) -> _Done:
    limit_s = COMMAND_TIMEOUT_S if limit_s is None else limit_s
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Words that are the same everywhere, and no pager.
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
    except OSError as exc:
        raise HostError(
            f"{command[0]} cannot be run: {exc.strerror or exc}; it belongs to systemd, which runs this host"
        ) from exc
    try:
        async with asyncio.timeout(limit_s):
            output, complaint = await process.communicate()
    except TimeoutError:
        raise HostError(
            f"{' '.join(command)} has not ended after {limit_s:g} s; look at: systemctl list-jobs"
        ) from None
    finally:
        await child_process.kill(process)
    # communicate() has returned, so it has ended.
    assert process.returncode is not None
    return _Done(
        process.returncode, output.decode(errors="replace"), complaint.decode(errors="replace").strip()
    )
