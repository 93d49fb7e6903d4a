"""What is known of this host's side of the swarm: whether anybody has more, and how far the bytes reach. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.steer.commands import StartSwarm, StopSwarm
from mirror.steer.events import SourceProgress
from mirror.steer.flow import Flow
from mirror.steer.pace import Pace
from mirror.steer.timers import COMING_S

# Nodes that were handed to the swarm, so that a new one is told from an old; the swarm itself keeps fewer.
NAMED_MAX_COUNT = 256


class Sources:
    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.prefix_bytes = 0
        # What was told of to the flow; also of what is not asked for any more, so that it is not told twice.
        self._reached_bytes = 0
        # When that was last more.
        self._reached_at: float | None = None
        self._forget()

    def _forget(self) -> None:
        self.is_started = False
        self._wait_anew()
        # Somebody has more than this host, as far as is known.
        self.is_any = False
        self.frontier_bytes = self.prefix_bytes
        self.size_bytes: int | None = None
        self.is_rooted = False
        self._named: set[bytes] = set()

    def _wait_anew(self) -> None:
        # Of all that this host waits for, since it waits for this.
        self.pace = Pace()
        self._flow_from_bytes = self._flow.reached_bytes

    def start(self, nodes: Iterable[bytes], *, has_own_bytes: bool = False) -> list[StartSwarm]:
        """Nodes that failed are offered again, but only a new one is hope."""
        named = tuple(dict.fromkeys(nodes))
        new = [node for node in named if node not in self._named]
        if len(self._named) + len(new) <= NAMED_MAX_COUNT:
            self._named.update(new)
        is_retry = bool(named) and not self.is_any
        is_wanted = bool(new) or is_retry or (has_own_bytes and not self.is_started)
        if new or has_own_bytes:
            self.is_any = True
        if not is_wanted:
            return []
        self.is_started = True
        return [StartSwarm(named)]

    def progressed(self, event: SourceProgress, now: float) -> bool:
        """Whether bytes came in order. A chain that ends at this host has nothing that this host has not."""
        has_grown = event.prefix_bytes > self.prefix_bytes
        self.prefix_bytes = event.prefix_bytes
        self.frontier_bytes = max(event.prefix_bytes, event.frontier_bytes)
        self.size_bytes = event.size_bytes if event.size_bytes is not None else self.size_bytes
        self.is_rooted = event.is_rooted
        self.is_any = event.is_rooted or self.frontier_bytes > self.prefix_bytes
        reached_bytes = max(event.reached_bytes, self.frontier_bytes)
        if reached_bytes > self._reached_bytes:
            self._flow.reached(reached_bytes - self._reached_bytes)
            self._reached_at = now
        self._reached_bytes = reached_bytes
        self.look(now)
        return has_grown

    @property
    def left_bytes(self) -> int | None:
        """Behind the frontier; None: not known."""
        return None if self.size_bytes is None else max(0, self.size_bytes - self.frontier_bytes)

    def look(self, now: float) -> None:
        """How much came of all."""
        self.pace.seen(self._flow.reached_bytes - self._flow_from_bytes, now)

    def gone(self) -> None:
        self.is_any = self.is_rooted = False
        self.frontier_bytes = self.prefix_bytes

    def is_coming(self, now: float) -> bool:
        """Another host is heard to get more of it from the origin, or gives it whole."""
        return self.is_rooted and self._reached_at is not None and now - self._reached_at < COMING_S

    def stop(self) -> list[StopSwarm]:
        """Nobody waits. What is in hand stays until it is said to be dropped: a pull that is cancelled and tried again
        is fed it. What is fetched ahead of any request was not started here: all that was told of it stays true."""
        if not self.is_started:
            self._wait_anew()
            return []
        self._forget()
        return [StopSwarm()]
