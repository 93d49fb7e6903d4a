"""What the admin API answers: one struct a document, the source of docs/api/*.json and of what the commands read. Pure.

Rules
1. `/api/v1/` is a promise: fields may be added, and none is taken away or given another meaning. Readers skip what they
   do not know.
2. Each list has a cap, and says by `total` and `truncated` what it left out.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

STATUS_PATH: Final = "/api/v1/status"
PEERS_PATH: Final = "/api/v1/peers"
IMAGES_PATH: Final = "/api/v1/images"

Count = Annotated[int, Meta(ge=0)]


class Status(Struct, frozen=True, kw_only=True):
    """What this daemon is, whether it can work, and what it has moved since it started."""

    version: Annotated[str, Meta(description="Release of the daemon.")]
    peer_wire_version: Annotated[int, Meta(description="Version of the peer HTTP that it speaks.")]
    node_id: Annotated[str, Meta(description="40 hex digits; stays the same across restarts.")]
    cluster: str
    unready: Annotated[list[str], Meta(description="Why it cannot work now, in words; empty when it can.")]
    members: Annotated[int, Meta(ge=0, description="Other nodes of the cluster that it knows.")]
    records: Annotated[int, Meta(ge=0, description="Provider records that it keeps for the cluster.")]
    isolated: Annotated[bool, Meta(description="No other node answers.")]
    trouble: Annotated[
        str | None, Meta(description="What to mend so that others are found; null: nothing known.")
    ]
    bootstrap: Annotated[list[str], Meta(description="Where it looks for a first peer.")]
    uptime_s: Annotated[float, Meta(ge=0, description="Seconds since the daemon started.")]
    requests: Annotated[
        int, Meta(ge=0, description="What this host's clients asked for, whatever the outcome.")
    ]
    clock_offset_s: Annotated[
        float, Meta(description="Seconds by which the cluster's clock is ahead of this host's, as peers say.")
    ]
    refused_datagrams: Annotated[
        dict[str, Count],
        Meta(
            description="By reason, those that somebody can mend: another secret or cluster name (foreign, mac, tag), "
            "another release (version), another time (clock)."
        ),
    ]
    key_ids: Annotated[
        list[str],
        Meta(
            description="Which cluster secrets it has, the one that signs first, as the peer HTTP names them in the "
            "clear; empty: none. Hosts of one cluster have the same."
        ),
    ]
    announced_digests: Annotated[int, Meta(ge=0, description="Blobs that it tells the cluster of.")]
    announced_tags: Annotated[int, Meta(ge=0, description="Tags that it tells the cluster of.")]
    bytes_from_local: Annotated[
        int, Meta(ge=0, description="To this host's clients, from this host's content.")
    ]
    bytes_from_peers: Annotated[int, Meta(ge=0, description="To this host's clients, from peers.")]
    bytes_from_origin: Annotated[
        int, Meta(ge=0, description="To this host's clients, fetched by the daemon itself (--origin relay).")
    ]
    bytes_received_from_peers: Count
    bytes_spliced: Annotated[int, Meta(ge=0, description="Of bytes_from_peers: socket to socket.")]
    bytes_served_to_peers: Count


class Peer(Struct, frozen=True, kw_only=True):
    """Another daemon."""

    address: Annotated[
        str | None,
        Meta(
            description="ADDRESS:PORT of its peer HTTP; null: what it says of itself is of a later release."
        ),
    ]
    node_id: Annotated[str, Meta(description="The first 12 of the 40 hex digits.")]
    state: Annotated[
        Literal["connected", "known"],
        Meta(description="connected: a state channel is open, as while both move the same digest."),
    ]
    channel_version: Annotated[
        int | None, Meta(description="Version of the state channel that both agreed on; null: none is open.")
    ]
    zone: Annotated[
        str | None, Meta(description="As the peer says; null: it says none, or no channel is open.")
    ]
    seed: bool
    avoided: Annotated[
        Literal["unreachable", "wrong_bytes"] | None,
        Meta(
            description="Why nothing is asked of it now: it could not be reached in the last half minute, or what it "
            "sent in the last two minutes was wrong. null: it is asked."
        ),
    ]
    received_bytes: Annotated[
        int, Meta(ge=0, description="Body bytes that it sent to this host since the daemon started.")
    ]
    served_bytes: Annotated[
        int,
        Meta(ge=0, description="Body bytes that went to its address since then, to all daemons there."),
    ]


class Peers(Struct, frozen=True, kw_only=True):
    """Who is known: those with an open channel first, then by node id as far as the cap goes."""

    total: Annotated[int, Meta(ge=0, description="How many are known, listed here or not.")]
    truncated: bool
    peers: list[Peer]


class Image(Struct, frozen=True, kw_only=True):
    """A name that containerd has for an image, and how much of that image is here."""

    name: str
    namespace: Annotated[str, Meta(description="Of containerd.")]
    digest: Annotated[str, Meta(description="Of what the name points to: an index, or a manifest.")]
    size_bytes: Annotated[
        Count | None,
        Meta(description="Of all blobs of the platforms that are here; null: no manifest of it is here."),
    ]
    blobs: Annotated[
        Count | None, Meta(description="How many those are, documents included; null: as for size_bytes.")
    ]
    blobs_here: Annotated[
        Count | None, Meta(description="How many of them this host can give; null: as for size_bytes.")
    ]
    advertised: Annotated[bool, Meta(description="The cluster is told that `digest` is here.")]
    tag_advertised: Annotated[
        bool, Meta(description="The cluster is told that this host has a record of the tag (docs/tags.md).")
    ]


class Images(Struct, frozen=True, kw_only=True):
    """The images of the watched namespaces, by name."""

    store: Annotated[
        Literal["containerd", "directory"],
        Meta(description="directory: its content has no names, and the list is empty."),
    ]
    total: Annotated[int, Meta(ge=0, description="How many there are, listed here or not.")]
    truncated: bool
    images: list[Image]


DOCUMENTS: Final = {STATUS_PATH: Status, PEERS_PATH: Peers, IMAGES_PATH: Images}
