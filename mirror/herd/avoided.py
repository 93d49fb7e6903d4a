"""Peers that could not be reached a moment ago: who is only said to hold something is not tried again for each digest.

Each try at a host that was switched off costs a pull a second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from mirror.discovery.base import Peer

# Discovery forgets a host that went within about as long; one that comes back calls by itself.
AVOIDED_S = 30.0
PEERS_MAX_COUNT = 1024


class Avoided:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[Peer, float] = OrderedDict()

    def __contains__(self, peer: Peer) -> bool:
        return self._clock() < self._until.get(peer, 0.0)

    def unreachable(self, peer: Peer) -> None:
        self._until[peer] = self._clock() + AVOIDED_S
        self._until.move_to_end(peer)
        if len(self._until) > PEERS_MAX_COUNT:
            self._until.popitem(last=False)

    def forgive(self, peer: Peer) -> None:
        """It was heard of."""
        self._until.pop(peer, None)
