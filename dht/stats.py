"""What a node counts about itself. Keeps numbers; shows them to nobody."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

# Round trips: a loopback's, a rack's, a region's, a lost datagram's.
RTT_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
HOPS_BOUNDS = (1, 2, 3, 4, 6, 8)
# Before the reason why a beacon was not acted on.
BEACON: Final = "beacon_"


@dataclass(slots=True)
class Histogram:
    """`counts[n]` observations were at most `bounds[n]`, the last one counts the rest. Not cumulative."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.sum += value
        for index, bound in enumerate(self.bounds):
            if value <= bound:
                self.counts[index] += 1
                return
        self.counts[-1] += 1


@dataclass(slots=True)
class Stats:
    """`rpcs_sent` and `rpcs_received` count by (rpc, outcome); `drops` by reason, `lookups` by outcome, `claims` by
    (verb, outcome)."""

    rpcs_sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    rpcs_received: Counter[tuple[str, str]] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    lookups: Counter[str] = field(default_factory=Counter)
    claims: Counter[tuple[str, str]] = field(default_factory=Counter)
    conflicts: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    rtt_s: Histogram = field(default_factory=lambda: Histogram(RTT_BOUNDS_S))
    hops: Histogram = field(default_factory=lambda: Histogram(HOPS_BOUNDS))

    def dropped(self, reason: str) -> int:
        """Datagrams for this node and beacons for all together."""
        return self.drops[reason] + self.drops[BEACON + reason]
