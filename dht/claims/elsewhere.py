"""Which claims of other arbiters run, as far as the own node was told when it asked or renewed. Pure.

An arbiter that is passed over though it is alive (its host is busy: a pull has begun there) has granted the key, and in
a herd the next nearest node is as a rule after the same key: it was told so itself a moment ago. Only what the arbiter
of a claim says of that claim is kept; what another repeats would be repeated for ever.
"""

from __future__ import annotations

from typing import NamedTuple

from dht.claims.rulings import Granted, Holding, Lost, Ruling, Running, Wait
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import Fence

# An image has some dozens of blobs, and a host pulls few images at a time.
TOLD_MAX_COUNT = 512


class _Told(NamedTuple):
    running: Running
    until: float


class Elsewhere:
    """`own` is this node's id."""

    def __init__(self, own: bytes, params: Params) -> None:
        self._own = own
        self._params = params
        # The longest untold first.
        self._told: dict[bytes, _Told] = {}

    def __len__(self) -> int:
        return len(self._told)

    def told(
        self, key: bytes, arbiter: bytes, ruling: Ruling, here: Contact, progress: int, now: float
    ) -> None:
        """`arbiter` ruled so on a request of the own node, which is `here` and had so much. A node that does not speak
        of a claim of its own changes nothing of what another said."""
        if arbiter == self._own:
            return
        before = self._told.get(key)
        if before is not None and before.running.fence.arbiter == arbiter:
            del self._told[key]
        for_s = self._params.claim_elsewhere_s
        match ruling:
            case Granted():
                running = Running(ruling.fence, Holding(here, progress))
                for_s = max(for_s, ruling.hold_s)
            case Wait() | Lost():
                running = ruling.running
            case _:
                return
        if running.fence.arbiter != arbiter:
            return
        self._told.pop(key, None)
        self._told[key] = _Told(running, now + for_s)
        if len(self._told) > TOLD_MAX_COUNT:
            del self._told[next(iter(self._told))]

    def given_back(self, key: bytes, fence: Fence) -> None:
        """The own node's claim."""
        told = self._told.get(key)
        if told is not None and told.running.fence == fence:
            del self._told[key]

    def running(self, key: bytes, now: float) -> Running | None:
        told = self._told.get(key)
        return told.running if told is not None and told.until > now else None
