"""How far the pulls of one phase are: written by the clients, read by whoever draws them. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class HostProgress:
    """One host's pull. `total_bytes` is 0 until the manifest has been read. Moments are monotonic seconds."""

    name: str
    total_bytes: int = 0
    origin_bytes: int = 0
    peer_bytes: int = 0
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def is_done(self) -> bool:
        return self.ended_at is not None

    @property
    def done_bytes(self) -> int:
        return self.origin_bytes + self.peer_bytes

    def share(self, count_bytes: int) -> float:
        """Of the whole image, 0 to 1."""
        return min(1.0, count_bytes / self.total_bytes) if self.total_bytes else 0.0

    def seconds(self, now: float) -> float | None:
        """None: it has not begun."""
        if self.started_at is None:
            return None
        return (now if self.ended_at is None else self.ended_at) - self.started_at


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """Hosts in order of their number."""

    title: str
    hosts: tuple[HostProgress, ...] = field(default_factory=tuple)

    @staticmethod
    def of(title: str, hosts_count: int) -> PhaseProgress:
        return PhaseProgress(
            title, tuple(HostProgress(f"host {number}") for number in range(1, hosts_count + 1))
        )

    @property
    def done_bytes(self) -> int:
        return sum(host.done_bytes for host in self.hosts)

    @property
    def total_bytes(self) -> int:
        """Of the hosts that have read the manifest."""
        return sum(host.total_bytes for host in self.hosts)
