"""A cgroup with a memory limit for one process of a bed, and what it used: the page cache of its files included.

Version 1 and version 2, whichever the machine has. Needs root. Refuses to count what other groups are charged for: a
page belongs to whoever touched it first.
Source: Linux, Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.missing import NO_CGROUPS, Missing

_V1: Final = Path("/sys/fs/cgroup/memory")
_V2: Final = Path("/sys/fs/cgroup")
# Often enough for a pull of seconds; a reading takes some 0.1 ms.
SAMPLE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class MemoryPeak:
    """`all_bytes` as the kernel kept it; `anon_bytes` and `file_bytes` are the largest that were seen of each."""

    all_bytes: int
    anon_bytes: int
    file_bytes: int
    oom_kill_count: int


class MemoryGroup:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_v1 = (folder / "memory.limit_in_bytes").exists()
        self._anon_bytes = 0
        self._file_bytes = 0

    def limit(self, max_bytes: int) -> None:
        (self.folder / ("memory.limit_in_bytes" if self._is_v1 else "memory.max")).write_text(str(max_bytes))

    def entering(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The same command, in the group from its first page on."""
        script = 'echo $$ > "$0" && exec "$@"'
        return ["/bin/sh", "-c", script, self.folder / "cgroup.procs", *command]

    def sample(self) -> None:
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        anon, file = ("total_rss", "total_cache") if self._is_v1 else ("anon", "file")
        self._anon_bytes = max(self._anon_bytes, int(stat[anon]))
        self._file_bytes = max(self._file_bytes, int(stat[file]))

    def peak(self) -> MemoryPeak:
        self.sample()
        name, events = (
            ("memory.max_usage_in_bytes", "memory.oom_control")
            if self._is_v1
            else ("memory.peak", "memory.events")
        )
        counts = dict(line.split() for line in (self.folder / events).read_text().splitlines())
        all_bytes = int((self.folder / name).read_text())
        return MemoryPeak(all_bytes, self._anon_bytes, self._file_bytes, int(counts["oom_kill"]))


def groups_or_missing() -> Missing | None:
    """Whether a group can be limited here."""
    root = _root()
    if root is None or not os.access(root, os.W_OK):
        return Missing(
            NO_CGROUPS, "no memory controller that may be written to.", "run as root, outside a container."
        )
    return None


@contextmanager
def memory_group(name: str, max_bytes: int) -> Iterator[MemoryGroup]:
    """Whatever ran in it has ended when the block does. Raises: OSError."""
    root = _root()
    assert root is not None, "groups_or_missing was not asked"
    folder = root / f"peili-{os.getpid()}-{name}"
    folder.mkdir()
    try:
        group = MemoryGroup(folder)
        group.limit(max_bytes)
        yield group
    finally:
        with suppress(OSError):  # Empty, or a killed process is not gone yet: the next boot takes it.
            folder.rmdir()


@asynccontextmanager
async def watched(groups: Sequence[MemoryGroup]) -> AsyncIterator[list[MemoryPeak]]:
    """The list is filled when the block ends."""
    peaks: list[MemoryPeak] = []

    async def watch() -> None:
        while True:
            for group in groups:
                group.sample()
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.ensure_future(watch())
    try:
        yield peaks
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):  # What else ended it is told: peaks would be too low.
            await watching
        peaks += [group.peak() for group in groups]


def _root() -> Path | None:
    if (_V1 / "memory.limit_in_bytes").exists():
        return _V1
    controllers = _V2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text().split():
        return _V2
    return None
