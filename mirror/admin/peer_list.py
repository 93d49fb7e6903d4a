"""Which peers the admin API lists, and what it says of each. Acts on nobody.

A full table has 16,384 members: only those that are listed are looked at, so that an answer costs some milliseconds of
the event loop, whatever the size of the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal, Protocol

from dht.contacts import Contact
from dht.ids import NodeId
from mirror.admin.answers import Peer, Peers
from mirror.discovery.base import Peer as Place
from mirror.discovery.peer_info import decode

# Twice the hosts of a large cluster, and 4 ms. Who wants the whole of a larger one asks more than one host.
PEERS_MAX_COUNT: Final = 1000
NODE_ID_SHOWN_DIGITS: Final = 12

Avoided = Literal["unreachable", "wrong_bytes"]
AvoidedWhy = Callable[[Place], Avoided | None]


class Tally(Protocol):
    """As `mirror.peer.tally.PeerTally`."""

    def received_bytes(self, peer: Place) -> int: ...

    def served_bytes(self, address: str) -> int: ...


class Members(Protocol):
    """As `dht.members.members.Members`: in the order of ids."""

    def __len__(self) -> int: ...

    def __contains__(self, node: object) -> bool: ...

    def __iter__(self) -> Iterator[Contact]: ...

    def get(self, node: bytes) -> Contact | None: ...


class Channel(Protocol):
    """As `mirror.peer.channel.Channel`."""

    peer: Place
    node: NodeId
    zone: str

    @property
    def version(self) -> int: ...


def list_peers(members: Members, channels: Sequence[Channel], avoided: AvoidedWhy, tally: Tally) -> Peers:
    connected = sorted(channels, key=lambda one: (one.peer, one.node))
    nodes = {one.node.value for one in connected}
    listed: list[Peer] = []
    for channel in connected[:PEERS_MAX_COUNT]:
        listed.append(_peer(channel.node.value, members.get(channel.node.value), channel, avoided, tally))
    for contact in members:
        if len(listed) >= PEERS_MAX_COUNT:
            break
        if contact.node not in nodes:
            listed.append(_peer(contact.node, contact, None, avoided, tally))
    total = len(members) + sum(node not in members for node in nodes)
    return Peers(total=total, truncated=len(listed) < total, peers=listed)


def _peer(
    node: bytes, contact: Contact | None, channel: Channel | None, avoided: AvoidedWhy, tally: Tally
) -> Peer:
    told = None if contact is None else decode(contact.info)
    place = None if channel is None else channel.peer
    if place is None and told is not None and contact is not None and contact.endpoints:
        place = Place(contact.endpoints[0].address, told.http_port)
    return Peer(
        address=None if place is None else str(place),
        node_id=node.hex()[:NODE_ID_SHOWN_DIGITS],
        state="known" if channel is None else "connected",
        channel_version=None if channel is None else channel.version,
        zone=None if channel is None else channel.zone or None,
        seed=told is not None and told.is_seed,
        avoided=None if place is None else avoided(place),
        received_bytes=0 if place is None else tally.received_bytes(place),
        served_bytes=0 if place is None else tally.served_bytes(place.address),
    )
