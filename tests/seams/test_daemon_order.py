"""The order in which a whole daemon stops, with the in-memory discovery in place of the static one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from pathlib import Path

import pytest

from mirror import daemon as composition
from mirror.discovery.base import Peer
from mirror.log import LogFormat, LogLevel
from mirror.oci.digest import Digest
from mirror.settings.model import Address, DirectoryStoreSettings, ServeSettings
from tests.support.memory_discovery import MemoryCluster, MemoryDiscovery

BLOB = b"held by this host"


class NotingDiscovery(MemoryDiscovery):
    """Notes what happens to it, in order."""

    def __init__(self) -> None:
        super().__init__(MemoryCluster(), Peer("10.0.0.1", 29021))
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


async def test_a_daemon_withdraws_while_its_discovery_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery = NotingDiscovery()
    monkeypatch.setattr(composition, "StaticDiscovery", lambda *arguments: discovery)
    blobs = tmp_path / "store" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (tmp_path / "store" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (blobs / Digest.of(BLOB).encoded).write_bytes(BLOB)
    anywhere = Address("127.0.0.1", 0)
    settings = ServeSettings(
        store=DirectoryStoreSettings(tmp_path / "store", 1 << 20),
        data_dir=tmp_path / "data",
        registry_addr=anywhere,
        peer_addr=anywhere,
        admin_addr=anywhere,
        metrics_addr=None,
        bootstrap=(),
        cluster="lab",
        cluster_secret_file=None,
        mirrors=(),
        filters=(re.compile("^never$"),),
        log_level=LogLevel.INFO,
        log_format=LogFormat.TEXT,
    )
    made = composition.Daemon(settings)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(made.run())
        while discovery.notes != ["announced"]:
            await asyncio.sleep(0.01)
        made.stop()
    assert discovery.notes == ["announced", "withdrew", "ended"]
