"""Who knows whom, and how soon: a newcomer, a split that heals, a host that was wiped, one with a wrong clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from dht.params import Params
from tests.support.dht_cluster import Member, key_number, until
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

EVERY_S: Final = 0.1


@dataclass
class Spread:
    """After how many seconds so many percent of the others knew the newcomer."""

    half_s: float
    most_s: float
    all_s: float


def test_a_newcomer_is_known_to_all() -> None:
    """In a cluster at rest there are few answers for news to ride on, and 1 percent of the datagrams is lost: whoever
    was not told compares with somebody every 15 s."""
    found = newcomer(200)
    assert found.half_s <= 30.0, found
    assert found.most_s <= 90.0, found
    assert found.all_s <= 120.0, found


@pytest.mark.matrix
def test_a_newcomer_is_known_to_a_thousand() -> None:
    found = newcomer(1000)
    assert found.half_s <= 45.0, found
    assert found.most_s <= 120.0, found
    assert found.all_s <= 180.0, found


def newcomer(hosts_count: int) -> Spread:
    async def body(world: World) -> Spread:
        await world.settled(hosts_count)
        await world.provided(lambda member: {key_number(member.number)})
        fresh = world.add()
        await world.start(fresh)
        started_s = world.loop.time()
        times = []
        for percent in (50, 99, 100):
            await known_to(world, fresh, percent)
            times.append(world.loop.time() - started_s)
        assert len(fresh.dht.members) == hosts_count
        return Spread(*times)

    return simulate(body, loss=0.01)


@dataclass
class Healing:
    """Members that a host knew at most when the halves were apart for a while, and how long it took until all knew
    all again."""

    apart_count: int
    heal_s: float


@pytest.mark.parametrize("apart_s", [30.0, 600.0])
def test_a_split_that_heals_merges_without_restart(apart_s: float) -> None:
    found = split(60, apart_s)
    if apart_s > 300:
        assert found.apart_count == 29, found
    assert found.heal_s <= 120.0, found


@pytest.mark.matrix
def test_a_large_split_heals() -> None:
    found = split(300, 900.0)
    assert found.apart_count == 149, found
    assert found.heal_s <= 180.0, found


def split(hosts_count: int, apart_s: float) -> Healing:
    async def body(world: World) -> Healing:
        await world.settled(hosts_count)
        members = world.cluster.members
        await world.provided(lambda member: {key_number(member.number)})
        halves = {one.host.listen[0].address: one.number % 2 for one in members}
        world.net.split(halves)
        await asyncio.sleep(apart_s)
        apart_count = max(len(one.dht.members) for one in members)
        same_side = members[2]
        assert await world.finds(members[0], key_number(2)) == {same_side.node}
        world.net.heal()
        heal_s = await world.all_know_all(limit_s=600.0)
        # Records come with members: each side's keys are told to the other side's hosts.
        await asyncio.sleep(Params().rejoin_jitter_s + 5.0)
        for asker, provider in ((members[0], members[1]), (members[3], members[4])):
            assert await world.finds(asker, key_number(provider.number)) == {provider.node}
        return Healing(apart_count, heal_s)

    return simulate(body, loss=0.01)


def test_a_wiped_host_gets_its_records_back() -> None:
    """The same id with an empty store: within the jitter it holds again what it has to."""

    async def body(world: World) -> None:
        await world.settled(80)
        await world.provided(lambda member: {key_number(member.number * 10 + n) for n in range(10)})
        wiped = world.cluster.members[7]
        before = held(world, wiped)
        assert len(before) > 40
        await world.cluster.crash(wiped)
        await asyncio.sleep(10.0)
        await world.start(wiped)
        await asyncio.sleep(Params().rejoin_jitter_s + 5.0)
        assert held(world, wiped) >= before

    simulate(body)


def test_a_host_with_a_new_id_takes_its_place() -> None:
    """Wiped with its identity: its keys are found under the new id, and never again under the old one."""

    async def body(world: World) -> None:
        await world.settled(60)
        await world.provided(lambda member: {key_number(member.number)})
        old = world.cluster.members[7]
        await world.cluster.crash(old)
        await asyncio.sleep(10.0)
        new = world.cluster.add(old.host)
        new.keys = set(old.keys)
        await world.start(new)
        asker = world.cluster.members[0]
        await asyncio.sleep(5.0)
        assert new.node in await world.finds(asker, key_number(7))
        # Nobody keeps a dead member: each asks somebody else all the time.
        await until(
            lambda: not any(old.node in one.dht.members for one in world.cluster.alive), limit_s=600.0
        )
        assert await world.finds(asker, key_number(7)) == {new.node}

    simulate(body)


def test_a_wrong_clock_is_compensated() -> None:
    """An hour ahead or behind, more than a datagram may be old: the host joins, provides, finds and is found."""

    async def body(world: World) -> None:
        await world.settled(40)
        await world.provided(lambda member: {key_number(member.number)})
        for wrong_by_s in (3600.0, -3600.0):
            wrong = world.add(wrong_by_s=wrong_by_s)
            wrong.keys = {key_number(100 + wrong.number)}
            await world.start(wrong)
            await known_to(world, wrong, 100)
            assert len(wrong.dht.members) == wrong.number
            await wrong.dht.flush()
            assert await world.finds(wrong, key_number(3)) == {world.cluster.members[3].node}
            assert await world.finds(world.cluster.members[5], key_number(100 + wrong.number)) == {wrong.node}

    simulate(body)


def held(world: World, member: Member) -> set[tuple[bytes, bytes]]:
    return {(entry.key, entry.node) for entry in member.dht.records.entries(world.loop.time())}


async def known_to(world: World, member: Member, percent: int) -> None:
    """Returns when so many of the others know it."""
    others = [one for one in world.cluster.alive if one is not member]

    def are_told() -> bool:
        return sum(member.node in one.dht.members for one in others) * 100 >= percent * len(others)

    await until(are_told, limit_s=600.0, every_s=EVERY_S)


def test_a_host_with_a_new_id_does_not_name_its_old_one(tmp_path: Path) -> None:
    """Its node file was lost, its records were not: nobody is at what the old id stands for."""

    async def body(world: World) -> None:
        await world.settled(2)
        await world.provided(lambda member: {key_number(member.number)})
        renewed, other = world.cluster.members
        old_id = renewed.node
        assert world.holders(key_number(renewed.number), old_id, [renewed]), "it holds its own, too"
        await world.cluster.stop(renewed)
        renewed.node = bytes(20)
        await world.start(renewed)
        kept = {entry.node for entry in renewed.dht.records.entries(world.loop.time())}
        assert other.node in kept
        assert old_id not in kept

    simulate(body, folder=tmp_path)
