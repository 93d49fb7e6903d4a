"""The kademlia package's Server with a protocol of ours behind it: opens and closes the sockets.

Everything of the package that stores values, crawls in rounds, or reads and writes pickles is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn

from kademlia.network import Server
from kademlia.storage import IStorage

from dht.endpoints import Endpoint, canonical
from dht.errors import BindFailed, DHTError
from dht.protocol import ProviderProtocol
from dht.sockets import OpenUdp

# Port 0 for two families: the second may not be free where the first one was.
BIND_TRIES_COUNT = 8


class Unsupported(DHTError):
    """A verb of the kademlia package that this DHT does not have."""


class NoValues(IStorage):
    """The package wants a store of values. There is none."""

    def __setitem__(self, key: bytes, value: object) -> NoReturn:
        raise Unsupported("this DHT stores provider records, no values")

    def __getitem__(self, key: bytes) -> NoReturn:
        raise KeyError(key)

    def get(self, key: bytes, default: object = None) -> object:
        del key
        return default

    def iter_older_than(self, seconds_old: int) -> Iterator[tuple[bytes, object]]:
        del seconds_old
        return iter(())

    def __iter__(self) -> Iterator[tuple[bytes, object]]:
        return iter(())


class ProviderServer(Server):
    """`listen_on` before anything else; `stop` at the end, twice is fine."""

    def __init__(
        self, node: bytes, make: Callable[[ProviderServer], ProviderProtocol], open_udp: OpenUdp
    ) -> None:
        super().__init__(node_id=node, storage=NoValues())
        self._make = make
        self._open_udp = open_udp
        self.endpoints: tuple[Endpoint, ...] = ()

    async def listen_on(self, listen: tuple[Endpoint, ...]) -> ProviderProtocol:
        """One socket a family, on one port. Raises: BindFailed."""
        for tries_left in reversed(range(BIND_TRIES_COUNT)):
            protocol = self._make(self)
            try:
                await self._open(protocol, listen)
            except BindFailed:
                protocol.close()
                if tries_left and len(listen) > 1 and listen[0].port == 0:
                    continue
                raise
            self.protocol = protocol
            return protocol
        raise AssertionError("the last try raises")

    async def _open(self, protocol: ProviderProtocol, listen: tuple[Endpoint, ...]) -> None:
        found: list[Endpoint] = []
        for wanted in listen:
            local = wanted._replace(port=wanted.port or (found[0].port if found else 0))
            transport, _ = await self._open_udp(lambda: protocol, local)
            address, port = transport.get_extra_info("sockname")[:2]
            found.append(Endpoint(canonical(address), port))
        self.endpoints = tuple(found)

    def stop(self) -> None:
        if isinstance(self.protocol, ProviderProtocol):
            self.protocol.close()

    def refresh_table(self, interval: int = 3600) -> None:
        """The package would crawl and republish every hour; members and records are kept fresh elsewhere."""

    async def listen(self, port: int, interface: str = "") -> NoReturn:
        raise Unsupported("use listen_on")

    async def bootstrap(self, addrs: list[tuple[str, int]]) -> NoReturn:
        raise Unsupported("nodes are met through dht.membership")

    async def get(self, key: str) -> NoReturn:
        raise Unsupported("this DHT finds providers, no values")

    async def set(self, key: str, value: object) -> NoReturn:
        raise Unsupported("this DHT stores provider records, no values")

    async def set_digest(self, dkey: bytes, value: object) -> NoReturn:
        raise Unsupported("this DHT stores provider records, no values")

    def save_state(self, fname: str) -> NoReturn:
        raise Unsupported("state is saved by dht.state_files, never as a pickle")

    @classmethod
    async def load_state(cls, fname: str, port: int, interface: str = "") -> NoReturn:
        raise Unsupported("state is loaded by dht.state_files, never from a pickle")

    def save_state_regularly(self, fname: str, frequency: int = 600) -> NoReturn:
        raise Unsupported("state is saved by dht.state_files, never as a pickle")
