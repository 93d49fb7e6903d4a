"""Carries what the store says to discovery. Decides nothing: see `inventory`.

Says nothing at the end: a host that stops still holds what it holds, and how it leaves is discovery's part.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mirror.advertise.inventory import Announce, Inventory, Withdraw
from mirror.discovery.base import Discovery
from mirror.oci.digest import Digest
from mirror.store.base import ContentStore, StreamLost

log = logging.getLogger(__name__)


class Advertiser:
    """`gauge` is told how many digests are announced."""

    def __init__(self, store: ContentStore, discovery: Discovery, gauge: Callable[[float], None]) -> None:
        self._store = store
        self._discovery = discovery
        self._gauge = gauge
        self._inventory = Inventory()

    @property
    def announced_count(self) -> int:
        return self._inventory.announced_count

    def is_announced(self, digest: Digest) -> bool:
        return self._inventory.is_announced(digest)

    async def run(self) -> None:
        """Serves until cancelled."""
        async for event in self._store.watch():
            if isinstance(event, StreamLost):
                log.warning("the content store went away: %s; what was announced stays", event.reason)
            for command in self._inventory.handle(event):
                match command:
                    case Announce(keys):
                        await self._discovery.announce(keys)
                    case Withdraw(keys):
                        await self._discovery.withdraw(keys)
            self._gauge(self._inventory.announced_count)
