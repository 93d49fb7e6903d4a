"""Every host of a cluster is restarted, a few at a time, as a DaemonSet's update does it: no record is lost, and
lookups succeed all the while."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.support.dht_cluster import Member, key_number, look_up
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

# Hosts that are down together, for how long, and how long the next ones wait after these are started.
TOGETHER_COUNT: Final = 10
DOWN_S: Final = 3.0
UP_S: Final = 5.0
OWN_KEYS_COUNT: Final = 6
SHARED_KEYS_COUNT: Final = 100
SHARED_EACH_COUNT: Final = 4
# A provider that has just been started is not told of yet: delta_debounce_s, pacing and a round trip.
TOLD_WITHIN_S: Final = 2.0
LOOKUP_EVERY_S: Final = 0.1
# rejoin_jitter_s after the last restart, and the pacing.
SETTLED_S: Final = 40.0


@dataclass
class Outcome:
    lookups_count: int = 0
    failures_count: int = 0
    records_count: int = 0
    lost_count: int = 0
    lost_meanwhile_count: int = 0
    # How many records have how many of their nearest eight.
    replicas: Counter[int] = field(default_factory=Counter)
    restart_s: float = 0.0


@pytest.mark.matrix
def test_two_hundred_hosts_that_keep_nothing() -> None:
    """The harder case: every restart empties a store, and ten neighbours may do so together."""
    check(rolling_restart(200, None), lookups_count=1000)


@pytest.mark.matrix
def test_sixty_hosts_that_keep_their_records(tmp_path: Path) -> None:
    check(rolling_restart(60, tmp_path), lookups_count=300)


@pytest.mark.matrix
def test_two_hundred_hosts_that_keep_their_records(tmp_path: Path) -> None:
    check(rolling_restart(200, tmp_path), lookups_count=1000)


def check(found: Outcome, *, lookups_count: int) -> None:
    assert found.lookups_count > lookups_count
    assert found.failures_count == 0, found
    assert found.lost_meanwhile_count == 0, found
    assert found.lost_count == 0, found
    # A record whose announcement was lost twice waits for the next sweep.
    assert min(found.replicas) >= 6, found
    assert found.replicas[8] >= 0.99 * found.records_count, found


def rolling_restart(hosts_count: int, folder: Path | None) -> Outcome:
    async def body(world: World) -> Outcome:
        outcome = Outcome()
        await world.settled(hosts_count)
        await world.provided(lambda member: share(world, member))
        started_s = world.loop.time()
        since_s = {member.node: started_s for member in world.cluster.members}
        rolling = asyncio.ensure_future(roll(world, since_s, outcome))
        while not rolling.done():
            await asyncio.sleep(LOOKUP_EVERY_S)
            await probe(world, since_s, outcome)
        rolling.result()
        outcome.restart_s = world.loop.time() - started_s
        await asyncio.sleep(SETTLED_S)
        judge(world, outcome)
        return outcome

    return simulate(body, loss=0.01, folder=folder)


def share(world: World, member: Member) -> set[bytes]:
    own = {key_number(1_000_000 + member.number * OWN_KEYS_COUNT + n) for n in range(OWN_KEYS_COUNT)}
    shared = world.rng.sample(range(SHARED_KEYS_COUNT), SHARED_EACH_COUNT)
    return own | {key_number(number) for number in shared}


async def roll(world: World, since_s: dict[bytes, float], outcome: Outcome) -> None:
    members = world.cluster.members
    for first in range(0, len(members), TOGETHER_COUNT):
        group = members[first : first + TOGETHER_COUNT]
        for member in group:
            await world.cluster.stop(member)
        await asyncio.sleep(DOWN_S)
        for member in group:
            await world.start(member)
            since_s[member.node] = world.loop.time()
        await asyncio.sleep(UP_S)
        if first % (4 * TOGETHER_COUNT) == 0:
            outcome.lost_meanwhile_count += len(lost(world, since_s))


async def probe(world: World, since_s: dict[bytes, float], outcome: Outcome) -> None:
    """A member that has joined looks for a key of a host that is up and was told of."""
    provider = told(world, since_s, world.rng.choice(world.cluster.alive))
    asker = world.rng.choice(world.cluster.alive)
    if provider is None or asker is provider or not asker.dht.node.has_joined:
        return
    key = world.rng.choice(sorted(provider.keys))
    outcome.lookups_count += 1
    if not (await look_up(asker.dht, key)).nodes:
        outcome.failures_count += 1


def told(world: World, since_s: dict[bytes, float], member: Member) -> Member | None:
    return member if world.loop.time() - since_s[member.node] > TOLD_WITHIN_S else None


def lost(world: World, since_s: dict[bytes, float]) -> set[tuple[bytes, bytes]]:
    """Keys of hosts that are up, of which no host has a record."""
    now = world.loop.time()
    held = {
        (entry.key, entry.node) for member in world.cluster.alive for entry in member.dht.records.entries(now)
    }
    due = {
        (key, member.node)
        for member in world.cluster.alive
        if told(world, since_s, member) is not None
        for key in member.keys
    }
    return due - held


def judge(world: World, outcome: Outcome) -> None:
    for member in world.cluster.members:
        for key in sorted(member.keys):
            nearest = world.cluster.nearest(key, 8)
            holders = {one.number for one in world.holders(key, member.node, nearest)}
            outcome.records_count += 1
            outcome.replicas[len(holders)] += 1
            outcome.lost_count += not holders
