"""One program of a test bed: in a network namespace if asked, ended with the test run whatever happens to it.

It knows nothing of what it starts. Peili's own containerd wrapper (`real_containerd`) does not need it.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

# How long a program has to say that it is ready; a loaded two-core machine needs several seconds.
READY_TIMEOUT_S: Final = 30.0
# SIGTERM is obeyed in well under a second; what does not gets SIGKILL.
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02


class BedProcessError(Exception):
    """The program ended or did not say what was waited for; the message holds the end of its log."""


class BedProcess:
    """Start it from the main thread: the kernel ends the program with the thread that started it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log_path: Path,
        *,
        netns: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """environment is added to PATH, HOME and LANG; nothing else of the machine's is passed on."""
        self.command = list(command)
        self.log_path = log_path
        self.netns = netns
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.command[0]} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        assert not self.running, f"{self.command[0]} runs already"
        prefix: list[str | Path] = ["setpriv", "--pdeathsig", "KILL"]
        if self.netns is not None:
            # `ip netns exec` would remount /sys and hide the cgroups.
            prefix += ["nsenter", f"--net=/run/netns/{self.netns}"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._process = subprocess.Popen(
                [*prefix, *self.command],
                env=kept | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def said(self, pattern: str) -> re.Match[str]:
        """The first match in what this start has logged. Raises: BedProcessError."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (found := re.search(pattern, self.log())) is None:
            if not self.running:
                raise BedProcessError(
                    f"{self.command[0]} ended before it said {pattern!r}\n{self._log_end()}"
                )
            if time.monotonic() > deadline:
                raise BedProcessError(f"{self.command[0]} did not say {pattern!r}\n{self._log_end()}")
            await asyncio.sleep(_POLL_S)
        return found

    def log(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")

    async def stop(self) -> int | None:
        """SIGTERM, then SIGKILL; the exit code. Idempotent."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL, as a crash would be. Idempotent."""
        await self._end(signal.SIGKILL)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _end(self, number: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(_POLL_S)
        return process.returncode

    def _log_end(self) -> str:
        return "\n".join(self.log().splitlines()[-15:])
