"""Peers that are left aside for all digests: who could not be reached a moment ago, and who sent wrong bytes.

Each try at a host that was switched off costs a pull a second, and each wrong byte that containerd is handed a pull.
Who could not be reached calls by itself when it is back, and who lied may well go on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from mirror.discovery.base import Peer

# Discovery forgets a host that went within about as long; one that comes back calls by itself.
AVOIDED_S = 30.0
PEERS_MAX_COUNT = 1024
# Swarms ban for as long, at first.
LIED_S = 120.0


class Avoided:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[Peer, float] = OrderedDict()
        self._lied_until: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, peer: Peer) -> bool:
        return self._clock() < self._until.get(peer, 0.0) or self.has_lied(str(peer))

    def reason(self, peer: Peer) -> Literal["unreachable", "wrong_bytes"] | None:
        """None: it is asked."""
        if self.has_lied(str(peer)):
            return "wrong_bytes"
        return "unreachable" if peer in self else None

    def has_lied(self, source_id: str) -> bool:
        """Lately."""
        return self._clock() < self._lied_until.get(source_id, 0.0)

    def lied(self, source_id: str) -> None:
        self._lied_until[source_id] = self._clock() + LIED_S
        self._lied_until.move_to_end(source_id)
        if len(self._lied_until) > PEERS_MAX_COUNT:
            self._lied_until.popitem(last=False)

    def unreachable(self, peer: Peer) -> None:
        self._until[peer] = self._clock() + AVOIDED_S
        self._until.move_to_end(peer)
        if len(self._until) > PEERS_MAX_COUNT:
            self._until.popitem(last=False)

    def forgive(self, peer: Peer) -> None:
        """It was heard of. What it sent is not forgotten."""
        self._until.pop(peer, None)
