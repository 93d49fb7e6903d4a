"""The composition root: makes every part, starts them in order, stops them in reverse. Decides nothing else.

Modes are substitutions made here: another store, another discovery. Start order: addresses, store, peers,
registry, ready. On SIGTERM or SIGINT: unready, no new downloads, open answers drain, leave, exit; a second signal ends
the process at once. What this host holds is not withdrawn: the same records shall be true after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dht.service import DHT
from mirror.admin.server import AdminServer, metrics_app
from mirror.advertise.advertiser import Advertiser
from mirror.data_dir import owned
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.discovery.dht_settings import DHT_USE, dht_settings, own_peers
from mirror.herd.herd import Herd
from mirror.herding import HerdAround, herding, ingests_of
from mirror.host.notify import Notifier
from mirror.identity import Identity, begin
from mirror.ingest.base import IngestWatch
from mirror.insight import InsightAround, views
from mirror.keep.containerd_fates import ContainerdFates
from mirror.keep.layer_keeper import LayerKeeper
from mirror.metrics import Metrics
from mirror.origins import Around, Origins, origins
from mirror.peer.channels import Channels
from mirror.peer.client import PeerClient
from mirror.peer.server import CONNECTIONS, PeerServer
from mirror.peer.slots import UploadSlots
from mirror.peer.strangers import Strangers
from mirror.peer.tally import PeerTally
from mirror.registry.content import Content
from mirror.registry.fallback import OriginFailures
from mirror.registry.manifests import ManifestCache
from mirror.registry.policy import Policy
from mirror.registry.registry import Answerers, Registry
from mirror.registry.tags import TagRequests
from mirror.secret import ClusterSecret, Subkey
from mirror.settings.model import Address, DirectoryStoreSettings, ServeSettings
from mirror.store.base import ContentStore
from mirror.store.cached_store import CachedStore
from mirror.store.containerd_store import ContainerdStore
from mirror.store.directory_store import DirectoryStore
from mirror.version import VERSION
from mirror.web.listener import Listener, bind, bind_with_udp
from mirror.web.watchdog import Watchdog

log = logging.getLogger(__name__)

# A layer of a gigabyte at 100 MB/s just ends; Kubernetes allows 30 s in all.
DRAIN_S = 10.0
# Status and metrics are short answers.
ADMIN_DRAIN_S = 0.5
PEER_HTTP_USE = "peerhttp"
# Below the data directory: layers that containerd does not keep.
CACHE_FOLDER = "cache"


@dataclass(frozen=True, slots=True)
class _Parts:
    store: ContentStore
    dht: DHT
    discovery: DhtDiscovery
    herd: Herd
    origins: Origins
    keeper: LayerKeeper | None
    advertiser: Advertiser
    registry: Registry
    peer_server: PeerServer
    metrics: Metrics


class _Service(Protocol):
    async def run(self) -> None: ...


class Daemon:
    """One daemon. `stop` may be called from a signal handler."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()
        self._started_s = time.monotonic()
        self._notifier = Notifier.of_process()
        self._content_root: Callable[[], Path | None] = lambda: None

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Serves until `stop`. Raises: MirrorError where it cannot start."""
        settings = self._settings
        secret = self._secret()
        keys = secret.subkeys(PEER_HTTP_USE, settings.cluster) if secret else ()
        strangers = Strangers()
        async with contextlib.AsyncExitStack() as stack:
            # Addresses first: a second daemon on the host fails here, before it touches anything.
            sockets = {
                name: stack.enter_context(contextlib.closing(_bound(name, address)))
                for name, address in self._addresses().items()
            }
            stack.enter_context(owned(settings.data_dir))
            identity = begin(settings.data_dir)
            client = await stack.enter_async_context(PeerClient(keys, time.time, strangers))
            store = self._store()
            peer_port: int = sockets["peer"].getsockname()[1]
            dht = self._dht(identity, secret, peer_port)
            own = own_peers(settings.peer_addr.host, peer_port, settings.advertise_addr)
            discovery, metrics, tally = DhtDiscovery(dht, own), Metrics(), PeerTally()
            ports = [it.getsockname()[1] for it in sockets.values()]
            around = Around(store, discovery, client, metrics, lambda: len(dht.members), ports)
            upstream = await stack.enter_async_context(origins(settings, around))
            ingests = ingests_of(settings, self._content_root)
            herd_around = HerdAround(
                store,
                ingests,
                dht,
                discovery,
                own,
                client,
                strangers,
                metrics,
                tally,
                identity.node,
                peer_port,
            )
            herd, channels = await stack.enter_async_context(herding(settings, herd_around))
            keeper = self._keeper(store, ingests)
            parts = self._parts(
                around, dht, discovery, upstream, keys, identity, strangers, herd, channels, keeper, tally
            )
            peer = Listener(parts.peer_server.app, sockets["peer"], drain_s=DRAIN_S, limits=CONNECTIONS)
            registry = Listener(parts.registry.app, sockets["registry"], drain_s=DRAIN_S)
            admin = Listener(
                self._admin(parts, channels, tally, identity, keys).app,
                sockets["admin"],
                drain_s=ADMIN_DRAIN_S,
            )
            aside = [admin]
            if "metrics" in sockets:
                aside.append(Listener(metrics_app(parts.metrics), sockets["metrics"], drain_s=ADMIN_DRAIN_S))
            await self._serve(parts, [peer, registry], aside)

    async def _serve(self, parts: _Parts, content: list[Listener], aside: list[Listener]) -> None:
        running: list[_Service] = [
            parts.store,
            parts.discovery,
            parts.herd,
            parts.advertiser,
            parts.origins,
            Watchdog(content[-1]),
            self._notifier,
        ]
        if parts.keeper is not None:
            running.append(parts.keeper)
        try:
            async with asyncio.TaskGroup() as tasks:
                services = [
                    tasks.create_task(service.run(), name=type(service).__name__) for service in running
                ]
                try:
                    for listener in [*aside, *content]:
                        await listener.start()
                    host, port = content[-1].address
                    log.info("serving containerd", extra={"address": f"{host}:{port}", "version": VERSION})
                    self._notifier.ready(f"serving containerd at {host}:{port}")
                    await self._stopping.wait()
                    self._notifier.stopping(f"open answers have {DRAIN_S:g} s")
                    log.info("stopping: open answers have %g s", DRAIN_S)
                    parts.registry.drain()
                finally:
                    # Open answers may still need another source: discovery leaves after them, within two seconds.
                    async with asyncio.TaskGroup() as stops:
                        for listener in content:
                            stops.create_task(listener.drain())
                    for service in services:
                        service.cancel()
        finally:
            # The herd has said good-bye on its channels by now.
            for listener in [*content, *aside]:
                await listener.stop()
        log.info("stopped")

    def _addresses(self) -> dict[str, Address]:
        settings = self._settings
        addresses = {
            "registry": settings.registry_addr,
            "peer": settings.peer_addr,
            "admin": settings.admin_addr,
        }
        if settings.metrics_addr is not None:
            addresses["metrics"] = settings.metrics_addr
        return addresses

    def _secret(self) -> ClusterSecret | None:
        path = self._settings.cluster_secret_file
        if path is None:
            log.warning(
                "no --cluster-secret-file: any machine with a private address may join, and may fetch cached content "
                "by digest"
            )
            return None
        return ClusterSecret.load(path)

    def _store(self) -> ContentStore:
        wanted = self._settings.store
        if isinstance(wanted, DirectoryStoreSettings):
            return DirectoryStore(wanted.store_dir, quota_bytes=wanted.cache_size_bytes)
        runtime = ContainerdStore(
            wanted.containerd_sock,
            namespaces=wanted.containerd_namespaces,
            content_path=wanted.containerd_content_path,
        )
        self._content_root = lambda: runtime.content_root
        if not wanted.cache_size_bytes:
            return runtime
        folder = self._settings.data_dir / CACHE_FOLDER
        return CachedStore(runtime, folder, quota_bytes=wanted.cache_size_bytes, clock=time.monotonic)

    def _keeper(self, store: ContentStore, ingests: IngestWatch) -> LayerKeeper | None:
        wanted = self._settings.store
        if isinstance(wanted, DirectoryStoreSettings) or not isinstance(store, CachedStore):
            return None
        fates = ContainerdFates(wanted.containerd_sock, namespaces=wanted.containerd_namespaces)
        return LayerKeeper(store, ingests, fates, self._content_root, time.monotonic)

    def _dht(self, identity: Identity, secret: ClusterSecret | None, peer_port: int) -> DHT:
        settings = self._settings
        return DHT(
            dht_settings(
                identity=identity,
                cluster=settings.cluster,
                keys=secret.subkeys(DHT_USE, settings.cluster) if secret else (),
                peer_host=settings.peer_addr.host,
                peer_port=peer_port,
                advertise_addr=settings.advertise_addr,
                bootstrap=settings.bootstrap,
                state_dir=settings.data_dir,
            )
        )

    def _parts(
        self,
        around: Around,
        dht: DHT,
        discovery: DhtDiscovery,
        upstream: Origins,
        keys: tuple[Subkey, ...],
        identity: Identity,
        strangers: Strangers,
        herd: Herd,
        channels: Channels,
        keeper: LayerKeeper | None,
        tally: PeerTally,
    ) -> _Parts:
        settings, store, metrics = self._settings, around.store, around.metrics
        metrics.show_dht(dht)
        if isinstance(store, CachedStore):
            metrics.cache_bytes.set_function(lambda: store.cache_bytes)
        content = Content(store, herd, upstream.relay, metrics, ManifestCache())
        failures = OriginFailures(upstream.prober, metrics, time.monotonic)
        tags = TagRequests(upstream.tags, content, failures, metrics)
        answerers = Answerers(content, tags, failures, upstream.saw_registry)
        policy = Policy(settings.mirrors, settings.filters, settings.protect)

        def served(address: str, count_bytes: int) -> None:
            metrics.peer_served_bytes.inc(count_bytes)
            tally.served(address, count_bytes)

        return _Parts(
            store,
            dht,
            discovery,
            herd,
            upstream,
            keeper,
            Advertiser(store, discovery, metrics.announced.set),
            Registry(answerers, policy, metrics),
            PeerServer(
                store,
                keys,
                identity.node,
                time.time,
                served,
                strangers,
                upstream.keeper.told,
                channels.accept,
                herd,
                UploadSlots(on_change=channels.load),
            ),
            metrics,
        )

    def _admin(
        self,
        parts: _Parts,
        channels: Channels,
        tally: PeerTally,
        identity: Identity,
        keys: tuple[Subkey, ...],
    ) -> AdminServer:
        around = InsightAround(
            store=parts.store,
            dht=parts.dht,
            discovery=parts.discovery,
            channels=channels,
            herd=parts.herd,
            tags=parts.origins.keeper,
            advertiser=parts.advertiser,
            metrics=parts.metrics,
            tally=tally,
            node=identity.node,
            keys=keys,
            is_stopping=self._stopping.is_set,
            started_s=self._started_s,
        )
        return AdminServer(views(self._settings, around), self._settings.admin_addr.host)


def _bound(name: str, address: Address) -> socket.socket:
    # Peers find each other by datagrams to the port where they ask each other by HTTP.
    return (bind_with_udp if name == "peer" else bind)(name, address.host, address.port)


async def run(settings: ServeSettings) -> None:
    """A daemon with the process's signals. Raises: MirrorError where it cannot start."""
    daemon = Daemon(settings)
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            os._exit(1)
        asked = True
        daemon.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await daemon.run()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
