"""How many body bytes came from each peer and went to it since the start. Counts for people, decides nothing.

Rules
1. What came is counted by the peer that was asked. What went is counted by the address that asked, since a request does
   not say which daemon of that address sent it.
2. There is a bound: who has moved nothing for the longest is forgotten first, and counted from 0 when it is back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, TypeVar

from dht.endpoints import EndpointInvalid, canonical
from mirror.discovery.base import Peer

# Of each direction: a host speaks to some dozens at a time. 0.2 KB each.
COUNTED_MAX_COUNT: Final = 4096

Key = TypeVar("Key", bound=Hashable)


class PeerTally:
    def __init__(self) -> None:
        self._received: OrderedDict[Peer, int] = OrderedDict()
        self._served: OrderedDict[str, int] = OrderedDict()

    def received(self, peer: Peer, count_bytes: int) -> None:
        _add(self._received, peer, count_bytes)

    def served(self, address: str, count_bytes: int) -> None:
        """`address`: as the socket says it."""
        try:
            _add(self._served, canonical(address), count_bytes)
        except EndpointInvalid:
            return  # the connection was gone before it was counted

    def received_bytes(self, peer: Peer) -> int:
        return self._received.get(peer, 0)

    def served_bytes(self, address: str) -> int:
        return self._served.get(address, 0)


def _add(counts: OrderedDict[Key, int], key: Key, count_bytes: int) -> None:
    counts[key] = counts.get(key, 0) + count_bytes
    counts.move_to_end(key)
    if len(counts) > COUNTED_MAX_COUNT:
        counts.popitem(last=False)
