"""Makes the parts of the daemon that have to do with registries: the client, the probe, tags, the relay. A part of the
composition root; decides nothing else.

Substitutions: `--origin off` has no prober and no relay, `--origin steer` no relay; a directory store has the tags that
its index.json names, and keeps what is relayed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from containerd.client import Client
from containerd.errors import ContainerdError
from containerd.hosts.layout import Tags as HostsTags
from mirror.discovery.base import Discovery
from mirror.metrics import Metrics
from mirror.oci.scope import ImageScope
from mirror.origin.base import Prober, Repository
from mirror.origin.client import OriginClient
from mirror.origin.connections import Connections, Timeouts
from mirror.origin.credentials import Credentials
from mirror.origin.first_seen import Entries, FirstSeen
from mirror.origin.hosts_routes import HostsRoutes
from mirror.origin.memory import OriginMemory
from mirror.origin.memory_file import MemoryFile
from mirror.origin.probe import OriginProbe
from mirror.origin.proxies import Proxies
from mirror.origin.resolver import AddressGuard
from mirror.peer.client import PeerClient
from mirror.relay.limits import RelayPorts
from mirror.relay.relay import Relay
from mirror.relay.spool import Spool
from mirror.settings.model import (
    ContainerdStoreSettings,
    DirectoryStoreSettings,
    HostsSettings,
    OriginUse,
    ServeSettings,
    StaleTags,
    Tags,
)
from mirror.store.base import ContentStore
from mirror.store.blob_copies import BlobCopies
from mirror.store.containerd_tags import ContainerdTags
from mirror.store.directory_store import DirectoryStore
from mirror.store.layout_tags import LayoutTags
from mirror.store.no_tags import NoTags
from mirror.tags.answers import TagAnswers, TagPorts
from mirror.tags.attest import Attestor
from mirror.tags.keeper import TagKeeper
from mirror.tags.rules import TagPolicy
from mirror.tags.source import TagSource

SPOOL_FOLDER = "spool"
# containerd may start after us; nobody waits for its version but entries of registries that are new.
VERSION_RETRY_S = 5.0

_STALE_TAGS = {StaleTags.AUTO: None, StaleTags.ON: True, StaleTags.OFF: False}
_HOSTS_TAGS: dict[Tags, HostsTags] = {Tags.UPSTREAM: "upstream", Tags.PEERS: "peers", Tags.OFF: "off"}


@dataclass(frozen=True, slots=True)
class Around:
    """What these parts need of the daemon's others. `own_ports`: TCP ports that it listens on."""

    store: ContentStore
    discovery: Discovery
    client: PeerClient
    metrics: Metrics
    other_hosts_count: Callable[[], int]
    own_ports: Collection[int]


class Origins:
    """`prober` None: no registry is asked. `relay` None: nothing is fetched from one."""

    def __init__(
        self,
        tags: TagAnswers,
        keeper: TagKeeper,
        prober: Prober | None,
        relay: Relay | None,
        memory: OriginMemory,
        memory_file: MemoryFile,
        registries: NewRegistries | None,
        copies: BlobCopies | None,
    ) -> None:
        self.tags = tags
        self.keeper = keeper
        self.prober = prober
        self.relay = relay
        self._memory = memory
        self._memory_file = memory_file
        self._registries = registries
        self._copies = copies

    def saw_registry(self, registry: str) -> None:
        """At each request that names one."""
        if self._registries is not None:
            self._registries.saw(registry)

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.keeper.run(), name="tags")
            tasks.create_task(self._memory_file.run(self._memory), name="origins file")
            if self.relay is not None:
                tasks.create_task(self.relay.run(), name="relay")
            if self._copies is not None:
                tasks.create_task(self._copies.run(), name="copies of what was relayed")
            if self._registries is not None:
                tasks.create_task(self._registries.run(), name="first seen registries")


@contextlib.asynccontextmanager
async def origins(settings: ServeSettings, around: Around) -> AsyncIterator[Origins]:
    """Connected to nobody yet. Raises: CredentialsDamaged, SpoolUnusable."""
    memory_file = MemoryFile(settings.data_dir, time.time)
    memory = await memory_file.load()
    async with contextlib.AsyncExitStack() as stack:
        prober: Prober | None = None
        relay: Relay | None = None
        copies: BlobCopies | None = None
        registries: NewRegistries | None = None
        if settings.origin is not OriginUse.OFF:
            routes = _routes(settings)
            guard = AddressGuard(named_with=routes.named_with, own_ports=lambda: around.own_ports)
            credentials = Credentials(settings.docker_config, time.monotonic)
            await asyncio.to_thread(credentials.load)
            client = await stack.enter_async_context(OriginClient(routes, credentials, guard, time.monotonic))
            prober = OriginProbe(client, memory, time.monotonic, time.time)
            if settings.origin is OriginUse.RELAY:
                copies = _copies(settings, around)
                relay = await _relay(settings, around, client, copies, stack)
            if isinstance(settings.store, ContainerdStoreSettings) and settings.hosts.add_registries:
                connections = Connections(guard, time.monotonic, Proxies.of(os.environ), Timeouts())
                registries = NewRegistries(
                    settings.store.containerd_sock,
                    settings.hosts,
                    settings.tags,
                    routes,
                    await stack.enter_async_context(connections),
                )
        attestor = Attestor(around.discovery, around.client)
        policy = TagPolicy(settings.tags.value)
        is_named = _covering(settings.stale_private)
        keeper = TagKeeper(
            _tag_source(settings),
            around.discovery,
            prober,
            memory,
            attestor,
            policy=policy,
            is_named=is_named,
            unix_clock=time.time,
            clock=time.monotonic,
            rng=random.Random(),
            gauge=around.metrics.announced_tags.set,
        )
        ports = TagPorts(
            keeper, attestor, prober, memory.recall, is_named, around.other_hosts_count, time.time
        )
        tags = TagAnswers(policy, ports)
        yield Origins(tags, keeper, prober, relay, memory, memory_file, registries, copies)


class NewRegistries:
    """Registries first heard of in a request, once containerd has told its version: the layout depends on it."""

    def __init__(
        self, sock: Path, hosts: HostsSettings, tags: Tags, routes: HostsRoutes, connections: Connections
    ) -> None:
        self._sock = sock
        self._hosts = hosts
        self._tags = tags
        self._routes = routes
        self._connections = connections
        self._first_seen: FirstSeen | None = None

    def saw(self, registry: str) -> None:
        if self._first_seen is not None:
            self._first_seen.saw(registry)

    async def run(self) -> None:
        """Serves until cancelled."""
        entries = Entries(
            self._hosts.hosts_dir,
            self._hosts.registry_url,
            _HOSTS_TAGS[self._tags],
            self._hosts.containerd_config_path,
            await self._version(),
            _STALE_TAGS[self._hosts.stale_tags],
        )
        self._first_seen = FirstSeen(entries, self._routes, self._connections, time.monotonic)
        await self._first_seen.run()

    async def _version(self) -> tuple[int, int] | None:
        while True:
            with contextlib.suppress(ContainerdError):
                async with Client(self._sock) as client:
                    release = (await client.version()).release
                    return release if release > (0, 0) else None
            await asyncio.sleep(VERSION_RETRY_S)


def _routes(settings: ServeSettings) -> HostsRoutes:
    return HostsRoutes(
        settings.hosts.hosts_dir,
        config_path=settings.hosts.containerd_config_path,
        containerd_version=None,
        registry_url=settings.hosts.registry_url,
        clock=time.monotonic,
    )


async def _relay(
    settings: ServeSettings,
    around: Around,
    client: OriginClient,
    copies: BlobCopies | None,
    stack: contextlib.AsyncExitStack,
) -> Relay:
    spool = Spool(
        settings.data_dir / SPOOL_FOLDER, quota_bytes=settings.spool_size_bytes, clock=time.monotonic
    )
    await stack.enter_async_context(spool)
    return Relay(
        RelayPorts(
            client,
            spool,
            around.store.discard_ingest,
            around.metrics.origin_received_bytes.inc,
            time.monotonic,
            random.Random(),
            keep=None if copies is None else copies.keep,
        )
    )


def _copies(settings: ServeSettings, around: Around) -> BlobCopies | None:
    """Of what is relayed, where nobody else on this host keeps it for its peers: containerd does."""
    wanted, store = settings.store, around.store
    if not isinstance(wanted, DirectoryStoreSettings) or not isinstance(store, DirectoryStore):
        return None
    return BlobCopies(store, wanted.store_dir, quota_bytes=wanted.cache_size_bytes, clock=time.monotonic)


def _tag_source(settings: ServeSettings) -> TagSource:
    if settings.tags is Tags.OFF:
        return NoTags()
    match settings.store:
        case ContainerdStoreSettings() as store:
            return ContainerdTags(store.containerd_sock, namespaces=store.containerd_namespaces)
        case DirectoryStoreSettings() as store:
            return LayoutTags(store.store_dir)


def _covering(scopes: Sequence[ImageScope]) -> Callable[[Repository], bool]:
    return lambda one: any(scope.covers(one.registry, one.name) for scope in scopes)
