"""A defect in the transfer of one digest ends that transfer, and nothing else."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mirror.discovery.base import Peer
from mirror.herd.transfer import Transfer
from mirror.oci.digest import Digest
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.memory_discovery import MemoryCluster
from tests.support.memory_ingests import MemoryIngests
from tests.support.mirror_host import ask, mirror_host
from tests.support.store_beds import eventually

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


async def test_a_defect_on_hearing_of_a_liar_ends_the_transfer_that_heard(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not the one that was lied to, whose bytes are still to be thrown away."""

    def broken(_transfer: Transfer, _source_id: str) -> None:
        raise ArithmeticError("a defect")

    monkeypatch.setattr(Transfer, "distrust", broken)
    digest, other = Digest.of(DATA), Digest.of(OTHER)
    ingests = MemoryIngests()
    cluster = MemoryCluster()
    async with faulty_peer(DATA, Fault.WRONG_BYTE, 2_000_000) as liar:
        cluster.announce(str(digest), liar.peer)
        member = cluster.member(Peer("127.0.0.1", 1))
        async with mirror_host(discovery=member, ingests=ingests) as host:
            url = f"{host.registry_url}/v2/team/app/blobs/"
            assert (await ask(f"{url}{other}")).status == 404
            ingest = ingests.begin(digest, len(DATA))
            ingest.write((await ask(f"{url}{digest}")).body)
            await eventually(lambda: host.store.discarded == [digest], lambda: caplog.text)
    ended = [one.getMessage() for one in caplog.records if one.exc_info]
    assert ended == [f"the transfer of {other} failed"]
    ingests.close()
