"""Lost, doubled, delayed and late datagrams: no record that stands is lost, none that was withdrawn comes back."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from dht.params import Params
from tests.support.dht_cluster import Member, key_number
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

HOSTS_COUNT: Final = 40
KEYS_EACH_COUNT: Final = 6
ROUNDS_COUNT: Final = 60
ROUND_S: Final = 2.0
LOOK_EVERY_S: Final = 0.2
# A key that was just announced may be withdrawn as soon as the announcement has left.
QUICK_S: Final = 0.4
QUICK_COUNT: Final = 3
# A copy that comes so late is a replay of a datagram that is still fresh.
COPY_LATE_S: Final = 60.0
# Held up so long, an announcement comes after its withdrawal.
HELD_UP_S: Final = 1.0

NEVER_COUNT: Final = 1000

# Who holds it, key, provider.
Held = tuple[bytes, bytes, bytes]


def test_withdrawn_stays_withdrawn_and_provided_stays_provided() -> None:
    async def body(world: World) -> None:
        await world.settled(HOSTS_COUNT)
        net = world.net
        net.loss, net.copies, net.reordered = 0.01, 0.1, 0.1
        net.copy_late_s, net.held_up_s = COPY_LATE_S, HELD_UP_S
        watch = Watch(world)
        for member in world.cluster.members:
            watch.provide(member, {key_of(member, number) for number in range(KEYS_EACH_COUNT)})
        await watch.look(5.0)
        for _ in range(ROUNDS_COUNT):
            member = world.rng.choice(world.cluster.members)
            key = key_of(member, world.rng.randrange(KEYS_EACH_COUNT))
            for _ in range(world.rng.randint(1, QUICK_COUNT)):
                if key in member.keys:
                    watch.withdraw(member, {key})
                else:
                    watch.provide(member, {key})
                await watch.look(QUICK_S)
            await watch.look(ROUND_S)
        await watch.look(COPY_LATE_S)
        assert watch.returned == []
        for member in world.cluster.members:
            asker = world.rng.choice([one for one in world.cluster.members if one is not member])
            for number in range(KEYS_EACH_COUNT):
                key = key_of(member, number)
                found = await world.finds(asker, key)
                assert (member.node in found) == (key in member.keys), (member.number, number)

    # Whoever is taken for dead meanwhile is not told of a withdrawal, and keeps the record until its end.
    simulate(body, params=Params(strikes_count=NEVER_COUNT), limit_s=1000.0)


def key_of(member: Member, number: int) -> bytes:
    return key_number(member.number * KEYS_EACH_COUNT + number)


class Watch:
    """Looks at every host's records all the time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._withdrawn: set[tuple[bytes, bytes]] = set()
        # Holders from whom a withdrawn record is gone.
        self._gone: set[Held] = set()
        self._seen: set[Held] = set()
        self.returned: list[Held] = []

    def provide(self, member: Member, keys: set[bytes]) -> None:
        for key in keys:
            self._withdrawn.discard((key, member.node))
            for known in (self._gone, self._seen):
                known.difference_update([held for held in known if held[1:] == (key, member.node)])
        self._world.cluster.provide(member, keys)

    def withdraw(self, member: Member, keys: set[bytes]) -> None:
        self._withdrawn.update((key, member.node) for key in keys)
        self._world.cluster.withdraw(member, keys)

    async def look(self, for_s: float) -> None:
        time = self._world.loop.time
        until_s = time() + for_s
        while time() < until_s:
            await asyncio.sleep(LOOK_EVERY_S)
            seen = {
                (one.node, entry.key, entry.node)
                for one in self._world.cluster.alive
                for entry in one.dht.records.entries(time())
                if (entry.key, entry.node) in self._withdrawn
            }
            self.returned += sorted(seen & self._gone)
            self._gone |= self._seen - seen
            self._seen = seen
