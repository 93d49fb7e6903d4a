"""Who waits for a key, as its arbiter sees it: whom to tell of, and who should be next. Bounded.

A waiter counts while it was heard lately: within twice the time after which it was told to ask again.
"""

from __future__ import annotations

from dht.claims.rulings import Holding
from dht.claims.state import KeyState, Waiter
from dht.contacts import Contact
from dht.params import Params

# Neighbours to begin with; each adds 40 to 110 bytes to an answer of at most 1,200.
PARTICIPANTS_COUNT = 8
# All keys together, so that a few nodes that wait for every key cannot fill the memory (0.2 KB each).
WAITERS_MAX_COUNT = 65_536


class Waiters:
    """Of all keys; what belongs to one stands in its KeyState."""

    def __init__(self, params: Params) -> None:
        self._per_key_count = params.claim_waiters_count
        self._heard_s = 2 * params.claim_wait_retry_s
        self._turn = 0
        self.count = 0

    def remember(self, state: KeyState, who: Contact, progress: int, now: float) -> None:
        """One that there is no room for is not remembered: it waits all the same."""
        waiters = state.waiters
        if who.node not in waiters:
            if len(waiters) >= self._per_key_count and not self._make_room(state, progress, now):
                return
            if self.count >= WAITERS_MAX_COUNT:
                return
            self.count += 1
        waiters[who.node] = Waiter(Holding(who, progress), now)
        state.touch(now)

    def has_better(self, state: KeyState, who: Contact, progress: int, now: float) -> bool:
        """Whether another waiter should be granted before `who`. The last holder comes after all."""
        is_last_holder = who.node == state.last_holder
        for node, waiter in state.waiters.items():
            if node in (who.node, state.last_holder) or waiter.heard_at < now - self._heard_s:
                continue
            if waiter.holding.progress <= progress and not is_last_holder:
                continue
            exclusion = state.excluded.get(node)
            if exclusion is None or exclusion.until <= now:
                return True
        return False

    def sample(self, state: KeyState, asker: Contact, now: float, count: int) -> tuple[Holding, ...]:
        """Others than the asker, in turns. A holder is no waiter."""
        if not state.waiters or count <= 0:
            return ()
        waiters = list(state.waiters.values())
        self._turn += count
        start = self._turn % len(waiters)
        found: list[Holding] = []
        for waiter in waiters[start:] + waiters[:start]:
            if waiter.heard_at >= now - self._heard_s and waiter.holding.contact.node != asker.node:
                found.append(waiter.holding)
                if len(found) == count:
                    break
        return tuple(found)

    def drop(self, state: KeyState, node: bytes) -> None:
        if state.waiters.pop(node, None) is not None:
            self.count -= 1

    def drop_all(self, state: KeyState) -> None:
        self.count -= len(state.waiters)
        state.waiters.clear()

    def _make_room(self, state: KeyState, progress: int, now: float) -> bool:
        """Whoever was not heard lately goes; else, of those who are farthest behind and not ahead of the newcomer, the
        one remembered longest. So a herd that is larger than this memory is told of in turns, and not the same few to
        everybody."""
        waiters = state.waiters
        first = min(waiters, key=lambda node: waiters[node].heard_at)
        if waiters[first].heard_at >= now - self._heard_s:
            first = min(waiters, key=lambda node: waiters[node].holding.progress)
            if waiters[first].holding.progress > progress:
                return False
        self.drop(state, first)
        return True
