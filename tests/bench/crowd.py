"""Other nodes for a daemon that is measured: real ones, on loopback, that know it and tell it what they hold.

An idle daemon of a cluster has members and records; this gives them to it. All in this process, which is not measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import urllib.request
from collections.abc import AsyncIterator

from dht.endpoints import Endpoint
from dht.service import DHT
from dht.settings import Settings, StaticBootstrap
from dht.wire.envelope import Key
from mirror.discovery.dht_settings import DHT_USE
from mirror.discovery.peer_info import PeerInfo, encode
from mirror.secret import ClusterSecret

JOIN_LIMIT_S = 60.0
POLL_S = 0.2
JOIN_POLL_S = 0.01
# Keys that share so much with a node's id are that node's to keep, whoever else there is.
SHARED_PREFIX_BYTES = 8


@contextlib.asynccontextmanager
async def crowd(
    members_count: int,
    records_count: int,
    *,
    peer_port: int,
    admin_port: int,
    secret: ClusterSecret,
    cluster: str,
) -> AsyncIterator[dict[str, int]]:
    """Gives what the daemon says it has, once it has it. Raises: TimeoutError."""
    status = _status(admin_port)
    rng = random.Random(11)
    target = bytes.fromhex(str(status["node_id"]))[:SHARED_PREFIX_BYTES]
    keys = [target + rng.randbytes(20 - SHARED_PREFIX_BYTES) for _ in range(records_count)]
    share_count = -(-records_count // members_count)
    async with contextlib.AsyncExitStack() as stack:
        for number in range(members_count):
            settings = Settings(
                node=rng.randbytes(20),
                epoch=1,
                cluster=cluster,
                keys=tuple(
                    Key(bytes.fromhex(one.key_id), one.key) for one in secret.subkeys(DHT_USE, cluster)
                ),
                listen=(Endpoint("127.0.0.1", 0),),
                info=encode(PeerInfo(29021)),
                bootstrap=(StaticBootstrap("127.0.0.1", peer_port),),
            )
            dht = await stack.enter_async_context(DHT(settings))
            # One after the other: what this process is too busy to answer would be taken for dead.
            async with asyncio.timeout(JOIN_LIMIT_S):
                while len(dht.members) < number + 1:
                    await asyncio.sleep(JOIN_POLL_S)
            dht.provide(keys[number * share_count : (number + 1) * share_count])
        async with asyncio.timeout(JOIN_LIMIT_S):
            while True:
                told = await asyncio.to_thread(_status, admin_port)
                found = {name: int(str(told[name])) for name in ("members", "records")}
                if found["members"] >= members_count and found["records"] >= records_count:
                    break
                await asyncio.sleep(POLL_S)
        yield found


def _status(admin_port: int) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/api/v1/status", timeout=5) as response:
        told: dict[str, object] = json.load(response)
        return told
