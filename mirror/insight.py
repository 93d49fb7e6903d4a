"""What the admin API tells of the daemon: brings its questions to the parts that know. A part of the composition root;
decides nothing, and changes nothing.

Substitutions: a directory store has no images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dht.ids import NodeId
from dht.service import DHT
from mirror.admin.answers import Peers, Status
from mirror.admin.image_list import ImageList, ImagePorts
from mirror.admin.peer_list import list_peers
from mirror.admin.server import Views
from mirror.advertise.advertiser import Advertiser
from mirror.discovery.dht_discovery import DhtDiscovery
from mirror.herd.herd import Herd
from mirror.metrics import Metrics
from mirror.peer.channels import Channels
from mirror.peer.tally import PeerTally
from mirror.peer.wire import PEER_WIRE_VERSION
from mirror.secret import Subkey
from mirror.settings.model import ContainerdStoreSettings, ServeSettings
from mirror.store.base import ContentStore
from mirror.store.containerd_images import ContainerdImages
from mirror.tags.image_name import parse_tag_name
from mirror.tags.keeper import TagKeeper
from mirror.version import VERSION

# What an operator can mend, of the reasons why a datagram was not acted on: another secret or cluster name (foreign,
# mac, tag), another release (version), another time (clock).
TOLD_DROPS = ("foreign", "mac", "tag", "version", "clock")


@dataclass(frozen=True, slots=True)
class InsightAround:
    """The parts that are asked; `started_s`: by the monotonic clock."""

    store: ContentStore
    dht: DHT
    discovery: DhtDiscovery
    channels: Channels
    herd: Herd
    tags: TagKeeper
    advertiser: Advertiser
    metrics: Metrics
    tally: PeerTally
    node: NodeId
    keys: tuple[Subkey, ...]
    is_stopping: Callable[[], bool]
    started_s: float


def views(settings: ServeSettings, around: InsightAround) -> Views:
    def unready() -> list[str]:
        reasons = [around.store.unavailable, around.discovery.unready]
        if around.is_stopping():
            reasons.append("stopping")
        return [reason for reason in reasons if reason is not None]

    def status() -> Status:
        value = around.metrics.value
        return Status(
            version=VERSION,
            peer_wire_version=PEER_WIRE_VERSION,
            node_id=str(around.node),
            cluster=settings.cluster,
            unready=unready(),
            members=len(around.dht.members),
            records=len(around.dht.records),
            isolated=around.dht.is_isolated,
            trouble=around.discovery.trouble,
            bootstrap=[str(one) for one in settings.bootstrap],
            uptime_s=round(time.monotonic() - around.started_s, 3),
            requests=around.metrics.requests_count(),
            clock_offset_s=around.dht.clock_offset_s,
            refused_datagrams={reason: around.dht.stats.dropped(reason) for reason in TOLD_DROPS},
            key_ids=[key.key_id for key in around.keys],
            announced_digests=around.advertiser.announced_count,
            announced_tags=around.tags.announced_count,
            bytes_from_local=value("peili_bytes_total", source="local"),
            bytes_from_peers=value("peili_bytes_total", source="peer"),
            bytes_from_origin=value("peili_bytes_total", source="origin"),
            bytes_received_from_peers=value("peili_peer_received_bytes_total"),
            bytes_spliced=value("peili_spliced_bytes_total"),
            bytes_served_to_peers=value("peili_peer_served_bytes_total"),
        )

    def peers() -> Peers:
        return list_peers(
            around.dht.members, around.channels.open(), around.herd.avoided.reason, around.tally
        )

    return Views(unready, status, peers, _images(settings, around).answer)


def _images(settings: ServeSettings, around: InsightAround) -> ImageList:
    def is_tag_advertised(text: str) -> bool:
        name = parse_tag_name(text)
        return name is not None and around.tags.is_announced(name)

    named = None
    if isinstance(settings.store, ContainerdStoreSettings):
        store = settings.store
        named = ContainerdImages(store.containerd_sock, namespaces=store.containerd_namespaces).named
    return ImageList(ImagePorts(around.store, named, around.advertiser.is_announced, is_tag_advertised))
