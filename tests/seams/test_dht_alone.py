"""Whether a node hears anybody at all, over real sockets."""

from __future__ import annotations

import pytest

from dht.endpoints import pack
from dht.wire.codec import Ping, Pong, Request, Result
from dht.wire.guard import Admitted
from tests.support.dht_attackers import member
from tests.support.dht_nodes import PARAMS, live, quiet, until


def pong(request: Request, admitted: Admitted) -> Result | None:
    return Pong(b"", pack((admitted.source,))) if isinstance(request, Ping) else None


async def test_who_is_not_answered_by_anybody_is_alone_until_one_speaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with live() as node, member() as one, member() as other:
            await one.ask(Ping(), node)
            await other.ask(Ping(), node)
            assert not node.dht.is_alone
            node.dht.listen()
            assert not node.dht.is_alone, "they have their time"
            await until(lambda: node.dht.is_alone)
            heard_count = len(one.asked), len(other.asked)
            node.dht.listen()
            assert (len(one.asked), len(other.asked)) == heard_count, "once"
            await one.ask(Ping(), node)
            assert not node.dht.is_alone


async def test_who_knows_nobody_yet_is_not_alone(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live() as node:
            node.dht.listen()
            assert node.dht.node.silence.alone_at(PARAMS.claim_unheard_s) is None


async def test_who_hears_one_of_them_is_not_alone(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live() as node, member() as one, member() as other:
            await one.ask(Ping(), node)
            await other.ask(Ping(), node)
            one.answer = pong
            silence = node.dht.node.silence
            before_at = silence.heard_at
            node.dht.listen()
            assert silence.alone_at(PARAMS.claim_unheard_s) is not None
            await until(lambda: silence.heard_at > before_at)
            assert silence.alone_at(PARAMS.claim_unheard_s) is None
