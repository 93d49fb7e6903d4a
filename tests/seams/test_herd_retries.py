"""A claimant's pull that is cancelled half way, and begun again: what the origin gave the first time is not asked of it
again, and is not taken for wrong because its file went."""

from __future__ import annotations

import random

from mirror.oci.digest import Digest
from tests.support.herd_hosts import MIB, herd, pulling
from tests.support.store_beds import eventually

BLOB = random.Random(31).randbytes(8 * MIB + 77)
D = Digest.of(BLOB)
HALF = 4 * MIB


async def test_a_claimants_second_pull_is_fed_what_the_first_one_had() -> None:
    async with herd(2, BLOB) as bed:
        host = bed.hosts[0]
        bed.origin.allow(HALF)
        async with pulling([host], BLOB) as pulls:
            await pulls.reach(HALF)
            await eventually(lambda: host.mirror.herd.size_bytes(D) == len(BLOB))
        bed.origin.allow(None)
        pull = await host.pull(D, len(BLOB))
        assert pull.data == BLOB
        assert not host.mirror.store.discarded
        assert (pull.starts, pull.cuts) == ([0, HALF], [HALF])
        assert bed.origin.total_bytes == len(BLOB)
