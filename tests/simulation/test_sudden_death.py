"""A fifth or half of the hosts die at one moment: what is still held is still found, and misses end in time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import pytest

from dht.params import Params
from tests.support.dht_cluster import Member, key_number, look_up
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

KEYS_COUNT: Final = 400
PROVIDERS_EACH_COUNT: Final = 4
LOOKUPS_COUNT: Final = 400
# All lookups fall into the first seconds, before the living have learned who is dead.
LOOKUP_EVERY_S: Final = 0.005
NAMED_HOSTS_COUNT: Final = 7
NAMED_KEYS_COUNT: Final = 200
NAMED_EVERY_S: Final = 0.3
# Until the reader itself, which asks the dead one too, has two strikes, and is sure of it (silent_sure_s).
NAMED_MAX_S: Final = 25.0
# Rounding of virtual times.
EPSILON_S: Final = 1e-6


@dataclass
class Outcome:
    """Times in seconds, of each lookup to its end."""

    found_s: list[float] = field(default_factory=list)
    missed_s: list[float] = field(default_factory=list)
    # Keys of which a living provider stands in the records of a living one of the eight nearest, not found.
    failures_count: int = 0
    # Keys all of whose holders, or all of whose providers, died.
    hopeless_count: int = 0


@pytest.mark.parametrize("dead_percent", [20, 50])
def test_lookups_after_it(dead_percent: int) -> None:
    found = sudden_death(150, dead_percent)
    assert len(found.found_s) > 0.75 * LOOKUPS_COUNT, found
    assert found.failures_count == 0, found
    assert max(found.found_s) <= Params().lookup_deadline_s + EPSILON_S
    assert len(found.missed_s) > LOOKUPS_COUNT / 4
    assert max(found.missed_s) <= Params().lookup_deadline_s + EPSILON_S


def test_a_dead_provider_is_soon_named_no_more() -> None:
    """One host looks it up all the time, and so knows first; the others, who name it, know nothing."""

    async def body(world: World) -> float:
        await world.settled(NAMED_HOSTS_COUNT)
        dead, reader, *_ = world.cluster.members
        keys = [key_number(number) for number in range(NAMED_KEYS_COUNT)]
        await world.provided(lambda member: set(keys) if member is dead else set())
        await world.cluster.crash(dead)
        died_at, last_named_at = world.loop.time(), world.loop.time()
        for key in keys:
            if dead.node in await world.finds(reader, key):
                last_named_at = world.loop.time()
            await asyncio.sleep(NAMED_EVERY_S)
        assert world.loop.time() - died_at > 2 * NAMED_MAX_S
        return last_named_at - died_at

    named_s = [simulate(body, seed=seed) for seed in range(5)]
    assert max(named_s) < NAMED_MAX_S, named_s


def sudden_death(hosts_count: int, dead_percent: int) -> Outcome:
    async def body(world: World) -> Outcome:
        outcome = Outcome()
        await world.settled(hosts_count)
        await world.provided(lambda member: share(world))
        for member in world.rng.sample(world.cluster.members, hosts_count * dead_percent // 100):
            await world.cluster.crash(member)
        async with asyncio.TaskGroup() as tasks:
            for number in range(LOOKUPS_COUNT):
                asker = world.rng.choice(world.cluster.alive)
                tasks.create_task(look(world, asker, key_number(number % KEYS_COUNT), outcome))
                if number % 3 == 0:
                    tasks.create_task(miss(asker, key_number(1_000_000 + number), outcome))
                await asyncio.sleep(LOOKUP_EVERY_S)
        return outcome

    return simulate(body)


def share(world: World) -> set[bytes]:
    count = KEYS_COUNT * PROVIDERS_EACH_COUNT // len(world.cluster.members)
    return {key_number(number) for number in world.rng.sample(range(KEYS_COUNT), count)}


async def look(world: World, asker: Member, key: bytes, outcome: Outcome) -> None:
    everybody = sorted(
        world.cluster.members, key=lambda one: int.from_bytes(one.node, "big") ^ int.from_bytes(key, "big")
    )
    nearest = [one for one in everybody[:8] if one.running is not None and one is not asker]
    providers = [one.node for one in world.cluster.alive if key in one.keys and one is not asker]
    is_held = any(world.holders(key, node, nearest) for node in providers)
    looked = await look_up(asker.dht, key)
    if not is_held:
        outcome.hopeless_count += 1
    elif set(looked.nodes) & set(providers):
        outcome.found_s.append(looked.total_s)
    else:
        outcome.failures_count += 1


async def miss(asker: Member, key: bytes, outcome: Outcome) -> None:
    looked = await look_up(asker.dht, key)
    assert looked.nodes == ()
    outcome.missed_s.append(looked.total_s)
