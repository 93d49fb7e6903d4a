"""The nodes a lookup knows of, nearest to the key first. Decides nothing."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from enum import Enum

from dht.contacts import Contact


class Phase(Enum):
    """LATE: past its hedge time, may still answer. SILENT: its RPC timed out."""

    NEW = 0
    ASKED = 1
    LATE = 2
    SILENT = 3
    ANSWERED = 4


class Candidate:
    """`hop` counts the answers that led to it: 1 for a node that was known from the start."""

    __slots__ = ("contact", "distance", "hedge_at", "hop", "phase")

    def __init__(self, contact: Contact, distance: int, hop: int) -> None:
        self.contact = contact
        self.distance = distance
        self.hop = hop
        self.phase = Phase.NEW
        self.hedge_at = 0.0


class Shortlist:
    """Iterates nearest first. A node stands in it once."""

    def __init__(self, key: bytes) -> None:
        self._key = int.from_bytes(key, "big")
        self._distances: list[int] = []
        self._sorted: list[Candidate] = []
        self._by_node: dict[bytes, Candidate] = {}

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._sorted)

    def get(self, node: bytes) -> Candidate | None:
        return self._by_node.get(node)

    def add(self, contact: Contact, hop: int) -> Candidate | None:
        """None: it is known."""
        node = contact.node
        if node in self._by_node:
            return None
        candidate = Candidate(contact, int.from_bytes(node, "big") ^ self._key, hop)
        place = bisect(self._distances, candidate.distance)
        self._distances.insert(place, candidate.distance)
        self._sorted.insert(place, candidate)
        self._by_node[node] = candidate
        return candidate

    def learn(self, teller: Candidate, closer: Iterable[Contact], count: int, own: bytes) -> list[Candidate]:
        """What `teller` named: the nearest `count`, known or new, of those that are nearer to the key than the teller.
        Whoever names what is farther has no say, and nobody fills the list alone."""
        nearer: list[tuple[int, Contact]] = []
        for contact in closer:
            distance = int.from_bytes(contact.node, "big") ^ self._key
            if distance < teller.distance and contact.node != own:
                nearer.append((distance, contact))
        nearer.sort(key=lambda one: one[0])
        named = []
        for _, contact in nearer[:count]:
            self.add(contact, teller.hop + 1)
            named.append(self._by_node[contact.node])
        return named
