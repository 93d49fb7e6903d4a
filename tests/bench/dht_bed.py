"""Clusters to measure: real nodes that know each other from the start, on loopback or in virtual time.

Joining and announcing are left out where they would take too long: what was put in place instead is written down in
`injected`. Measures nothing.
"""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import time
from bisect import bisect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, TypeVar

from dht.bootstrap.loop import Bootstrap
from dht.bootstrap.sources import StaticSource
from dht.contacts import Contact, stamp
from dht.ids import ID_BYTES
from dht.members.nearest import nearest
from dht.params import Params
from tests.bench.dht_rows import POOL_COUNT, Clock
from tests.support.dht_cluster import Cluster, Host, LoopbackHost, Member
from tests.support.dht_simulation import FAR_RTT_S, NEAR_RTT_S, simulate
from tests.support.virtual_net import VirtualNet

T = TypeVar("T")

SEED: Final = 3
LOSS: Final = 0.01
# Two sockets a host for both families, and what the process needs itself.
FILES_COUNT: Final = 4096
# As from a headless Service's name: the lowest addresses, and some others.
TOLD_LOWEST_COUNT: Final = 3
TOLD_RANDOM_COUNT: Final = 3
# Older than whatever a node says itself.
_INJECTED_STAMP: Final = stamp(1, 0)


@dataclass(slots=True)
class Bed:
    clock: Clock
    cluster: Cluster
    rng: random.Random
    params: Params
    make_host: Callable[[], Host]
    # None: loopback.
    net: VirtualNet | None = None
    members: list[Member] = field(default_factory=list)
    dead: list[Member] = field(default_factory=list)
    injected: list[str] = field(default_factory=list)
    _contacts: dict[bytes, Contact] = field(default_factory=dict)
    _ids: list[bytes] = field(default_factory=list)
    _by_node: dict[bytes, Member] = field(default_factory=dict)

    @property
    def living(self) -> list[Member]:
        gone = {member.node for member in self.dead}
        return [member for member in self.members if member.node not in gone]

    async def settle(self, count: int) -> None:
        """So many nodes that know each other."""
        self.members = [self.cluster.add(self.make_host()) for _ in range(count)]
        for member in self.members:
            await self.cluster.start(member)
        contacts = [member.contact for member in self.members]
        for member in self.members:
            member.dht.members.preload(contacts)
        self._contacts = {contact.node: contact for contact in contacts}
        self._ids = sorted(self._contacts)
        self._by_node = {member.node: member for member in self.members}
        self.injected.append(
            f"full tables of {count} members, nobody heard yet: hedges start at hedge_start_s"
        )

    def holders(self, key: bytes) -> list[Member]:
        """The true ones, nearest first, dead or alive."""
        found = nearest(self._ids, key, self.params.replicas_count)
        return [self._by_node[self._ids[index]] for _, index in found]

    def store(self, providers_of: Mapping[bytes, Sequence[Member]]) -> None:
        """As if the providers had announced these keys, to the full."""
        now, ttl_s = asyncio.get_running_loop().time(), self.params.record_ttl_s
        for key, providers in providers_of.items():
            chosen: Sequence[Member] = providers
            if len(chosen) > self.params.providers_per_key_count:
                chosen = self.rng.sample(chosen, self.params.providers_per_key_count)
            contacts = [self._contacts[member.node] for member in chosen]
            for holder in self.holders(key):
                records = holder.dht.records
                for contact in contacts:
                    records.add(key, contact, 0, _INJECTED_STAMP, ttl_s, now)

    def announced(self, members: Iterable[Member], share: Callable[[Member], set[bytes]]) -> None:
        """As if these had told their keys before now: they go on with the sweep."""
        now = asyncio.get_running_loop().time()
        for member in members:
            member.keys = share(member)
            announcements = member.dht.node.announcements
            announcements._keys.put(member.keys, 0)
            announcements._sweep.woken(now)
            # Wakes the announcer, whose next time has changed.
            member.dht.node.joined()

    async def bootstrap(self, member: Member) -> None:
        """As of a node that has run for long: asks bootstrap addresses now and then, for ever."""
        others = self.members[TOLD_LOWEST_COUNT:]
        told = self.members[:TOLD_LOWEST_COUNT] + self.rng.sample(others, TOLD_RANDOM_COUNT)
        dht = member.dht
        await asyncio.sleep(self.rng.random() * self.params.bootstrap_joined_s)
        await Bootstrap(
            [StaticSource(*one.host.listen[0], self.params) for one in told],
            [],
            dht._membership.meet,
            lambda: len(dht.members),
            self.params,
            self.rng,
        ).run()

    def kill(self) -> None:
        """All at one moment; nobody is told."""
        for member in self.dead:
            member.host.kill()


class Pool:
    """What a cluster's hosts have: the n-th most common digest is 1/n as common as the first."""

    def __init__(self, rng: random.Random, count: int = POOL_COUNT) -> None:
        self._rng = rng
        self._keys = [rng.randbytes(ID_BYTES) for _ in range(count)]
        self._weights = list(accumulate(1 / rank for rank in range(1, count + 1)))

    def share(self, count: int) -> set[bytes]:
        """Of one host: no key twice."""
        found: set[bytes] = set()
        top = self._weights[-1]
        while len(found) < count:
            found.add(self._keys[bisect(self._weights, self._rng.random() * top)])
        return found


def providers_of(members: Iterable[Member]) -> dict[bytes, list[Member]]:
    found: dict[bytes, list[Member]] = {}
    for member in members:
        for key in member.keys:
            found.setdefault(key, []).append(member)
    return found


def rss_mb() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def run_bed(clock: Clock, body: Callable[[Bed], Coroutine[object, object, T]], params: Params) -> T:
    """Every node is cut off at the end."""
    if clock == "live":
        return asyncio.run(_live(body, params))
    return simulate(
        lambda world: body(
            Bed("virtual", world.cluster, world.rng, params, lambda: _virtual_host(world.net), world.net)
        ),
        seed=SEED,
        loss=LOSS,
        params=params,
    )


def rtt_words(clock: Clock) -> str:
    if clock == "live":
        return "loopback"
    return (
        f"{NEAR_RTT_S * 1000:g} ms within and {FAR_RTT_S * 1000:g} ms between three zones, each way up to 20 % "
        f"longer at random; {LOSS:.0%} of the datagrams lost"
    )


def _virtual_host(net: VirtualNet) -> Host:
    number = len(net.hosts) + 1
    return net.host(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")


async def _live(body: Callable[[Bed], Coroutine[object, object, T]], params: Params) -> T:
    rng = random.Random(SEED)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_COUNT, most), most))
    async with asyncio.TaskGroup() as tasks:
        cluster = Cluster(tasks, rng, lambda wrong_by_s: lambda: time.time() + wrong_by_s, params=params)
        try:
            return await body(Bed("live", cluster, rng, params, LoopbackHost))
        finally:
            for member in cluster.alive:
                member.host.kill()
                member.ending.set()
            gc.unfreeze()
