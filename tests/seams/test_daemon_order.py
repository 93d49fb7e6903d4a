"""What a whole daemon does while it stops, in which order, and what the others know of it; and how its peer port is
wired."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import pytest

from dht.service import DHT
from mirror import daemon as composition
from mirror.discovery.base import Peer
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.log import LogFormat, LogLevel
from mirror.oci.digest import Digest
from mirror.peer.news import ChannelDown, ChannelEnd, PeerLoad
from mirror.peer.server import CONNECTIONS
from mirror.peer.slots import UploadSlots
from mirror.settings.model import (
    Address,
    Bootstrap,
    DirectoryStoreSettings,
    HostsSettings,
    OriginUse,
    ServeSettings,
    StaleTags,
    Tags,
    Verify,
)
from tests.support.channel_hosts import channel_host
from tests.support.dht_hosts import POLL_S, dht_host, until
from tests.support.raw_client import raw_client

BLOB = b"held by this host"
ANYWHERE = Address("127.0.0.1", 0)


class NotingDiscovery(DhtDiscovery):
    """Notes what happens to it, in order."""

    def __init__(self, dht: DHT, own: Collection[Peer]) -> None:
        super().__init__(dht, own)
        self.peer = next(peer for peer in own if peer.address == ANYWHERE.host)
        self.notes: list[str] = []

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            self.notes.append("ended")

    async def announce(self, keys: Collection[str]) -> None:
        await super().announce(keys)
        self.notes.append("announced")

    async def withdraw(self, keys: Collection[str]) -> None:
        await super().withdraw(keys)
        self.notes.append("withdrew")


def blob_path(folder: Path) -> Path:
    return folder / "store" / "blobs" / "sha256" / Digest.of(BLOB).encoded


def settings(folder: Path, bootstrap: tuple[Bootstrap, ...] = ()) -> ServeSettings:
    blob_path(folder).parent.mkdir(parents=True)
    (folder / "store" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    blob_path(folder).write_bytes(BLOB)
    return ServeSettings(
        store=DirectoryStoreSettings(folder / "store", 1 << 20),
        data_dir=folder / "data",
        registry_addr=ANYWHERE,
        peer_addr=ANYWHERE,
        admin_addr=ANYWHERE,
        metrics_addr=None,
        advertise_addr=None,
        bootstrap=bootstrap,
        cluster="lab",
        cluster_secret_file=None,
        mirrors=(),
        filters=(),
        origin=OriginUse.OFF,
        verify=Verify.AUTO,
        tags=Tags.OFF,
        stale_private=(),
        protect=(),
        docker_config=None,
        spool_size_bytes=1 << 20,
        hosts=HostsSettings(
            folder / "hosts", "http://127.0.0.1:1", StaleTags.AUTO, None, add_registries=False
        ),
        log_level=LogLevel.INFO,
        log_format=LogFormat.TEXT,
    )


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[NotingDiscovery]:
    """The discovery of each daemon, once it is composed."""
    found: list[NotingDiscovery] = []

    def make(dht: DHT, own: Collection[Peer]) -> NotingDiscovery:
        found.append(NotingDiscovery(dht, own))
        return found[-1]

    monkeypatch.setattr(composition, "DhtDiscovery", make)
    return found


@contextlib.asynccontextmanager
async def running(told: ServeSettings) -> AsyncIterator[composition.Daemon]:
    """Ends when it was stopped."""
    daemon = composition.Daemon(told)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.run())
        yield daemon
        daemon.stop()


async def test_a_daemon_that_stops_withdraws_nothing(tmp_path: Path, made: list[NotingDiscovery]) -> None:
    async with running(settings(tmp_path)):
        await until(lambda: bool(made) and made[0].notes == ["announced"])
    assert made[0].notes == ["announced", "ended"]


async def test_a_daemon_that_stops_says_so_on_its_channels_and_does_not_wait_for_them(
    tmp_path: Path, made: list[NotingDiscovery]
) -> None:
    async with channel_host(1, keys=()) as other:
        async with running(settings(tmp_path)) as daemon:
            await until(lambda: bool(made) and made[0].notes == ["announced"])
            await other.channels.reach(made[0].peer)
            stopped_at = time.monotonic()
            daemon.stop()
        assert time.monotonic() - stopped_at < composition.DRAIN_S / 2
        assert (await other.hears(ChannelDown)).reason is ChannelEnd.STOPPED


async def test_others_lose_sight_of_a_daemon_that_stops_and_find_its_records_when_it_is_back(
    tmp_path: Path, made: list[NotingDiscovery]
) -> None:
    key = str(Digest.of(BLOB))
    async with dht_host(tmp_path / "other", secret=None) as other:

        async def found() -> set[Peer]:
            return {provider.peer async for provider in other.discovery.find_providers(key)}

        told = settings(tmp_path, (other.bootstrap,))
        async with running(told) as daemon:
            await until(lambda: len(other.dht.records) == 1)
            stopped_at = time.monotonic()
            daemon.stop()
            await until(lambda: len(other.dht.members) == 0)
            # It says goodbye at once, and saves little.
            assert time.monotonic() - stopped_at < 2
        assert await found() == set()
        assert len(other.dht.records) == 1, "what it announced is kept for its return"
        # It has nothing to announce any more, and is not told whom to ask: what is found then is what both have kept.
        blob_path(tmp_path).unlink()
        async with running(dataclasses.replace(told, bootstrap=())):
            async with asyncio.timeout(30):
                while not await found():
                    await asyncio.sleep(POLL_S)
            assert await found() == {made[1].peer}
            assert made[1].notes == []


async def test_strangers_cannot_hold_connections_to_the_peer_port(
    tmp_path: Path, made: list[NotingDiscovery], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = dataclasses.replace(CONNECTIONS, first_request_s=0.2)
    monkeypatch.setattr("mirror.daemon.CONNECTIONS", limits)
    async with running(settings(tmp_path)):
        await until(lambda: bool(made) and made[0].notes == ["announced"])
        async with raw_client((made[0].peer.address, made[0].peer.port)) as stranger:
            assert (await stranger.rest())[0] == b""


async def test_peers_hear_how_many_upload_slots_are_taken(
    tmp_path: Path, made: list[NotingDiscovery], monkeypatch: pytest.MonkeyPatch
) -> None:
    tellers: list[Callable[[float], None]] = []

    def make(*, on_change: Callable[[float], None]) -> UploadSlots:
        tellers.append(on_change)
        return UploadSlots(on_change=on_change)

    monkeypatch.setattr(composition, "UploadSlots", make)
    async with channel_host(1, keys=()) as other, running(settings(tmp_path)):
        await until(lambda: bool(made) and made[0].notes == ["announced"])
        await other.channels.reach(made[0].peer)
        tellers[0](0.5)
        await other.until(lambda: PeerLoad(0.5) in other.of(PeerLoad))
