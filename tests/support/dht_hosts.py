"""Hosts of a test whose discovery is a real DHT, in this process, on loopback: one is the bootstrap of the others."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dht.endpoints import Endpoint
from dht.ids import NodeId
from dht.service import DHT
from dht.sockets import open_udp
from mirror.discovery.base import Peer
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.discovery.dht_settings import DHT_USE, dht_settings, own_peers
from mirror.identity import Identity
from mirror.secret import ClusterSecret
from mirror.settings.model import Address, Bootstrap, StaticBootstrap
from mirror.web.listener import bind_with_udp

SECRET = ClusterSecret((b"s" * 32,))
# Joining takes some milliseconds; a loaded machine gets more.
JOIN_TIMEOUT_S = 20.0
POLL_S = 0.01


class Cable:
    """The network of one host, until it is cut."""

    def __init__(self) -> None:
        self._transports: list[asyncio.DatagramTransport] = []

    async def open_udp(
        self, factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        transport, protocol = await open_udp(factory, local)
        self._transports.append(transport)
        return transport, protocol

    def cut(self) -> None:
        """As a power cut: nobody is told."""
        for transport in self._transports:
            transport.abort()


@dataclass(frozen=True, slots=True)
class DhtHost:
    """`task` is its `run`."""

    dht: DHT
    cable: Cable
    discovery: DhtDiscovery
    peer: Peer
    task: asyncio.Task[None]

    @property
    def bootstrap(self) -> StaticBootstrap:
        return StaticBootstrap(Address(self.peer.address, self.peer.port))

    async def stop(self) -> None:
        """As the daemon does it."""
        self.task.cancel()
        await asyncio.wait([self.task])


@contextlib.asynccontextmanager
async def dht_host(
    state_dir: Path,
    *,
    bootstrap: Collection[Bootstrap] = (),
    secret: ClusterSecret | None = SECRET,
    cluster: str = "lab",
    address: str = "127.0.0.1",
    port: int = 0,
    identity: Identity | None = None,
) -> AsyncIterator[DhtHost]:
    """`port`: of the peer HTTP, which nobody serves here. `identity` None: a new one."""
    if port == 0:
        with bind_with_udp("peer", address, 0) as sock:
            port = sock.getsockname()[1]
    cable = Cable()
    dht = DHT(
        dht_settings(
            identity=identity or Identity(NodeId(random.randbytes(20)), 1),
            cluster=cluster,
            keys=secret.subkeys(DHT_USE, cluster) if secret else (),
            peer_host=address,
            peer_port=port,
            advertise_addr=None,
            bootstrap=bootstrap,
            state_dir=state_dir,
        ),
        open_udp=cable.open_udp,
    )
    discovery = DhtDiscovery(dht, own_peers(address, port, None))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(discovery.run())
        try:
            yield DhtHost(dht, cable, discovery, Peer(address, port), task)
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def dht_hosts(
    count: int, state_dir: Path, *, secret: ClusterSecret | None = SECRET
) -> AsyncIterator[list[DhtHost]]:
    """All know each other. The first is the bootstrap of all."""
    async with contextlib.AsyncExitStack() as stack:
        hosts: list[DhtHost] = []
        for number in range(count):
            entry = [host.bootstrap for host in hosts[:1]]
            folder = state_dir / f"node{number}"
            hosts.append(await stack.enter_async_context(dht_host(folder, bootstrap=entry, secret=secret)))
        await joined(hosts)
        yield hosts


async def joined(hosts: Sequence[DhtHost]) -> None:
    await until(lambda: all(len(host.dht.members) == len(hosts) - 1 for host in hosts))


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(JOIN_TIMEOUT_S):
        while not done():
            await asyncio.sleep(POLL_S)
