"""One dht.node.Node without a network: what it is told to say, and whom it tells."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from dht.contacts import Contact, stamp
from dht.endpoints import Endpoint, pack
from dht.node import Node, Shadow
from dht.params import Params
from dht.stats import Stats
from dht.wire.codec import Delta, DeltaKind, WireContact

HERE = Endpoint("10.0.0.1", 29021)
THERE = Endpoint("10.0.0.2", 29021)
HERE_V6 = Endpoint("fd00::1", 29021)
TELLER = Endpoint("10.0.0.50", 29021)
OWN = Contact(b"\x77" * 20, 5, (Endpoint("10.0.0.99", 29021),), b"own")
X = b"\x11" * 20
Y = b"\x22" * 20
Z = b"\x33" * 20
KEY = b"\x44" * 20


@dataclass
class NodeBed:
    is_sealed: bool = True
    params: Params = field(default_factory=Params)
    own: Contact = OWN
    stats: Stats = field(default_factory=Stats)
    noticed: list[Shadow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.node = Node(
            self.own,
            self.params,
            random.Random(1),
            self.stats,
            self.noticed.append,
            is_sealed=self.is_sealed,
        )

    def news(self) -> list[tuple[int, bytes]]:
        """What is to be passed on since this was asked last, oldest first: kind and node."""
        told: dict[tuple[int, bytes], None] = {}
        # In a cluster of one each is told a few times, then no more.
        while deltas := self.node.gossip.take(1, self.node.rng.randbytes(20)):
            told |= {(one.kind, one.member.node): None for one in deltas}
        return list(told)

    def announced(self, until_s: float) -> set[bytes]:
        """To whom keys are announced until then."""
        targets: set[bytes] = set()
        while (due_at := self.node.announcements.next_due(0.0)) is not None and due_at < until_s:
            batches = self.node.announcements.due(due_at)
            targets |= {one.target.node for one in batches if one.target is not None}
        return targets

    def provided(self, now: float) -> list[Contact]:
        """Who is said to provide KEY."""
        return [one.provider for one in self.node.records.find(KEY, 16, now, random.Random(1))]

    def fall_silent(self, silent: bytes, now: float) -> None:
        """It answers no more; others speak."""
        for turn in range(self.params.strikes_count):
            self.node.alive(Z, now + turn)
            self.node.silent(silent, now + turn)


@dataclass(frozen=True)
class Sender:
    """Who sent a request. `came_from` None: from where it is reached."""

    sender: bytes
    epoch: int = 1
    endpoint: Endpoint = HERE
    sequence: int = 1
    came_from: Endpoint | None = None

    @property
    def stamp(self) -> int:
        return stamp(self.epoch, self.sequence)

    @property
    def source(self) -> Endpoint:
        return self.came_from or self.endpoint


def contact(node: bytes, epoch: int = 1, *endpoints: Endpoint, info: bytes = b"") -> Contact:
    return Contact(node, epoch, endpoints or (HERE,), info)


def wire(node: bytes, epoch: int = 1, *endpoints: Endpoint, info: bytes = b"") -> WireContact:
    return WireContact(node, epoch, pack(endpoints or (HERE,)), info)


def joined(node: bytes, epoch: int = 1, *endpoints: Endpoint) -> Delta:
    return Delta(DeltaKind.JOINED, wire(node, epoch, *endpoints))
