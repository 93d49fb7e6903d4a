"""One seed gives one run, in every process: what a simulation found can be looked at again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dht.endpoints import Endpoint
from tests.support.dht_cluster import key_number
from tests.support.dht_simulation import World, simulate

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def trace(seed: int) -> str:
    """A digest of every datagram of a small cluster: when, from where, where to, and what."""
    seen = hashlib.sha256()

    async def body(world: World) -> None:
        def tap(source: Endpoint, target: Endpoint, data: bytes) -> None:
            seen.update(f"{world.loop.time():.9f} {source} {target} ".encode() + data)

        world.net.tap = tap
        for number in range(12):
            member = world.add()
            member.keys = {key_number(number), key_number(number + 1)}
            await world.start(member)
            await asyncio.sleep(0.5)
        for member in world.cluster.members[:4]:
            await world.cluster.crash(member)
        await asyncio.sleep(60.0)

    simulate(body, seed=seed, loss=0.01)
    return seen.hexdigest()


def test_one_seed_one_run() -> None:
    """Hashes of bytes, and so the order of sets, differ from process to process."""
    found = {
        subprocess.run(
            [sys.executable, "-c", "from tests.simulation import test_repeats; print(test_repeats.trace(7))"],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(found) == 1
    assert trace(7) != trace(8)
