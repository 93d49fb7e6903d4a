"""Answers of the admin API, with values of a test's choice."""

from __future__ import annotations

from collections.abc import Callable

from mirror.admin.answers import Image, Images, Peer, Peers, Status
from mirror.admin.server import Views
from mirror.errors import StoreUnavailable

STATUS = Status(
    version="1.2.3",
    peer_wire_version=1,
    node_id="ab" * 20,
    cluster="lab",
    unready=[],
    members=2,
    records=7,
    isolated=False,
    trouble=None,
    bootstrap=["lan"],
    uptime_s=90.5,
    requests=12,
    clock_offset_s=0.0,
    refused_datagrams={"mac": 0},
    key_ids=["0a1b2c3d"],
    announced_digests=5,
    announced_tags=1,
    bytes_from_local=512,
    bytes_from_peers=3 * 2**20,
    bytes_from_origin=0,
    bytes_received_from_peers=4 * 2**30,
    bytes_spliced=2**20,
    bytes_served_to_peers=2048,
)
CONNECTED = Peer(
    address="10.0.0.7:29021",
    node_id="0123456789ab",
    state="connected",
    channel_version=1,
    zone="a",
    seed=True,
    avoided=None,
    received_bytes=2**20,
    served_bytes=10,
)
KNOWN = Peer(
    address=None,
    node_id="cdefcdefcdef",
    state="known",
    channel_version=None,
    zone=None,
    seed=False,
    avoided="wrong_bytes",
    received_bytes=0,
    served_bytes=0,
)
PEERS = Peers(total=2, truncated=False, peers=[CONNECTED, KNOWN])
WHOLE = Image(
    name="reg.example/app:v1",
    namespace="k8s.io",
    digest="sha256:" + "1" * 64,
    size_bytes=5 * 2**20,
    blobs=4,
    blobs_here=3,
    advertised=True,
    tag_advertised=True,
)
UNSEEN = Image(
    name="reg.example/other:v1",
    namespace="k8s.io",
    digest="sha256:" + "2" * 64,
    size_bytes=None,
    blobs=None,
    blobs_here=None,
    advertised=False,
    tag_advertised=False,
)
IMAGES = Images(store="containerd", total=2, truncated=False, images=[WHOLE, UNSEEN])


def views(
    *,
    unready: Callable[[], list[str]] = list,
    status: Status = STATUS,
    peers: Peers = PEERS,
    images: Images | None = IMAGES,
) -> Views:
    """`images` None: containerd is away."""

    async def answer() -> Images:
        if images is None:
            raise StoreUnavailable("containerd at /run/x.sock: not there")
        return images

    return Views(unready, lambda: status, lambda: peers, answer)
