"""Two live nodes with one id, as two copies of one disk make them: somebody notices, and says so once."""

from __future__ import annotations

import dataclasses
import logging
import os

import pytest

from dht.wire.envelope import Key
from tests.support.dht_nodes import KEY, PARAMS, live, until, warnings

KEYS = pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
# Nodes that are alone ask their bootstrap addresses all the time.
RESTLESS = dataclasses.replace(
    PARAMS, bootstrap_backoff_start_s=0.02, bootstrap_alone_s=0.02, rpc_timeout_s=0.02, sync_interval_s=0.05
)


@KEYS
async def test_twins_notice_each_other(keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture) -> None:
    """Each is told of the other as a node to begin with."""
    caplog.set_level(logging.WARNING)
    async with live(keys=keys, params=RESTLESS) as node:
        async with live(node, keys=keys, params=RESTLESS, node=node.id) as twin:
            await until(lambda: node.dht.stats.conflicts >= 5)
            assert node.members == twin.members == {}
            assert node.drops["duplicate_id"] == node.dht.stats.conflicts
            told = [text for text in warnings(caplog) if node.id.hex() in text]
            assert len(told) == 1
            assert str(twin.endpoint) in told[0]
            assert "delete node.json" in told[0]


@KEYS
@pytest.mark.parametrize(
    "epochs", [(1, 1), (3, 2), (2, 3)], ids=["at once", "the older copy", "the newer copy"]
)
async def test_a_third_notices_twins(
    keys: tuple[Key, ...], epochs: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with live(keys=keys, params=RESTLESS) as third:
        node = os.urandom(20)
        async with (
            live(third, keys=keys, params=RESTLESS, node=node, epoch=epochs[0]) as one,
            live(third, keys=keys, params=RESTLESS, node=node, epoch=epochs[1]) as other,
        ):
            await until(lambda: third.dht.stats.conflicts >= 1)
            told = [text for text in warnings(caplog) if node.hex() in text]
            assert len(told) == 1
            assert {str(one.endpoint), str(other.endpoint)} == {
                place for place in (str(one.endpoint), str(other.endpoint)) if place in told[0]
            }
            assert "delete node.json" in told[0]
            # It goes on, and is not told with every datagram.
            count = third.dht.stats.datagrams_received
            await until(lambda: third.dht.stats.datagrams_received >= count + 20)
            assert len([text for text in warnings(caplog) if node.hex() in text]) == 1
