"""Whether a disk has room for more of ours, so that we are never what fills it. Calls block, for microseconds.

Counts as kubelet does, which begins to throw images away at 85 % (imageGCHighThresholdPercent): what the file system
keeps for root is used, and the percentage is rounded up, so that "85" begins above 84 %.
Source: Kubernetes, pkg/kubelet/images/image_gc_manager.go.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# The most that kubelet still takes for less than 85 %: never be what takes a disk there.
DISK_FULL_RATIO = 0.84


@dataclass(frozen=True, slots=True)
class DiskRoom:
    """`free_bytes`: for those who are not root."""

    capacity_bytes: int
    free_bytes: int

    @staticmethod
    def of(folder: Path) -> DiskRoom:
        """Raises: OSError."""
        disk = os.statvfs(folder)
        return DiskRoom(disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize)

    def excess_bytes(self, wanted_bytes: int, full_ratio: float = DISK_FULL_RATIO) -> int:
        """How much must go before `wanted_bytes` more leave the disk at most that full; 0: they have room."""
        used_bytes = self.capacity_bytes - self.free_bytes
        return max(0, used_bytes + wanted_bytes - int(self.capacity_bytes * full_ratio))
