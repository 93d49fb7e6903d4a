"""Herds whose hosts come at any time, give up and pull anew, with an origin that comes in gusts and members that do not
give what they say. Seeded; what happens between is the machine's. Nobody is held until the ladder's last rung.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from mirror.oci.digest import Digest
from mirror.steer.timers import SILENT_MAX_S
from tests.support.herd_hosts import MIB, Herd, HerdHost, Pull, herd
from tests.support.meddling import Meddle, Meddling

BLOB_BYTES = 8 * MIB + 77
HOWS = (Meddle.ABSENT, Meddle.TRUNCATE, Meddle.STALL, Meddle.ERROR_500)


async def gusts(bed: Herd, rng: random.Random) -> None:
    limit_bytes = 0
    while limit_bytes < BLOB_BYTES:
        bed.origin.allow(limit_bytes)
        await asyncio.sleep(rng.random() * 0.3)
        limit_bytes += rng.randint(1, 2 * MIB)
    bed.origin.allow(None)


async def life(host: HerdHost, data: bytes, rng: random.Random) -> Pull:
    """Until it has it."""
    digest = Digest.of(data)
    await asyncio.sleep(rng.random() * 0.5)
    for _ in range(3):
        if rng.random() < 0.4:
            task = asyncio.ensure_future(host.pull(digest, len(data)))
            done, _ = await asyncio.wait([task], timeout=rng.random() * 1.5)
            if done:
                return task.result()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(SILENT_MAX_S * 3 / 4):
        return await host.pull(digest, len(data))


@pytest.mark.parametrize("seed", [4, 8, 14, 23, 25, 43])
async def test_everybody_has_it_in_the_end(seed: int) -> None:
    rng = random.Random(seed)
    data = rng.randbytes(BLOB_BYTES)
    async with herd(0, data) as bed:
        for _ in range(rng.randint(3, 6)):
            is_bad = rng.random() < 0.15
            meddling = Meddling(data, rng.choice(HOWS)) if is_bad else None
            await bed.host(
                middleware=None if meddling is None else meddling.middleware,
                verify_always=rng.random() < 0.5,
            )
        async with asyncio.TaskGroup() as group:
            group.create_task(gusts(bed, rng))
            lives = [group.create_task(life(host, data, rng)) for host in bed.hosts]
        assert all(one.result().data == data for one in lives)
        assert bed.origin.total_bytes < len(bed.hosts) * len(data)
