"""Members that are gone: which hearsay about them is not believed, and which are worth asking again.

A node that fell silent may be behind a split that heals, so it is kept for a while as lost. One that left is not.
Bounded in count and time. Asks nobody.
"""

from __future__ import annotations

from collections import OrderedDict
from random import Random

from dht.contacts import Contact
from dht.params import Params


class Departed:
    __slots__ = ("_dead", "_lost", "_params")

    def __init__(self, params: Params) -> None:
        self._params = params
        # Oldest first, both.
        self._dead: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._lost: OrderedDict[bytes, tuple[Contact, float]] = OrderedDict()

    def fell_silent(self, contact: Contact, now: float) -> None:
        self._bury(contact.node, contact.epoch, now)
        self._lost[contact.node] = (contact, now)
        self._lost.move_to_end(contact.node)
        if len(self._lost) > self._params.lost_max_count:
            self._lost.popitem(last=False)

    def left(self, node: bytes, epoch: int, now: float) -> None:
        self._bury(node, epoch, now)
        self._lost.pop(node, None)

    def is_dead(self, node: bytes, epoch: int, now: float) -> bool:
        """Whether hearsay that this life of the node goes on is not to be believed."""
        known = self._dead.get(node)
        return known is not None and epoch <= known[0] and now - known[1] < self._params.dead_memory_s

    def silent_s(self, node: bytes, now: float) -> float | None:
        """How long ago it fell silent, where that was lately."""
        lost = self._lost.get(node)
        if lost is None or now - lost[1] >= self._params.dead_memory_s:
            return None
        return now - lost[1]

    def came_back(self, node: bytes, now: float) -> bool:
        """Forget that it was gone. Whether it was, lately enough."""
        dead = self._dead.pop(node, None)
        lost = self._lost.pop(node, None)
        return (dead is not None and now - dead[1] < self._params.dead_memory_s) or (
            lost is not None and now - lost[1] < self._params.lost_forget_s
        )

    def sample(self, rng: Random, now: float) -> Contact | None:
        """One that fell silent."""
        while self._lost and now - next(iter(self._lost.values()))[1] >= self._params.lost_forget_s:
            self._lost.popitem(last=False)
        if not self._lost:
            return None
        return rng.choice(list(self._lost.values()))[0]

    @property
    def lost_count(self) -> int:
        return len(self._lost)

    def _bury(self, node: bytes, epoch: int, now: float) -> None:
        known = self._dead.get(node)
        self._dead[node] = (epoch if known is None else max(epoch, known[0]), now)
        self._dead.move_to_end(node)
        if len(self._dead) > self._params.members_max_count:
            self._dead.popitem(last=False)
        while self._dead and now - next(iter(self._dead.values()))[1] >= self._params.dead_memory_s:
            self._dead.popitem(last=False)
