"""A host of a test: the daemon's real registry and peer servers on a memory store, in this process, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from dht.ids import NodeId
from mirror.discovery.base import Discovery, Peer
from mirror.herd.herd import Herd, HerdPorts, find_with
from mirror.herd.plain_claims import PlainClaims
from mirror.ingest.base import IngestWatch
from mirror.metrics import Metrics
from mirror.oci.scope import ImageScope
from mirror.origin.base import Prober
from mirror.origin.memory import OriginMemory
from mirror.peer.channel import Channel
from mirror.peer.channel_dialer import ChannelDialer
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channels import Channels, Me
from mirror.peer.client import PeerClient
from mirror.peer.news import News
from mirror.peer.server import PeerServer
from mirror.peer.strangers import Strangers
from mirror.peer.streams import PeerStreams
from mirror.registry.content import Content, Relaying
from mirror.registry.fallback import OriginFailures
from mirror.registry.manifests import ManifestCache
from mirror.registry.policy import Policy
from mirror.registry.registry import Answerers, Registry
from mirror.registry.tags import TagRequests
from mirror.relay.spool import Spool
from mirror.secret import ClusterSecret, Subkey
from mirror.steer.claims import Claims
from mirror.steer.timers import Rungs
from mirror.tags.answers import TagAnswers, TagPorts
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.rules import TagPolicy
from mirror.web.listener import Listener, bind
from tests.support.memory_discovery import HearsayDiscovery
from tests.support.memory_store import MemoryStore
from tests.support.no_ingests import NoIngests

SPOOL_BYTES = 1 << 30
SECRET = ClusterSecret((b"s" * 32,))


@dataclass(frozen=True, slots=True)
class MirrorHost:
    store: MemoryStore
    registry: Registry
    metrics: Metrics
    registry_url: str
    peer: Peer
    client: PeerClient
    spool: Spool
    herd: Herd
    # Registries that were asked for with a namespace, in order.
    seen: list[str]


@dataclass(frozen=True, slots=True)
class KnownTags:
    """What this host, and others, are said to have."""

    records: Mapping[TagName, OwnTag] = field(default_factory=dict)
    attested: Sequence[Attestation] = ()

    def own(self, name: TagName) -> OwnTag | None:
        return self.records.get(name)

    async def ask(self, name: TagName) -> Sequence[Attestation]:
        return self.attested


@dataclass(frozen=True, slots=True)
class Upstream:
    """What the registry side of a host is told of origins and tags."""

    policy: TagPolicy = TagPolicy.UPSTREAM
    prober: Prober | None = None
    relay: Relaying | None = None
    known: KnownTags = field(default_factory=KnownTags)
    memory: OriginMemory = field(default_factory=OriginMemory)
    stale_private: Sequence[ImageScope] = ()

    def tag_ports(self, unix_clock: Callable[[], float]) -> TagPorts:
        return TagPorts(
            self.known,
            self.known,
            self.prober,
            self.memory.recall,
            lambda one: any(scope.covers(one.registry, one.name) for scope in self.stale_private),
            lambda: len(self.known.attested),
            unix_clock,
        )


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
    protected: Sequence[ImageScope] = (),
    upstream: Upstream | None = None,
    has_files: bool = True,
    clock: Callable[[], float] = time.monotonic,
    unix_clock: Callable[[], float] = time.time,
    claims: Claims | None = None,
    ingests: IngestWatch | None = None,
    has_channels: bool = True,
    verify_always: bool = False,
    rungs: Rungs | None = None,
    spool_bytes: int = SPOOL_BYTES,
    peer_middleware: Any = None,
) -> AsyncIterator[MirrorHost]:
    """`peers`: those that are said to hold whatever is asked for. `upstream` None: no registry is asked."""
    upstream = upstream or Upstream()
    keys = subkeys() if keys is None else keys
    store = MemoryStore(*blobs, has_files=has_files)
    metrics = Metrics()
    strangers = Strangers()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(PeerClient(keys, unix_clock, strangers))
        found_by = discovery or HearsayDiscovery(peers)
        node = NodeId(random.randbytes(20))
        peer_socket = bind("peer", "127.0.0.1", 0)
        channel_params = ChannelParams()
        dialer = await stack.enter_async_context(ChannelDialer(client.contacts, strangers, channel_params))
        spool_folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peili-spool-"))
        spool = Spool(Path(spool_folder), quota_bytes=spool_bytes, clock=clock)
        await stack.enter_async_context(spool)
        made: list[Herd] = []

        def on_news(channel: Channel, told: News) -> None:
            made[0].on_news(channel, told)

        channels = Channels(
            Me(node, peer_socket.getsockname()[1], ""), dialer, on_news, strangers, channel_params
        )
        herd = Herd(
            HerdPorts(
                claims=claims or PlainClaims(find_with(found_by)),
                discovery=found_by,
                client=client,
                channels=channels,
                ingests=ingests or NoIngests(),
                store=store,
                spool=spool,
                announced=_at_once,
                count_bytes=lambda _, count_bytes: metrics.peer_received_bytes.inc(count_bytes),
                clock=clock,
                streams=PeerStreams(client.contacts, strangers)
                if ingests is not None and not verify_always
                else None,
            ),
            random.Random(7),
            rungs=rungs,
        )
        made.append(herd)
        content = Content(store, herd, upstream.relay, metrics, ManifestCache())
        failures = OriginFailures(upstream.prober, metrics, clock)
        tags = TagAnswers(upstream.policy, upstream.tag_ports(unix_clock))
        policy = Policy(mirrors, [re.compile(text) for text in filters], protected)
        seen: list[str] = []
        answerers = Answerers(content, TagRequests(tags, content, failures, metrics), failures, seen.append)
        registry = Registry(answerers, policy, metrics)
        server = PeerServer(
            store,
            keys,
            node,
            unix_clock,
            lambda _, count_bytes: metrics.peer_served_bytes.inc(count_bytes),
            strangers,
            accept_channel=channels.accept if has_channels else None,
            lender=herd,
        )
        if peer_middleware is not None:
            server.app.middlewares.append(peer_middleware)
        listeners = []
        for sock, app in ((bind("registry", "127.0.0.1", 0), registry.app), (peer_socket, server.app)):
            listener = Listener(app, sock, drain_s=0.1)
            await listener.start()
            stack.push_async_callback(listener.stop)
            listeners.append(listener)
        registry_port, peer_port = (listener.address[1] for listener in listeners)
        running = asyncio.ensure_future(herd.run())
        stack.push_async_callback(_end, running)
        await asyncio.sleep(0)  # lets `run` open its task group
        yield MirrorHost(
            store,
            registry,
            metrics,
            f"http://127.0.0.1:{registry_port}",
            Peer("127.0.0.1", peer_port),
            client,
            spool,
            herd,
            seen,
        )


async def _at_once() -> None:
    """What these hosts say of themselves, the test's cluster knows."""


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
    """One request of containerd 1.7 (unless `User_Agent` says else) on a connection of its own; `whole` tells whether
    the body came to its promised end."""
    names = {"User-Agent": "containerd/1.7.24"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
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
