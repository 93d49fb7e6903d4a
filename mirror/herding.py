"""Makes the parts of the daemon that move a digest between hosts while it is on its way: the herd, its channels, its
claims. A part of the composition root; decides nothing else.

Substitutions: without `--origin steer` there are no claims, and what nobody has is a miss; with a directory store, its
folder is watched in place of containerd's. With `--verify always`, and for clients that are not seen to verify, nothing
goes past the herd's own hash.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dht.ids import NodeId
from dht.service import DHT
from mirror.discovery.base import Peer
from mirror.discovery.dht_claims import DhtClaims
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.herd.herd import Herd, HerdPorts, find_with
from mirror.herd.plain_claims import PlainClaims
from mirror.ingest.base import IngestWatch
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.metrics import Metrics
from mirror.peer.channel import Channel
from mirror.peer.channel_dialer import ChannelDialer
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channels import Channels, Me
from mirror.peer.client import PeerClient
from mirror.peer.news import News
from mirror.peer.strangers import Strangers
from mirror.peer.streams import PeerStreams
from mirror.peer.tally import PeerTally
from mirror.relay.spool import Spool
from mirror.settings.model import ContainerdStoreSettings, OriginUse, ServeSettings, Verify
from mirror.steer.claims import Claims
from mirror.store.base import ContentStore
from mirror.store.oci_layout import INGEST_NAMESPACE

# Beside the relay's files, which are of another life.
PIECES_FOLDER = Path("spool", "pieces")


@dataclass(frozen=True, slots=True)
class HerdAround:
    """What these parts need of the daemon's others. `ingests` is run by the herd."""

    store: ContentStore
    ingests: IngestWatch
    dht: DHT
    discovery: DhtDiscovery
    own: Collection[Peer]
    client: PeerClient
    strangers: Strangers
    metrics: Metrics
    tally: PeerTally
    node: NodeId
    peer_port: int


@contextlib.asynccontextmanager
async def herding(settings: ServeSettings, around: HerdAround) -> AsyncIterator[tuple[Herd, Channels]]:
    """To be run. Raises: SpoolUnusable."""
    async with contextlib.AsyncExitStack() as stack:
        params = ChannelParams()
        address = None if settings.peer_addr.is_every_address else settings.peer_addr.host
        dialer = await stack.enter_async_context(
            ChannelDialer(around.client.contacts, around.strangers, params, address)
        )
        spool = Spool(
            settings.data_dir / PIECES_FOLDER, quota_bytes=settings.spool_size_bytes, clock=time.monotonic
        )
        await stack.enter_async_context(spool)
        made: list[Herd] = []

        def on_news(channel: Channel, told: News) -> None:
            made[0].on_news(channel, told)

        def received(peer: Peer, count_bytes: int) -> None:
            around.metrics.peer_received_bytes.inc(count_bytes)
            around.tally.received(peer, count_bytes)

        channels = Channels(
            Me(around.node, around.peer_port, ""),
            dialer,
            on_news,
            around.strangers,
            params,
            hearing=around.dht,
        )
        claims: Claims = PlainClaims(find_with(around.discovery))
        if settings.origin is OriginUse.STEER:
            claims = DhtClaims(around.dht, around.own, lambda: around.discovery.has_begun)
        ports = HerdPorts(
            claims=claims,
            discovery=around.discovery,
            client=around.client,
            channels=channels,
            ingests=around.ingests,
            store=around.store,
            spool=spool,
            announced=around.discovery.flush,
            count_bytes=received,
            clock=time.monotonic,
            streams=_streams(settings, around),
        )
        made.append(Herd(ports, random.Random()))
        yield made[0], channels


def _streams(settings: ServeSettings, around: HerdAround) -> PeerStreams | None:
    """Only containerd is seen to verify what it gets."""
    if settings.verify is Verify.ALWAYS or not isinstance(settings.store, ContainerdStoreSettings):
        return None
    return PeerStreams(around.client.contacts, around.strangers)


def ingests_of(settings: ServeSettings, content_root: Callable[[], Path | None]) -> IngestWatch:
    """`content_root`: where containerd keeps its content, once known. A directory store has the same folders, and
    whoever downloads into them as containerd does is a source meanwhile."""
    store = settings.store
    if not isinstance(store, ContainerdStoreSettings):
        root = store.store_dir
        return ContainerdIngests(lambda: root, namespaces=(INGEST_NAMESPACE,))
    namespaces: Sequence[str] = store.containerd_namespaces
    return ContainerdIngests(content_root, namespaces=namespaces)
