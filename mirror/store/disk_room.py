"""Whether a disk has room for more of ours, so that we are never what fills it. Calls block, for microseconds."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Kubelet begins to throw images away at 85 % (imageGCHighThresholdPercent): never be what takes a disk there.
DISK_FULL_RATIO = 0.85


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """`usable_bytes` leaves out what the file system keeps for root, as `df` does."""

    used_bytes: int
    usable_bytes: int

    @staticmethod
    def of(folder: Path) -> DiskRoom:
        """Raises: OSError."""
        disk = os.statvfs(folder)
        used_bytes = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        return DiskRoom(used_bytes, used_bytes + disk.f_bavail * disk.f_frsize)

    def excess_bytes(self, wanted_bytes: int, full_ratio: float = DISK_FULL_RATIO) -> int:
        """How much must go before `wanted_bytes` more leave the disk below the ratio; 0: they have room."""
        return max(0, self.used_bytes + wanted_bytes - int(self.usable_bytes * full_ratio))
