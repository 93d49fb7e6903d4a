"""What the transfer of one digest needs of the daemon. Types only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.discovery.base import Peer
from mirror.herd.avoided import Avoided
from mirror.herd.own_bytes import SpoolSpace
from mirror.herd.spreading import Spreading
from mirror.ingest.base import IngestWatch
from mirror.oci.digest import Digest
from mirror.peer.channel import Channel
from mirror.peer.client import PeerClient
from mirror.peer.streams import PeerStreams
from mirror.steer.claims import Claims, NamedPeer
from mirror.swarm.lending import Lending
from mirror.swarm.params import SwarmParams

# As a source of its own swarm.
OWN = "own"
# Manifests, configs and small layers are verified whole before their first byte leaves.
WHOLE_FIRST_MAX_BYTES = 1024 * 1024

Event = on.Event | swarming.Event
# Puts an event into the queue of a transfer; whoever does so outside of its pump runs that afterwards.
Put = Callable[[Event], None]


class Neighbours(Protocol):
    """As `mirror.peer.channels.Channels`."""

    async def run(self) -> None: ...

    async def reach(self, peer: Peer) -> Channel:
        """Raises: PeerError, ChannelFull."""
        ...


@dataclass(frozen=True, slots=True)
class TransferPorts:
    """`find` names providers as discovery knows them. `make_space` makes a spool file. `open_stored` gives a descriptor
    of a blob that the store holds, owned by who asks, and its size. `remember` outlives the transfer. `note_rate`: so
    many bytes came from a registry in so many seconds. `fed`: the own containerd got its first bytes from a swarm;
    `has_spare`: what is fetched ahead of its asking takes nothing from what it reads. `streams` None: nothing goes past
    this host's hash. `spawn` runs work for a digest until it ends or the daemon does."""

    claims: Claims
    channels: Neighbours
    client: PeerClient
    streams: PeerStreams | None
    ingests: IngestWatch
    find: Callable[[Digest], Awaitable[list[NamedPeer]]]
    make_space: Callable[[Digest, int], Awaitable[SpoolSpace]]
    open_stored: Callable[[Digest], Awaitable[tuple[int, int]]]
    discard_ingest: Callable[[Digest], Awaitable[None]]
    remember: Callable[[Digest, float, bool], None]
    note_rate: Callable[[str, int, float], None]
    lied: Callable[[Digest, swarming.SourceId], None]
    fed: Callable[[Digest], None]
    has_spare: Callable[[], bool]
    count_bytes: Callable[[Peer, int], None]
    clock: Callable[[], float]
    spawn: Callable[[Digest, Coroutine[Any, Any, None]], asyncio.Task[None]]
    avoided: Avoided
    lending: Lending[Spreading]
    params: SwarmParams
