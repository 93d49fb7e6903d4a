"""A host whose network is gone knows it after two silent lookups, and is no slower than no mirror until it is back."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from dht.params import Params
from tests.support.dht_cluster import key_number, look_up, statically, until
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

AT_ONCE_S: Final = 0.01


def test_two_silent_lookups_then_misses_at_once_until_a_datagram_comes() -> None:
    async def body(world: World) -> None:
        await world.settled(30)
        await world.provided(lambda member: {key_number(member.number)})
        alone = world.cluster.members[0]
        alone.host.kill()
        deadline_s = Params().lookup_deadline_s
        for number in (1, 2):
            looked = await look_up(alone.dht, key_number(number))
            assert len(looked.nodes) == 0
            assert looked.total_s == pytest.approx(deadline_s)
        assert alone.dht.is_isolated
        for number in range(3, 9):
            looked = await look_up(alone.dht, key_number(number))
            assert len(looked.nodes) == 0 and looked.total_s < AT_ONCE_S, looked
        # It asks around by itself all the while, and its members are not taken for dead.
        await asyncio.sleep(300.0)
        assert (alone.dht.is_isolated, len(alone.dht.members)) == (True, 29)
        alone.host.revive()
        waited_s = await until(lambda: not alone.dht.is_isolated, limit_s=10.0)
        assert waited_s <= 2 * Params().isolated_probe_s
        assert await world.finds(alone, key_number(9)) == {world.cluster.members[9].node}

    simulate(body)


def test_a_cluster_of_one_misses_at_once() -> None:
    async def body(world: World) -> None:
        only, gone = world.add(), world.add()
        await world.cluster.start(only, statically(gone.host))
        assert only.dht.unready is not None
        await asyncio.sleep(2 * Params().rpc_timeout_s)
        assert only.dht.unready is None
        only.dht.provide([key_number(1)])
        for number in range(3):
            looked = await look_up(only.dht, key_number(number))
            assert len(looked.nodes) == 0 and looked.total_s < AT_ONCE_S

    simulate(body)
