"""Which news of members goes along with the next answer: what was told least, and nothing for ever.

Each piece of news is told some times log2 of the members, to each of them once: then nearly everybody has heard it, and
anti-entropy finds the rest. Source: Das, Gupta, Motivala: SWIM (2002), §4.1. Judges no news: whoever hears it does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import ceil, log2

from dht.contacts import Contact
from dht.endpoints import pack
from dht.params import Params
from dht.wire.codec import Delta, DeltaKind, WireContact

# News that the asker knows already is passed over; so much of it at most, for each answer.
PASSED_OVER_MAX_COUNT = 12


@dataclass(frozen=True, slots=True)
class _News:
    delta: Delta
    contact: Contact
    told_to: set[bytes] = field(default_factory=set)


class Gossip:
    __slots__ = ("_heap", "_news", "_params", "_serial")

    def __init__(self, params: Params) -> None:
        self._params = params
        # By node, the serial of its place in the heap and the news.
        self._news: dict[bytes, tuple[int, _News]] = {}
        # (times told, serial, node); places whose serial is no longer the node's are skipped.
        self._heap: list[tuple[int, int, bytes]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._news)

    def add(self, kind: DeltaKind, contact: Contact) -> None:
        """News of the same or a newer epoch replaces what was to be told of that node; the same again does not start
        over. News of a node without an address cannot be told."""
        known = self._news.get(contact.node)
        if known is not None:
            before = known[1]
            if contact.epoch < before.contact.epoch:
                return
            if before.delta.kind == kind and before.contact == contact:
                return
        if not contact.endpoints:
            return
        member = WireContact(contact.node, contact.epoch, pack(contact.endpoints), contact.info)
        self._put(0, contact.node, _News(Delta(kind, member), contact))
        if len(self._news) > self._params.deltas_max_count:
            self._drop_most_told()
        if len(self._heap) > 2 * self._params.deltas_max_count:
            self._heap = [place for place in self._heap if self._is_current(place)]
            heapify(self._heap)

    def take(self, members_count: int, asker: bytes) -> list[Delta]:
        """At most `deltas_per_reply_count`, least told first, older news before newer; none that this asker was told
        before."""
        if not self._heap:
            return []
        limit = self._params.delta_spread_factor * ceil(log2(max(members_count, 1) + 1))
        taken: list[_News] = []
        passed_over: list[tuple[int, int, bytes]] = []
        while (
            self._heap
            and len(taken) < self._params.deltas_per_reply_count
            and len(passed_over) < PASSED_OVER_MAX_COUNT
        ):
            place = heappop(self._heap)
            if not self._is_current(place):
                continue
            told, _, node = place
            news = self._news[node][1]
            if asker in news.told_to or node == asker:
                passed_over.append(place)
                continue
            del self._news[node]
            if told < limit:
                taken.append(news)
        for place in passed_over:
            heappush(self._heap, place)
        for news in taken:
            news.told_to.add(asker)
            if len(news.told_to) < limit:
                self._put(len(news.told_to), news.contact.node, news)
        return [news.delta for news in taken]

    def _put(self, told: int, node: bytes, news: _News) -> None:
        self._serial += 1
        self._news[node] = (self._serial, news)
        heappush(self._heap, (told, self._serial, node))

    def _is_current(self, place: tuple[int, int, bytes]) -> bool:
        known = self._news.get(place[2])
        return known is not None and known[0] == place[1]

    def _drop_most_told(self) -> None:
        _, _, node = max(place for place in self._heap if self._is_current(place))
        del self._news[node]
