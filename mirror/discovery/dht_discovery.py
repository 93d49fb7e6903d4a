"""Finds providers through the DHT. Translates between the port and the DHT; decides nothing.

Rules
1. Withdrawing is for content that went while the host stays. A host that stops leaves the DHT, in one datagram to each
   member, and its records stay with the others, unseen, until it is back or they expire: a restart finds them.
2. Providers whose words make no sense to this release are no providers.
3. That this host is alone, isolated, or not any more, is one line in the log each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

from dht.errors import BindFailed
from dht.ids import key_of
from dht.provider_reading import FoundProvider
from dht.service import DHT
from mirror.discovery import peer_info
from mirror.discovery.base import Peer, Provider, ProviderState
from mirror.discovery.errors import DiscoveryFailed

log = logging.getLogger(__name__)

# How late the log may be with what changed.
WATCH_S = 1.0

_COMPLETE = peer_info.state_number(ProviderState.COMPLETE)


class DhtDiscovery:
    """Implements `Discovery` on a DHT that has not begun. `own`: this host as others may know it."""

    def __init__(self, dht: DHT, own: Collection[Peer]) -> None:
        self._dht = dht
        self._own = frozenset(own)
        self._begun = asyncio.Event()

    async def run(self) -> None:
        """Serves until cancelled, then leaves and saves what a restart needs. Raises: DiscoveryFailed."""
        try:
            async with self._dht:
                self._begun.set()
                try:
                    await self._watch()
                finally:
                    self._begun.clear()
        except BindFailed as exc:
            raise DiscoveryFailed(f"--peer-addr: {exc}") from exc

    @property
    def has_begun(self) -> bool:
        return self._begun.is_set()

    @property
    def unready(self) -> str | None:
        return self._dht.unready if self._begun.is_set() else "the DHT has not begun"

    @property
    def trouble(self) -> str | None:
        """What an operator should mend so that others are found, in words; None: nothing that is known."""
        return self._dht.trouble if self._begun.is_set() else None

    async def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        if not self._begun.is_set():
            return
        async with aclosing(self._dht.find_providers(key_of(key))) as found:
            async for one in found:
                provider = _provider(one)
                # A node id that this host had before may still be remembered at its address.
                if provider is not None and provider.peer not in self._own:
                    yield provider

    async def announce(self, keys: Collection[str]) -> None:
        await self._begun.wait()
        self._dht.provide([key_of(key) for key in keys], _COMPLETE)

    async def withdraw(self, keys: Collection[str]) -> None:
        await self._begun.wait()
        self._dht.withdraw([key_of(key) for key in keys])

    async def flush(self) -> None:
        """Returns when all that was announced by now was told to those who keep it, or given up."""
        if self._begun.is_set():
            await self._dht.flush()

    async def _watch(self) -> None:
        """Tells the log who is there, until cancelled."""
        is_alone, is_isolated = True, False
        while True:
            members_count = len(self._dht.members)
            if is_alone != (members_count == 0):
                is_alone = not is_alone
                if is_alone:
                    log.info("alone: no other host of the cluster is left")
                else:
                    log.info("found a first host of the cluster", extra={"members": members_count})
            if is_isolated != self._dht.is_isolated:
                is_isolated = not is_isolated
                if is_isolated:
                    log.info(
                        "isolated: no host of the cluster answers; pulls go to the registry until one does",
                        extra={"members": members_count},
                    )
                else:
                    log.info("no longer isolated", extra={"members": members_count})
            await asyncio.sleep(WATCH_S)


def _provider(found: FoundProvider) -> Provider | None:
    told = peer_info.decode(found.info)
    if told is None:
        return None
    peer = Peer(found.endpoint.address, told.http_port)
    return Provider(peer, peer_info.state_of(found.state), told.is_seed)
