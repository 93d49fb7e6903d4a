"""What is known of each peer that requests are signed for: its node id, and how far its clock is from ours.

Sends nothing itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.peer import wire
from mirror.secret import Subkey

# Peers whose node id and clock are remembered; a cluster larger than this learns again, one round trip each.
CONTACTS_MAX_COUNT = 16_384


@dataclass(frozen=True, slots=True)
class _Contact:
    node: NodeId | None
    clock_offset_s: int


class Contacts:
    """`keys` signs with its first; empty means a cluster without a secret."""

    def __init__(self, keys: Sequence[Subkey], unix_clock: Callable[[], float]) -> None:
        self._keys = tuple(keys)
        self._unix_clock = unix_clock
        self._contacts: OrderedDict[Peer, _Contact] = OrderedDict()

    def sign(self, peer: Peer, what: wire.Request) -> str:
        """The Authorization header of a request."""
        contact = self._contacts.get(peer, _Contact(None, 0))
        unix_s = int(self._unix_clock()) + contact.clock_offset_s
        key = self._keys[0] if self._keys else None
        return wire.sign(what, key, unix_s=unix_s, node=contact.node)

    def learn(self, peer: Peer, challenge: str | None, authorization: str) -> bool:
        """Whether `challenge` answers the request with that Authorization: then it is worth to sign again."""
        learned = wire.read_challenge(challenge, authorization, self._keys)
        if learned is None:
            return False
        offset_s = learned.unix_s - int(self._unix_clock())
        # A second or two is the round trip, not a wrong clock.
        self._contacts[peer] = _Contact(
            learned.node, offset_s if abs(offset_s) > wire.FRESHNESS_S // 4 else 0
        )
        self._contacts.move_to_end(peer)
        if len(self._contacts) > CONTACTS_MAX_COUNT:
            self._contacts.popitem(last=False)
        return True
