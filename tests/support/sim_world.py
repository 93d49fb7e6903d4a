"""What a simulated herd is made of, and what all of its parts share. Decides nothing.

Rates are bytes per second, each host's the same in both directions.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dht.params import Params
from mirror.herd.mesh import CALLED_MAX_COUNT, NAMED_MAX_COUNT, NEIGHBOURS_MAX_COUNT
from mirror.peer.channel_params import ChannelParams
from mirror.peer.slots import UPLOAD_SLOTS_COUNT
from mirror.swarm.lending import Lending
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from tests.support.sim_arbiters import Arbiters, Member, MembershipPlan
from tests.support.sim_clock import Clock
from tests.support.sim_links import MIB, Downlink, LinkPlan, Transfer, Uplink

if TYPE_CHECKING:
    from tests.support.sim_download import Download

GBIT_BYTES_S: Final = 1e9 / 8
# A piece is cut into so many segments: finer costs time and changes no result by a hundredth.
SEGMENTS_PER_PIECE: Final = 4
SEGMENT_MIN_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class HerdPlan:
    """`hosts_count` ask within `start_spread_s`; `standing_count` are members and want nothing, of which
    `providers_count` have all blobs. `coming_count` ask at
    a moment within `coming_spread_s`, and their daemons have joined `joining_s` after that. `dying_count` of the first
    die at a moment within the bound, each second one without a FIN. `claimant_dies_at`: the first claimant's host dies
    without a FIN at that share of the bound.
    `parallel_count`: blobs that a host's containerd pulls at once. `piece_bytes` None: as hosts agree on."""

    hosts_count: int
    blobs_bytes: tuple[int, ...]
    link_bytes_s: float = GBIT_BYTES_S
    origin_bytes_s: float = GBIT_BYTES_S
    # Of a host to the middle of the network, one way: round trips of 0.2 to 2 ms.
    half_rtt_s: tuple[float, float] = (0.00005, 0.0005)
    origin_rtt_s: float = 0.02
    start_spread_s: float = 0.1
    stagger_s: float = 0.0
    standing_count: int = 0
    providers_count: int = 0
    coming_count: int = 0
    coming_spread_s: float = 5.0
    joining_s: float = 1.0
    dying_count: int = 0
    claimant_dies_at: float | None = None
    parallel_count: int = 3
    piece_bytes: int | None = None
    upload_slots_count: int = UPLOAD_SLOTS_COUNT
    # Of one digest: until so many it calls, those who call come on top.
    called_max_count: int = CALLED_MAX_COUNT
    neighbours_max_count: int = NEIGHBOURS_MAX_COUNT
    # What one frame of the state channel names, to one who calls and is taken in.
    names_count: int = NAMED_MAX_COUNT
    # Whether one who is turned away is told of others, too, and neighbours of those who came later.
    is_naming_more: bool = False
    # Whether who is fed from the origin offers with care (mirror.swarm.offers).
    has_offers: bool = True
    links: LinkPlan = field(default_factory=LinkPlan)
    membership: MembershipPlan = field(default_factory=MembershipPlan)
    swarm: SwarmParams = field(default_factory=SwarmParams)
    channel: ChannelParams = field(default_factory=ChannelParams)
    dht: Params = field(default_factory=Params)

    @property
    def bound_s(self) -> float:
        """What nobody can beat."""
        return sum(self.blobs_bytes) / min(self.link_bytes_s, self.origin_bytes_s)


@dataclass(frozen=True, slots=True)
class Blob:
    key: bytes
    layout: PieceLayout

    @property
    def size_bytes(self) -> int:
        return self.layout.size_bytes

    @property
    def segment_bytes(self) -> int:
        return max(SEGMENT_MIN_BYTES, self.layout.piece_bytes // SEGMENTS_PER_PIECE)


@dataclass(slots=True, eq=False)
class Host:
    """`uploads_count`: requests of peers that are being answered now."""

    number: int
    member: Member
    up: Uplink
    down: Downlink
    rng: random.Random
    uploads_count: int = 0
    downloads: dict[bytes, Download] = field(default_factory=dict)
    lending: Lending[bytes] = field(default_factory=Lending)
    is_alive: bool = True
    asked_at: float = math.inf
    ended_at: float | None = None
    # Of state channels, requests for pieces, and bytes that somebody else brought first.
    told_count: int = 0
    requests_count: int = 0
    wasted_bytes: int = 0

    def half_rtt_s(self, other: Host) -> float:
        return self.member.half_rtt_s + other.member.half_rtt_s


class World:
    def __init__(self, plan: HerdPlan, seed: int) -> None:
        self.plan = plan
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.arbiters = Arbiters(self.clock, self._seeded(), plan.membership, plan.dht)
        self.blobs = [Blob(self.rng.randbytes(20), self._layout(size)) for size in plan.blobs_bytes]
        self.hosts: list[Host] = []
        self.by_node: dict[bytes, Host] = {}
        self.origin = Uplink(self.clock, plan.origin_bytes_s, plan.links, self._seeded())
        self.counts: Counter[str] = Counter()

    def _layout(self, size_bytes: int) -> PieceLayout:
        piece_bytes = self.plan.piece_bytes
        return PieceLayout.of(size_bytes) if piece_bytes is None else PieceLayout(size_bytes, piece_bytes)

    def _seeded(self) -> random.Random:
        return random.Random(self.rng.random())

    def add(self, joined_at: float) -> Host:
        plan = self.plan
        member = self.arbiters.add(self.rng.uniform(*plan.half_rtt_s), joined_at)
        up = Uplink(self.clock, plan.link_bytes_s, plan.links, self._seeded())
        host = Host(len(self.hosts), member, up, Downlink(plan.link_bytes_s), self._seeded())
        self.hosts.append(host)
        self.by_node[member.contact.node] = host
        return host

    def from_origin(self, host: Host, blob: Blob, start: int, came: Callable[[int], object]) -> Transfer:
        """To the end of the blob, in an ingest's steps."""
        transfer = Transfer(
            self.origin, host.down, blob.size_bytes - start, MIB, self.plan.origin_rtt_s / 2, came
        )
        self.clock.after(self.plan.origin_rtt_s, self.origin.send, transfer)
        return transfer
