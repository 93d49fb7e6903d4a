"""Links of simulated hosts: bytes take turns in segments, at both ends. Refuses to know what is transferred.

An uplink sends one segment of each transfer in turn; a downlink takes segments in the order in which their sending
began. A transfer has at most `window_bytes` under way, as a connection has buffers: so a full
downlink slows its senders down, and their uplinks serve others. Both ends are thus shared about fairly. A segment that
is lost comes late, and all behind it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.sim_clock import Clock

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """`loss_per_mib`: how often a MiB is late by `late_s`: Linux waits 200 ms at least before it repeats what was not
    acknowledged."""

    window_bytes: int = 4 * MIB
    loss_per_mib: float = 0.001
    late_s: float = 0.2


class Downlink:
    __slots__ = ("bytes_per_s", "free_at")

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.free_at = 0.0


class Transfer:
    """`came` is called with all bytes that are there whenever there are more."""

    __slots__ = (
        "_last_at",
        "came",
        "came_bytes",
        "down",
        "is_blocked",
        "is_over",
        "latency_s",
        "segment_bytes",
        "sent_bytes",
        "size_bytes",
        "up",
    )

    def __init__(
        self,
        up: Uplink,
        down: Downlink,
        size_bytes: int,
        segment_bytes: int,
        latency_s: float,
        came: Callable[[int], object],
    ) -> None:
        self.up = up
        self.down = down
        self.size_bytes = size_bytes
        self.segment_bytes = segment_bytes
        self.latency_s = latency_s
        self.came = came
        self.sent_bytes = 0
        self.came_bytes = 0
        self.is_over = False
        self.is_blocked = False
        self._last_at = 0.0

    def end(self) -> None:
        """Nothing more is sent, and nothing of what is under way is heard of."""
        self.is_over = True

    def in_order(self, at: float) -> float:
        self._last_at = max(self._last_at, at)
        return self._last_at

    def arrived(self, segment_bytes: int) -> None:
        self.came_bytes += segment_bytes
        if self.is_over:
            return
        if self.is_blocked:
            self.is_blocked = False
            self.up.again(self)
        if self.came_bytes >= self.size_bytes:
            self.is_over = True
        self.came(self.came_bytes)


class Uplink:
    def __init__(self, clock: Clock, bytes_per_s: float, plan: LinkPlan, rng: random.Random) -> None:
        self.bytes_per_s = bytes_per_s
        self.sent_bytes = 0
        self.busy_s = 0.0
        self._clock = clock
        self._plan = plan
        self._random = rng.random
        self._turns: deque[Transfer] = deque()
        self._is_sending = False

    def send(self, transfer: Transfer) -> None:
        self._turns.append(transfer)
        if not self._is_sending:
            self._next()

    def again(self, transfer: Transfer) -> None:
        """It has room for another segment."""
        if transfer.sent_bytes < transfer.size_bytes:
            self.send(transfer)

    def _next(self) -> None:
        turns = self._turns
        while turns:
            transfer = turns.popleft()
            size_bytes = min(transfer.segment_bytes, transfer.size_bytes - transfer.sent_bytes)
            if transfer.is_over or size_bytes <= 0:
                continue
            now = self._clock.now
            down = transfer.down
            ends_at = now + size_bytes / self.bytes_per_s
            taken_at = max(down.free_at, now) + size_bytes / down.bytes_per_s
            down.free_at = taken_at
            comes_at = max(ends_at, taken_at) + transfer.latency_s
            if self._random() < self._plan.loss_per_mib * size_bytes / MIB:
                comes_at += self._plan.late_s
            transfer.sent_bytes += size_bytes
            self.sent_bytes += size_bytes
            self.busy_s += ends_at - now
            self._is_sending = True
            self._clock.at(transfer.in_order(comes_at), transfer.arrived, size_bytes)
            self._clock.at(ends_at, self._sent, transfer)
            return
        self._is_sending = False

    def _sent(self, transfer: Transfer) -> None:
        if not transfer.is_over and transfer.sent_bytes < transfer.size_bytes:
            if transfer.sent_bytes - transfer.came_bytes < self._plan.window_bytes:
                self._turns.append(transfer)
            else:
                transfer.is_blocked = True
        self._next()
