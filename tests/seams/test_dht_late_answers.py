"""An answer that comes after its time is of no use to the call, and still shows that its node is alive and slow."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from dht.endpoints import pack
from dht.protocol import LATE_MAX_COUNT
from dht.wire.codec import Ping, Pong, Request, Result, encode_response
from dht.wire.guard import Admitted
from tests.support.dht_attackers import Member, member
from tests.support.dht_nodes import PARAMS, live, quiet, until

TIMEOUT_S = 0.05
LATE_S = 0.12
HASTY = dataclasses.replace(PARAMS, rpc_timeout_s=TIMEOUT_S, strikes_apart_s=2 * TIMEOUT_S)
CALLS_COUNT = 6


def answer_late(scripted: Member) -> None:
    loop = asyncio.get_running_loop()

    def answer(request: Request, admitted: Admitted) -> Result | None:
        if isinstance(request, Ping):
            frame = encode_response(admitted.message_id, Pong(b"", pack((admitted.source,))), [])
            sealed = scripted.seal(frame, admitted.source, destination=admitted.sender)
            loop.call_later(LATE_S, scripted.socket.send, sealed, admitted.source)
        return None

    scripted.answer = answer


async def test_a_node_that_answers_late_stays_a_member_and_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with live(params=HASTY) as node, member() as slow:
            await slow.ask(Ping(), node)
            answer_late(slow)
            for number in range(1, CALLS_COUNT + 1):
                assert await node.protocol.call(slow.id, slow.endpoint, Ping()) is None
                await until(lambda: node.dht.stats.rpcs_sent["ping", "late"] >= number)  # noqa: B023
                assert slow.id in node.members
            assert node.dht.node.members.hedge_s(slow.id) > LATE_S
            assert node.sizes["late"] == 0
            assert node.drops == {}


async def test_a_node_that_does_not_answer_is_none_soon(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live(params=HASTY) as node, member() as dead:
            await dead.ask(Ping(), node)
            dead.answer = lambda request, admitted: None
            for _ in range(CALLS_COUNT):
                await node.protocol.call(dead.id, dead.endpoint, Ping())
            assert dead.id not in node.members


async def test_what_is_remembered_of_calls_that_were_given_up_is_bounded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with live(params=HASTY) as node, member() as dead:
            dead.answer = lambda request, admitted: None
            for _ in range(3):
                calls = [node.protocol.call(dead.id, dead.endpoint, Ping()) for _ in range(150)]
                assert set(await asyncio.gather(*calls)) == {None}
            assert node.sizes["late"] == LATE_MAX_COUNT
