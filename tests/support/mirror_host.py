"""A host of a test: the daemon's real registry and peer servers on a memory store, in this process, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from dht.ids import NodeId
from mirror.discovery.base import Discovery, Peer
from mirror.download.download import DownloadPorts
from mirror.download.downloads import Downloads
from mirror.metrics import Metrics
from mirror.peer.client import PeerClient
from mirror.peer.server import PeerServer
from mirror.peer.strangers import Strangers
from mirror.registry.policy import Policy
from mirror.registry.registry import Registry
from mirror.secret import ClusterSecret, Subkey
from mirror.web.listener import Listener, bind
from tests.support.memory_discovery import HearsayDiscovery
from tests.support.memory_store import MemoryStore

SECRET = ClusterSecret((b"s" * 32,))


@dataclass(frozen=True, slots=True)
class MirrorHost:
    store: MemoryStore
    registry: Registry
    metrics: Metrics
    registry_url: str
    peer: Peer
    client: PeerClient


def subkeys(cluster: str = "lab", secret: ClusterSecret = SECRET) -> tuple[Subkey, ...]:
    return secret.subkeys("peerhttp", cluster)


@contextlib.asynccontextmanager
async def mirror_host(
    *blobs: bytes,
    peers: Sequence[Peer] = (),
    discovery: Discovery | None = None,
    keys: tuple[Subkey, ...] | None = None,
    mirrors: Sequence[str] = (),
    filters: Sequence[str] = (),
    has_files: bool = True,
    clock: Callable[[], float] = time.monotonic,
    unix_clock: Callable[[], float] = time.time,
) -> AsyncIterator[MirrorHost]:
    """`peers`: those that are said to hold whatever is asked for."""
    keys = subkeys() if keys is None else keys
    store = MemoryStore(*blobs, has_files=has_files)
    metrics = Metrics()
    strangers = Strangers()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(PeerClient(keys, unix_clock, strangers))
        found_by = discovery or HearsayDiscovery(peers)
        ports = DownloadPorts(found_by, client, store.discard_ingest, metrics.peer_received_bytes.inc, clock)
        downloads = Downloads(ports, random.Random(7))
        registry = Registry(
            store, downloads, Policy(mirrors, [re.compile(text) for text in filters]), metrics
        )
        server = PeerServer(
            store, keys, NodeId(random.randbytes(20)), unix_clock, metrics.peer_served_bytes.inc, strangers
        )
        listeners = []
        for name, app in (("registry", registry.app), ("peer", server.app)):
            listener = Listener(app, bind(name, "127.0.0.1", 0), drain_s=0.1)
            await listener.start()
            stack.push_async_callback(listener.stop)
            listeners.append(listener)
        registry_port, peer_port = (listener.address[1] for listener in listeners)
        running = asyncio.ensure_future(downloads.run())
        stack.push_async_callback(_end, running)
        await asyncio.sleep(0)  # lets `run` open its task group
        yield MirrorHost(
            store,
            registry,
            metrics,
            f"http://127.0.0.1:{registry_port}",
            Peer("127.0.0.1", peer_port),
            client,
        )


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


async def ask(url: str, method: str = "GET", **headers: str) -> Answer:
    """One request on a connection of its own; `whole` tells whether the body came to its promised end."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, URL(url, encoded=True), headers=names, allow_redirects=False) as response,
    ):
        body = bytearray()
        whole = True
        try:
            async for chunk in response.content.iter_any():
                body += chunk
        except aiohttp.ClientPayloadError:
            whole = False
        return Answer(response.status, dict(response.headers), bytes(body), whole)
