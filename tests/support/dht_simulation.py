"""A cluster in virtual time: real nodes, a net in memory, one seed. What every simulation of the DHT starts from."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from dht.params import Params
from dht.wire.envelope import Key
from tests.support.dht_cluster import SECRET, Cluster, Member, look_up, statically, until
from tests.support.virtual_net import RoundTrip, VirtualNet, zoned
from tests.support.virtual_time import VirtualLoop, run_virtual

T = TypeVar("T")

# Two hosts of one zone, and of two zones, in a cloud region.
NEAR_RTT_S: Final = 0.0005
FAR_RTT_S: Final = 0.002
# As from a headless Service's name: the lowest addresses of those that run, and some others.
LOWEST_COUNT: Final = 3
RANDOM_COUNT: Final = 3
ALL_COUNT: Final = 1000


@dataclass(slots=True)
class World:
    loop: VirtualLoop
    net: VirtualNet
    rng: random.Random
    cluster: Cluster

    def add(self, *, wrong_by_s: float = 0.0) -> Member:
        """A host with the next address. It does not run yet."""
        number = len(self.cluster.members) + 1
        host = self.net.host(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        return self.cluster.add(host, wrong_by_s=wrong_by_s)

    async def start(self, member: Member) -> None:
        """As a Pod whose name server knows whoever runs now. It joins in the background."""
        running = self.cluster.alive
        others = running[LOWEST_COUNT:]
        told = running[:LOWEST_COUNT] + self.rng.sample(others, min(RANDOM_COUNT, len(others)))
        await self.cluster.start(member, statically(*(one.host for one in told)))

    async def settled(self, count: int) -> None:
        """So many hosts that know each other from the start: joining is not simulated, and nobody is asked for
        anchors."""
        fresh = [self.add() for _ in range(count)]
        for member in fresh:
            await self.cluster.start(member)
        contacts = [member.contact for member in fresh]
        for member in fresh:
            member.dht.members.preload(contacts)

    async def provided(self, share: Callable[[Member], set[bytes]]) -> None:
        """Every member provides its share; returns when all of it is told."""
        for member in self.cluster.alive:
            self.cluster.provide(member, share(member))
        await asyncio.sleep(Params().delta_debounce_max_s)
        for member in self.cluster.alive:
            await member.dht.flush()

    async def all_know_all(self, *, limit_s: float) -> float:
        """How long it took."""
        return await until(self.is_whole, limit_s=limit_s)

    def is_whole(self) -> bool:
        alive = {member.node for member in self.cluster.alive}
        for member in self.cluster.alive:
            known = {contact.node for contact in member.dht.members}
            if known != alive - {member.node}:
                return False
        return True

    def holders(self, key: bytes, provider: bytes, among: Iterable[Member]) -> list[Member]:
        """Who would name that provider of the key, asked now."""
        now, rng = self.loop.time(), random.Random(0)
        held = []
        for one in among:
            found = one.dht.records.find(key, ALL_COUNT, now, rng)
            if any(record.provider.node == provider for record in found):
                held.append(one)
        return held

    async def finds(self, asker: Member, key: bytes) -> set[bytes]:
        return set((await look_up(asker.dht, key)).nodes)


def simulate(
    body: Callable[[World], Coroutine[object, object, T]],
    *,
    seed: int = 1,
    loss: float = 0.0,
    rtt: RoundTrip | None = None,
    params: Params | None = None,
    secret: Key | None = SECRET,
    folder: Path | None = None,
    limit_s: float = 7200.0,
) -> T:
    """Runs `body` in a world of its own; at its end every member is cut off without a word. `folder`: hosts keep their
    state there over a restart."""

    async def main(loop: VirtualLoop) -> T:
        rng = random.Random(seed)
        net = VirtualNet(loop, rng, rtt or zoned(NEAR_RTT_S, FAR_RTT_S), loss)
        async with asyncio.TaskGroup() as tasks:
            cluster = Cluster(tasks, rng, loop.wall, params=params, secret=secret, folder=folder)
            try:
                return await body(World(loop, net, rng, cluster))
            finally:
                for member in cluster.alive:
                    member.host.kill()
                    if member.disk is not None:
                        member.disk.is_powered = False
                    member.ending.set()

    # Warnings of nodes that are meant to be in trouble.
    log = logging.getLogger("dht")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        return run_virtual(main, limit_s=limit_s)
    finally:
        log.setLevel(before)
