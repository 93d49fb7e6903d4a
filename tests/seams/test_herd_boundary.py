"""A defect in the transfer of one digest ends that transfer, and nothing else."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mirror.oci.digest import Digest
from tests.support.memory_ingests import MemoryIngests
from tests.support.mirror_host import ask, mirror_host

DATA = b"x" * 3_000_000
OTHER = b"y" * 3_000_000


class BrokenIngests(MemoryIngests):
    """Raises what no port may raise."""

    def total_bytes(self, digest: Digest) -> int | None:
        raise ArithmeticError("a defect")


async def test_a_defect_ends_one_transfer_and_not_the_daemon(caplog: pytest.LogCaptureFixture) -> None:
    ingests = BrokenIngests()
    async with mirror_host(ingests=ingests) as host:
        with caplog.at_level(logging.ERROR):
            ingest = ingests.begin(Digest.of(DATA), len(DATA))
            ingest.write(DATA[:1_500_000])
            async with asyncio.timeout(5):
                while not caplog.records:
                    await asyncio.sleep(0)
        assert str(Digest.of(DATA)) in caplog.text
        # The task group that all transfers run in is alive.
        url = f"{host.registry_url}/v2/team/app/blobs/{Digest.of(OTHER)}"
        assert (await ask(url)).status == 404
    ingests.close()
