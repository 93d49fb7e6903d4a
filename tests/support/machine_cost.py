"""What a stretch of time cost this machine: idle CPU over all, CPU and memory of single processes, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuClock:
    """The whole machine's clock ticks since it started. Waiting for a disk counts as idle."""

    idle_ticks: int
    all_ticks: int

    @classmethod
    def now(cls) -> Self:
        line = Path("/proc/stat").read_text().splitlines()[0]
        # user nice system idle iowait irq softirq steal; guest time, behind these, is in user already.
        ticks = [int(text) for text in line.split()[1:9]]
        return cls(ticks[3] + ticks[4], sum(ticks))

    def idle_percent_since(self, earlier: CpuClock) -> float:
        return 100.0 * (self.idle_ticks - earlier.idle_ticks) / max(1, self.all_ticks - earlier.all_ticks)


def cpu_s(pid: int) -> float:
    """User and system seconds of a process so far, all its threads."""
    # The name, in parentheses, may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def rss_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """Since the process started."""
    return _status_bytes(pid, "VmHWM")


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
