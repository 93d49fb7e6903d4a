"""Small live clusters on loopback: real nodes, whose sockets are watched. Judges nothing.

Those who attack them: dht_attackers.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint, canonical
from dht.params import Params
from dht.protocol import ProviderProtocol
from dht.provider_reading import FoundProvider
from dht.records.records import SavedRecord
from dht.service import DHT
from dht.settings import Settings, StaticBootstrap
from dht.sockets import open_udp
from dht.wire.envelope import Key

CLUSTER: Final = "lab"
KEY: Final = Key(b"key1", b"1" * 32)
# As in the field, but that nobody waits for others to join in.
PARAMS: Final = dataclasses.replace(Params(), delta_debounce_s=0.01, delta_debounce_max_s=0.05)
WITHIN_S: Final = 8.0
_POLL_S: Final = 0.002


async def until(done: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Raises: TimeoutError."""
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {within_s:g} s")
        await asyncio.sleep(_POLL_S)


@contextlib.contextmanager
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing is logged as a warning or worse meanwhile, and nothing raises inside the event loop."""
    loop = asyncio.get_running_loop()
    raised: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: raised.append(context))
    caplog.clear()
    try:
        with caplog.at_level(logging.DEBUG):
            yield
    finally:
        loop.set_exception_handler(None)
    assert raised == []
    assert warnings(caplog) == []


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- nodes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """`peer`: from where it came, or to where it went."""

    datagram: bytes
    peer: Endpoint


@dataclass(slots=True)
class Wire:
    """A node's socket, watched. `deaf`: what comes from there is lost. Not `keeps`: only counted."""

    came: list[Seen] = field(default_factory=list)
    came_from: Counter[Endpoint] = field(default_factory=Counter)
    went: list[Seen] = field(default_factory=list)
    deaf: set[Endpoint] = field(default_factory=set)
    keeps: bool = True

    async def open_udp(
        self, factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        return await open_udp(lambda: _Tap(factory(), self), local)


class _Tap(asyncio.DatagramProtocol):
    def __init__(self, inner: asyncio.DatagramProtocol, wire: Wire) -> None:
        self._inner = inner
        self._wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(_Sender(cast(asyncio.DatagramTransport, transport), self._wire))

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        source = Endpoint(canonical(addr[0]), addr[1])
        if source in self._wire.deaf:
            return
        self._wire.came_from[source] += 1
        if self._wire.keeps:
            self._wire.came.append(Seen(data, source))
        self._inner.datagram_received(data, addr)

    def error_received(self, exc: Exception) -> None:
        self._inner.error_received(exc)


class _Sender(asyncio.DatagramTransport):
    def __init__(self, inner: asyncio.DatagramTransport, wire: Wire) -> None:
        super().__init__()
        self._inner = inner
        self._wire = wire

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._wire.keeps:
            self._wire.went.append(Seen(bytes(data), Endpoint(*addr)))
        self._inner.sendto(data, addr)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._inner.get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self._inner.is_closing()

    def close(self) -> None:
        self._inner.close()

    def abort(self) -> None:
        self._inner.abort()


class Wall:
    """A host's own clock, which a test may set."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def __call__(self) -> float:
        return time.time() + self.ahead_s


class Kept:
    """What outlives a restart."""

    def __init__(self) -> None:
        self.peers: list[Contact] = []
        self.records: list[SavedRecord] = []

    async def load_peers(self) -> list[Contact]:
        return self.peers

    async def save_peers(self, contacts: Iterable[Contact]) -> bool:
        self.peers = list(contacts)
        return True

    async def load_records(self) -> list[SavedRecord]:
        return self.records

    async def save_records(self, records: Iterable[SavedRecord]) -> bool:
        self.records = list(records)
        return True


@dataclass(frozen=True, slots=True)
class Live:
    dht: DHT
    wire: Wire

    @property
    def id(self) -> bytes:
        return self.dht.node.own.node

    @property
    def endpoint(self) -> Endpoint:
        return self.dht.endpoints[0]

    @property
    def protocol(self) -> ProviderProtocol:
        return self.dht._protocol

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.dht.stats.drops)

    @property
    def members(self) -> dict[bytes, tuple[Endpoint, ...]]:
        return {one.node: one.endpoints for one in self.dht.members}

    async def settled(self) -> None:
        """It has joined whom it knows, and waits for no answer."""
        joining = self.dht._membership._joining
        await until(lambda: self.dht.unready is None and not joining.locked() and not self.protocol._calls)

    @property
    def sizes(self) -> dict[str, int]:
        """All that somebody else could make it remember."""
        dht, guard = self.dht, self.dht._guard
        return {
            "members": len(dht.members),
            "lost": dht.members.lost_count,
            "records": len(dht.records),
            "tombstones": dht.records.tombstones_count,
            "providers": dht.records.providers_count,
            "claims": len(dht.node.claims),
            "waiters": dht.node.claims.waiters_count,
            "suspects": len(dht.node.suspects),
            "news": len(dht.node.gossip),
            "windows": len(guard._replay),
            "buckets": len(guard._limits),
            "tokens": len(guard._jar),
            "calls": len(self.protocol._calls),
            "late": len(self.protocol._late),
            "lookups": len(dht._lookups._flights),
            "shadows": len(dht._shadows),
        }

    def holds(self, key: bytes) -> set[bytes]:
        """The providers of the key in its own records, as it would tell them."""
        now = asyncio.get_running_loop().time()
        return {one.provider.node for one in self.dht.records.find(key, 64, now, random.Random(1))}

    async def find(self, key: bytes) -> dict[bytes, FoundProvider]:
        return {one.node: one async for one in self.dht.find_providers(key)}


@contextlib.asynccontextmanager
async def live(
    *bootstrap: Live,
    cluster: str = CLUSTER,
    keys: Sequence[Key] = (KEY,),
    node: bytes | None = None,
    epoch: int = 1,
    listen: Endpoint = Endpoint("127.0.0.1", 0),  # noqa: B008 immutable
    info: bytes = b"",
    params: Params = PARAMS,
    wall: Callable[[], float] = time.time,
    advertise: Endpoint | None = None,
    kept: Kept | None = None,
) -> AsyncIterator[Live]:
    wire = Wire()
    settings = Settings(
        node or os.urandom(20),
        epoch,
        cluster,
        tuple(keys),
        (listen,),
        info=info,
        bootstrap=tuple(StaticBootstrap(one.endpoint.address, one.endpoint.port) for one in bootstrap),
        advertise=advertise,
        params=params,
    )
    async with DHT(settings, open_udp=wire.open_udp, wall=wall, state=kept) as dht:
        yield Live(dht, wire)


@contextlib.asynccontextmanager
async def live_cluster(
    count: int, *, keys: Sequence[Key] = (KEY,), params: Params = PARAMS
) -> AsyncIterator[list[Live]]:
    """Everybody knows everybody."""
    async with contextlib.AsyncExitStack() as stack:
        nodes: list[Live] = []
        for _ in range(count):
            nodes.append(await stack.enter_async_context(live(*nodes[:1], keys=keys, params=params)))
        await until(lambda: all(knows_all(one, nodes) for one in nodes))
        for one in nodes:
            await one.settled()
        yield nodes


def knows_all(node: Live, nodes: Sequence[Live]) -> bool:
    return node.members.keys() == {one.id for one in nodes} - {node.id}
