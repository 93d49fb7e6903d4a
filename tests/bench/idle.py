"""How much CPU the machine had left over: what a measurement's worth depends on."""

from __future__ import annotations

import time
from pathlib import Path


def idle_cpu_percent(over_s: float = 2.0) -> float:
    def read() -> tuple[int, int]:
        numbers = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
        return numbers[3] + numbers[4], sum(numbers)

    before = read()
    time.sleep(over_s)
    after = read()
    return 100.0 * (after[0] - before[0]) / max(1, after[1] - before[1])
