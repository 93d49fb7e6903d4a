"""The processes of the demo: started together, ended together, whatever happens to the one that started them.

How they end: SIGTERM, after `STOP_GRACE_S` SIGKILL. Where this process itself is killed and can no longer do that, the
kernel sends them SIGKILL (PR_SET_PDEATHSIG, set between fork and exec). They lead sessions of their own, so that Ctrl-C
in the terminal reaches this process alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import mirror
from mirror.demo.errors import DemoFailed
from mirror.demo.plan import CLEAN_UP_MAX_S
from mirror.settings.setting import ENVIRONMENT_PREFIX
from mirror.store.disk_work import run_to_the_end

# A daemon without open answers stops in a tenth of this.
STOP_GRACE_S = CLEAN_UP_MAX_S - 1.0
# Of a log, for an error message.
LOG_TAIL_BYTES = 4096

_PR_SET_PDEATHSIG = 1
# Looked up before the fork: a child between fork and exec must not load libraries.
_prctl = ctypes.CDLL(None).prctl


class Child:
    def __init__(self, name: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.name = name
        self.process = process
        self._log_path = log_path

    def check(self) -> None:
        """Raises: DemoFailed where it has ended, with the last line of its log."""
        code = self.process.poll()
        if code is not None:
            raise DemoFailed(f"{self.name} ended with code {code}: {self._last_words()}")

    def _last_words(self) -> str:
        with self._log_path.open("rb") as log:
            log.seek(max(0, self._log_path.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")


class Children:
    """An async context manager: on leaving it, none of them is left. Enter it in the main thread: the kernel ends the
    children with the thread that started them."""

    def __init__(self, log_folder: Path) -> None:
        self._log_folder = log_folder
        self._children: list[Child] = []

    def start(self, name: str, module_and_arguments: Sequence[str]) -> Child:
        """`python -m`, with this process's interpreter and code. Raises: DemoFailed."""
        log_path = self._log_folder / f"{name.replace(' ', '-')}.log"
        # -P: a folder called `mirror` below the working directory is not ours.
        command = [sys.executable, "-P", "-m", *module_and_arguments]
        with log_path.open("wb") as log:
            try:
                process = subprocess.Popen(
                    command,
                    env=environment(os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=_dies_with(os.getpid()),
                )
            except (OSError, subprocess.SubprocessError) as exc:
                raise DemoFailed(f"{name} could not be started: {exc}") from exc
        child = Child(name, process, log_path)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raises: DemoFailed where one has ended."""
        for child in self._children:
            child.check()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await run_to_the_end(_end, [child.process for child in self._children])


def environment(of_this_process: Mapping[str, str]) -> dict[str, str]:
    """For a child: without settings that are meant for a real daemon, and with the place of this code."""
    kept = {name: value for name, value in of_this_process.items() if not name.startswith(ENVIRONMENT_PREFIX)}
    assert mirror.__file__ is not None
    root = Path(mirror.__file__).parents[1]
    if root.name not in ("site-packages", "dist-packages"):
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), kept.get("PYTHONPATH"))))
    return kept


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_GRACE_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _dies_with(parent_pid: int) -> Callable[[], None]:
    def set_death_signal() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            # It died before the line above.
            os._exit(1)

    return set_death_signal
