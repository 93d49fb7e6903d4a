"""A mesh of one digest, with real channels whose sockets nobody serves, and a clock that is set."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

from mirror.discovery.base import Peer
from mirror.herd.avoided import Avoided
from mirror.herd.mesh import Mesh, Offer
from mirror.herd.spreading import Spreading
from mirror.oci.digest import Digest
from mirror.peer import frames, news
from mirror.peer.channel import Channel
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channel_socket import ChannelSocket
from mirror.peer.errors import PeerIncompatible, PeerUnreachable
from mirror.peer.frames import CHANNEL_VERSION, Frame
from mirror.peer.news import News
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import Event
from mirror.swarm.lending import Lending
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PIECE_MIN_BYTES, PieceLayout

D = Digest.of(b"a layer")
LAYOUT = PieceLayout.of(4 * PIECE_MIN_BYTES)
SIZE = LAYOUT.size_bytes


def peer(number: int) -> Peer:
    return Peer("10.0.0.1", 1000 + number)


def channel_to(number: int, params: ChannelParams | None = None) -> Channel:
    """A real one, whose socket nobody serves."""
    return Channel(
        cast(ChannelSocket, None),
        peer(number),
        frames.Hello(bytes(20), 1000 + number, 0, ""),
        CHANNEL_VERSION,
        keeps=True,
        load_ratio=0.0,
        on_news=lambda _channel, _told: None,
        params=params or ChannelParams(),
        clock=lambda: 0.0,
    )


def told(channel: Channel) -> list[Frame]:
    """Since it was last looked."""
    found: list[Frame] = []
    while (message := channel._outbox.next_message(CHANNEL_VERSION)) is not None:
        found += frames.decode_message(message, CHANNEL_VERSION)[0]
    return found


@dataclass
class MeshBed:
    """`reachable`: who answers a call; another is unreachable, or has no channels."""

    now: float = 0.0
    reachable: dict[Peer, Channel] = field(default_factory=dict)
    has_none: set[Peer] = field(default_factory=set)
    called: list[Peer] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    settled_count: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    lending: Lending[Spreading] = field(default_factory=Lending)

    def __post_init__(self) -> None:
        self.avoided = Avoided(lambda: self.now)
        self.mesh = Mesh(
            D,
            self,
            random.Random(1),
            tell=self.events.append,
            size_told=self.sizes.append,
            settled=self._settled,
            spawn=self._spawn,
            clock=lambda: self.now,
            avoided=self.avoided,
            lending=self.lending,
            params=SwarmParams(),
        )

    async def run(self) -> None:
        """As `Neighbours`."""

    async def reach(self, other: Peer) -> Channel:
        self.called.append(other)
        await asyncio.sleep(0)
        if other in self.has_none:
            raise PeerIncompatible(str(other), "has no state channel")
        if other not in self.reachable:
            raise PeerUnreachable(str(other), "refused")
        return self.reachable[other]

    def _settled(self) -> None:
        self.settled_count += 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.tasks.append(task)
        return task

    async def has_all(self, number: int) -> Channel:
        """One that is said to have it whole, and was called. The mesh has begun."""
        channel = self.reachable[peer(number)] = channel_to(number)
        self.mesh.begin(LAYOUT)
        self.mesh.complete(peer(number))
        await self.calls_end()
        self.new_events()
        return channel

    async def calls_end(self) -> None:
        await asyncio.gather(*self.tasks)

    def comes(self, number: int, first: News | None = None) -> Channel:
        """It calls, and joins."""
        channel = channel_to(number)
        self.mesh.heard(channel, first or news.PeerJoined(D))
        return channel

    def holder(self, number: int, *pieces: int, size_bytes: int = SIZE) -> Channel:
        bitfield = Bitfield.holding(PieceLayout.of(size_bytes).count, pieces)
        return self.comes(number, news.PeerHolds(D, size_bytes, bitfield, False))

    def new_events(self) -> list[Event]:
        found, self.events[:] = list(self.events), []
        return found


def none_useless(_: str) -> bool:
    return False


def opened(size_bytes: int = SIZE, *pieces: int) -> frames.Open:
    held: bytes | list[tuple[int, int]] = []
    if pieces:
        held = Bitfield.holding(LAYOUT.count, pieces).to_bytes()
    return frames.Open(0, str(D), size_bytes, held, False)


def offer(*pieces: int, is_fed: bool = False) -> Offer:
    return Offer(SIZE, Bitfield.holding(LAYOUT.count, pieces), is_fed)
