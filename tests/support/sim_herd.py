"""A simulated herd from its first request to its last commit, and what it took. Refuses to judge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.support.sim_download import Download
from tests.support.sim_world import Blob, HerdPlan, Host, World

# A herd that takes longer hangs: what did not end by then is counted.
LIMIT_FACTOR: Final = 30.0
LIMIT_MIN_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class HerdResult:
    """`over_bound`: of each host that ended, its time from its own request over the bound, in order.
    `unended_count`: hosts that live and did not end. `claimant_copies`: what those who read from the origin sent to
    peers. `datagrams_max_count`: of the busiest host, as a rule the arbiter. `wasted_share`: bytes that were cut off or
    came second, of the image. `counts`: what happened how often."""

    over_bound: tuple[float, ...]
    unended_count: int
    origin_copies: float
    claims_count: int
    claimant_copies: float
    datagrams_per_host: float
    datagrams_max_count: int
    messages_per_host: float
    requests_per_host: float
    wasted_share: float
    counts: dict[str, int]


class Herd:
    """`run` once."""

    def __init__(self, plan: HerdPlan, seed: int) -> None:
        self.plan = plan
        self.world = World(plan, seed)
        self._left_count = plan.hosts_count + plan.coming_count
        world, rng = self.world, self.world.rng
        for number in range(plan.standing_count):
            host = world.add(0.0)
            if number < plan.providers_count:
                self._provide(host)
        first = [world.add(0.0) for _ in range(plan.hosts_count)]
        for number, host in enumerate(first):
            start_s = number * plan.stagger_s + rng.uniform(0.0, plan.start_spread_s)
            world.clock.at(start_s, self._start, host)
        for _ in range(plan.coming_count):
            world.clock.at(rng.uniform(0.0, plan.coming_spread_s), self._come)
        for number, host in enumerate(rng.sample(first, plan.dying_count)):
            world.clock.at(rng.uniform(0.0, plan.bound_s), self._die, host, number % 2 == 0)
        if plan.claimant_dies_at is not None:
            world.clock.at(plan.claimant_dies_at * plan.bound_s, self._claimant_dies)

    def run(self) -> HerdResult:
        limit_s = max(LIMIT_MIN_S, LIMIT_FACTOR * self.plan.bound_s)
        self.world.clock.run(limit_s, lambda: self._left_count == 0)
        return self._result()

    # -- hosts -----------------------------------------------------------------------------------------------------

    def _provide(self, host: Host) -> None:
        """It has the image from before."""
        for blob in self.world.blobs:
            download = Download(self.world, host, blob, lambda: None)
            host.downloads[blob.key] = download
            download.ingest_grew(blob.size_bytes)
            download.pull.commit()
            self.world.arbiters.provide(host.member, blob.key)

    def _come(self) -> None:
        self._start(self.world.add(self.world.clock.now + self.plan.joining_s))

    def _start(self, host: Host) -> None:
        if not host.is_alive:
            return
        host.asked_at = self.world.clock.now
        waiting = list(self.world.blobs)
        running: set[bytes] = set()

        def next_ones() -> None:
            while waiting and len(running) < self.plan.parallel_count:
                self._pull(host, waiting.pop(0), running, next_ones)
            if not waiting and not running and host.ended_at is None:
                host.ended_at = self.world.clock.now
                self._left_count -= 1

        next_ones()

    def _pull(self, host: Host, blob: Blob, running: set[bytes], next_ones: Callable[[], None]) -> None:
        def ended() -> None:
            running.discard(blob.key)
            self.world.clock.after(0.0, next_ones)

        running.add(blob.key)
        download = Download(self.world, host, blob, ended)
        host.downloads[blob.key] = download
        download.pull.ask()

    def _die(self, host: Host, has_said_so: bool) -> None:
        if not host.is_alive:
            return
        host.is_alive = host.member.is_alive = False
        if host.ended_at is None:
            self._left_count -= 1
        for download in host.downloads.values():
            download.died(has_said_so=has_said_so)

    def _claimant_dies(self) -> None:
        for download in self._downloads():
            if download.pull.is_from_origin:
                self._die(download.host, False)
                return

    # -- what it took ----------------------------------------------------------------------------------------------

    def _downloads(self) -> list[Download]:
        return [download for host in self.world.hosts for download in host.downloads.values()]

    def _result(self) -> HerdResult:
        world, plan = self.world, self.plan
        asked = [host for host in world.hosts if host.is_alive and host.asked_at < math.inf]
        took_s = [host.ended_at - host.asked_at for host in asked if host.ended_at is not None]
        total_bytes = sum(plan.blobs_bytes)
        claimants_bytes = sum(one.sent_bytes for one in self._downloads() if one.pull.was_from_origin)
        count = max(1, len(asked))
        return HerdResult(
            over_bound=tuple(sorted(one / plan.bound_s for one in took_s)),
            unended_count=len(asked) - len(took_s),
            origin_copies=world.origin.sent_bytes / total_bytes,
            claims_count=sum(len(fences) for fences in world.arbiters.granted.values()),
            claimant_copies=claimants_bytes / total_bytes,
            datagrams_per_host=sum(host.member.sent_count for host in asked) / count,
            datagrams_max_count=max(host.member.sent_count for host in world.hosts),
            messages_per_host=sum(host.told_count for host in asked) / count,
            requests_per_host=sum(host.requests_count for host in asked) / count,
            wasted_share=sum(host.wasted_bytes for host in asked) / (count * total_bytes),
            counts=dict(world.counts),
        )
