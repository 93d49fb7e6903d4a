"""What a run of the demo is told, and whether it can end in time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.demo.units import bytes_text, rate_text
from mirror.errors import SettingsError

HOSTS_DEFAULT_COUNT = 5
# One host has nobody to share with.
HOSTS_MIN_COUNT = 2
# A daemon takes half a second of CPU time to start, and the table must fit on a screen of 24 lines.
HOSTS_MAX_COUNT = 10
# With five hosts and the link below: 13 s without Peili and 3 s with it.
IMAGE_DEFAULT_BYTES = 32 * 2**20
IMAGE_MIN_BYTES = 2**20
# The origin keeps the image in memory, and every host keeps a copy on the disk.
IMAGE_MAX_BYTES = 2**30
# 100 Mbit/s, as good as.
LINK_DEFAULT_BYTES_PER_S = 12 * 2**20
LINK_MIN_BYTES_PER_S = 64 * 2**10
# The demo promises to end within a minute. What is stopped at the deadline still needs CLEAN_UP_MAX_S.
DEADLINE_S = 55.0
CLEAN_UP_MAX_S = 4.0
# Of the deadline, what the link alone may need. The rest is for starting the daemons and for the pulls from peers.
LINK_TIME_MAX_S = 40.0


@dataclass(frozen=True, slots=True)
class DemoPlan:
    hosts_count: int
    image_bytes: int
    link_bytes_per_s: int

    def __post_init__(self) -> None:
        """Raises: SettingsError."""
        if not HOSTS_MIN_COUNT <= self.hosts_count <= HOSTS_MAX_COUNT:
            raise SettingsError(
                "--hosts",
                f"{self.hosts_count} is out of range: expected {HOSTS_MIN_COUNT} to {HOSTS_MAX_COUNT}",
            )
        if not IMAGE_MIN_BYTES <= self.image_bytes <= IMAGE_MAX_BYTES:
            raise SettingsError(
                "--image-size",
                f"{bytes_text(self.image_bytes)} is out of range: expected {bytes_text(IMAGE_MIN_BYTES)} to "
                f"{bytes_text(IMAGE_MAX_BYTES)}",
            )
        if self.link_bytes_per_s < LINK_MIN_BYTES_PER_S:
            raise SettingsError(
                "--link-rate",
                f"{rate_text(self.link_bytes_per_s)} is too slow: expected {rate_text(LINK_MIN_BYTES_PER_S)} or more",
            )
        if self.link_time_s > LINK_TIME_MAX_S:
            raise SettingsError(
                "--image-size",
                f"{self.hosts_count + 1} copies of {bytes_text(self.image_bytes)} need {self.link_time_s:.0f} s on a "
                f"link of {rate_text(self.link_bytes_per_s)}, and the demo ends within a minute: choose a smaller "
                f"image, fewer --hosts or a faster --link-rate",
            )

    @property
    def link_time_s(self) -> float:
        """One copy for every host without Peili, one for all with it."""
        return (self.hosts_count + 1) * self.image_bytes / self.link_bytes_per_s

    @property
    def disk_bytes(self) -> int:
        """What the hosts' stores take up at the end, and their spools at most meanwhile."""
        return 2 * self.hosts_count * self.image_bytes
