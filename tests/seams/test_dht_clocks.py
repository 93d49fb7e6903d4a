"""Hosts whose clocks are wrong: they take part, and move nobody else."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from dht.ids import key_of
from dht.wire.codec import Challenge, Ping, Request, Verb, encode_challenge
from dht.wire.guard import Admitted
from tests.support.dht_attackers import member
from tests.support.dht_nodes import PARAMS, Live, Wall, knows_all, live, live_cluster, quiet, until

WANTED, OWN = key_of("wanted"), key_of("its own")
HOUR_S = 3600.0


def offset_s(node: Live) -> float:
    return node.dht._guard.clock.offset_ms / 1000


@pytest.mark.parametrize("wrong_s", [HOUR_S, -HOUR_S, -20 * 365 * 24 * HOUR_S])
async def test_a_host_with_a_wrong_clock_finds_and_provides(
    wrong_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    wall = Wall(wrong_s)
    with quiet(caplog):
        async with live_cluster(3) as nodes:
            nodes[0].dht.provide([WANTED])
            await nodes[0].dht.flush()
            async with live(nodes[1], wall=wall) as wrong:
                await until(lambda: knows_all(wrong, [*nodes, wrong]))
                await until(lambda: all(wrong.id in one.members for one in nodes))
                assert abs(offset_s(wrong) + wrong_s) < 5
                assert (await wrong.find(WANTED)).keys() == {nodes[0].id}
                wrong.dht.provide([OWN])
                await wrong.dht.flush()
                for one in nodes:
                    assert (await one.find(OWN)).keys() == {wrong.id}
                    assert offset_s(one) == 0
                assert await wrong.dht.claim(os.urandom(20), Verb.ASK) is not None
                # It is set right while it runs.
                wall.ahead_s = 0.0
                other = os.urandom(20)
                nodes[2].dht.provide([other])
                await nodes[2].dht.flush()
                await until(lambda: not wrong.protocol._calls)
                assert (await wrong.find(other)).keys() == {nodes[2].id}
                assert abs(offset_s(wrong)) < 5


@pytest.mark.parametrize("count", [2, 3])
async def test_one_host_does_not_move_the_others(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """It tells everybody who asks that it is an hour later, for as long as they ask."""
    wall = Wall(0.0)
    # Nobody who is an hour off answers.
    params = dataclasses.replace(PARAMS, rpc_timeout_s=0.1)
    with quiet(caplog):
        async with live_cluster(count, params=params) as nodes, member(wall=wall) as liar:
            for one in nodes:
                await liar.ask(Ping(), one)
            wall.ahead_s = HOUR_S
            got_count = len(liar.socket.got)
            for _ in range(10):
                await asyncio.gather(
                    *(one.protocol.call(liar.id, liar.endpoint, Ping()) for one in nodes),
                    *(one.find(os.urandom(20)) for one in nodes),
                )
            assert len(liar.socket.got) >= got_count + 10 * count
            assert sum(one.dht.stats.rpcs_sent["ping", "timeout"] for one in nodes) >= 10 * count
            assert [offset_s(one) for one in nodes] == [0.0] * count
            nodes[0].dht.provide([WANTED])
            await nodes[0].dht.flush()
            for one in nodes[1:]:
                assert (await one.find(WANTED)).keys() == {nodes[0].id}


async def test_a_challenge_that_was_not_asked_for_moves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live() as node, member(wall=Wall(HOUR_S)) as liar:
            frames = [
                encode_challenge(os.urandom(20), Challenge(reason, bytes(8)))
                for reason in (0, 1, 2)
                for _ in range(99)
            ]
            await liar.socket.pour([liar.seal(frame, node) for frame in frames], node)
            assert node.drops == {"unasked": len(frames)}
            assert offset_s(node) == 0
            assert node.sizes["tokens"] == 0


async def test_a_challenge_of_a_later_release_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Of a node that is alone, so that one voice would do."""
    with quiet(caplog):
        wall = Wall()
        async with live() as node, member(wall=wall) as other:

            def answer(request: Request, admitted: Admitted) -> bytes:
                wall.ahead_s = HOUR_S
                return encode_challenge(admitted.message_id, Challenge(7))

            other.answer = answer
            assert not await node.dht._membership.meet(other.endpoint)
            assert offset_s(node) == 0
            assert len(other.asked) == 1
