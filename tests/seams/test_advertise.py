"""What the store says reaches discovery: the real advertiser between a real feed and a cluster in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from mirror.advertise.advertiser import Advertiser
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from tests.support.memory_discovery import MemoryCluster
from tests.support.memory_store import MemoryStore

US = Peer("10.0.0.1", 29021)
ONE, TWO = b"one", b"two"


class Site:
    """One host that advertises."""

    def __init__(self, *blobs: bytes) -> None:
        self.cluster = MemoryCluster()
        self.store = MemoryStore(*blobs)
        self.gauge: list[float] = []
        self.advertiser = Advertiser(self.store, self.cluster.member(US), self.gauge.append)

    def announced(self, *blobs: bytes) -> bool:
        """Whether exactly these of ONE and TWO are announced."""
        return {data for data in (ONE, TWO) if self.cluster.holders(str(Digest.of(data)))} == set(blobs)


@contextlib.asynccontextmanager
async def advertising(site: Site) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(site.advertiser.run())
        try:
            yield
        finally:
            running.cancel()


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not done():
            await asyncio.sleep(0)


async def test_what_is_held_is_announced_and_what_goes_is_withdrawn() -> None:
    site = Site(ONE)
    async with advertising(site):
        await until(lambda: site.announced(ONE))
        site.store.add(TWO)
        await until(lambda: site.announced(ONE, TWO))
        site.store.remove(Digest.of(ONE))
        await until(lambda: site.announced(TWO))
        await until(lambda: site.gauge[-1] == 1)


async def test_a_lost_store_keeps_its_announcements_and_a_new_snapshot_mends_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(ONE, TWO)
    async with advertising(site):
        await until(lambda: site.announced(ONE, TWO))
        site.store.go_away("containerd restarts")
        await until(lambda: "containerd restarts" in caplog.text)
        assert site.announced(ONE, TWO)
        site.store.remove(Digest.of(ONE))
        site.store.come_back()
        await until(lambda: site.announced(TWO))


async def test_a_host_that_stops_withdraws_nothing() -> None:
    """It still holds all of it, and is found with it when it is back."""
    site = Site(ONE, TWO)
    async with advertising(site):
        await until(lambda: site.announced(ONE, TWO))
    assert site.announced(ONE, TWO)
    assert site.advertiser.announced_count == 2
