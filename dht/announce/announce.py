"""What to tell whom about the keys that this node provides: new and withdrawn keys, newcomers, and the sweep.

Batches come from `due` at the paced rate, when the caller has room for them, and go out as one datagram each; each is
answered by `done` or `failed`. There is no lookup: the members are known. What was gathered for a node and is no longer
true when its turn comes (withdrawn, provided again, in another state) is left out then, so that no late announcement
undoes a withdrawal.

A call of `due` does a bounded amount of work, whatever the numbers of keys and members; what is left over is due at
once.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple

from dht.announce.damping import Damping
from dht.announce.own_keys import OwnKeys
from dht.announce.placement import Gathering, MembersView, Placement
from dht.announce.sweep import Sweep
from dht.announce.walk import Walk
from dht.contacts import Contact
from dht.params import Params

# Cells looked at in one call: 5 to 40 us each.
_CELLS_COUNT: Final = 64
# A second after it failed: a node that is only busy, or lost one datagram.
_RETRY_S: Final = 1.0
# Beyond, what failed is left to the sweep.
_RETRIES_MAX_COUNT: Final = 1024
# From so many newcomers on, one walk over all keys is cheaper than a search for each (13 ms and 0.05 ms each, at 1,000
# members and 1,000 keys).
_NEWCOMERS_FEW_COUNT: Final = 256
# A newcomer hears about so many nodes a second: in a small cluster nobody waits for the whole jitter.
_TELLERS_PER_S: Final = 100.0
# Walks under way; deltas that come meanwhile wait, and are merged.
_WALKS_MAX_COUNT: Final = 8


class Verb(Enum):
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Batch:
    """`target` None: this node keeps the keys itself. `state` means nothing for REMOVE. `urgent`: somebody may be
    waiting for it; the sweep's can wait. `sweep`: in which it was put together."""

    target: Contact | None
    verb: Verb
    keys: tuple[bytes, ...]
    state: int
    urgent: bool
    sweep: int = 0
    is_retry: bool = False


class _Round(NamedTuple):
    """A walk and what is said on it. It was true when the keys had this revision."""

    verb: Verb
    state: int
    revision: int
    walk: Walk


class Announcements:
    """`own` is this node's id; `phase`, from 0 to 1, keeps its sweep apart from those of others."""

    def __init__(
        self, own: bytes, members: MembersView, params: Params, phase: float, rng: random.Random
    ) -> None:
        self._own = own
        self._members = members
        self._params = params
        self._rng = rng
        self._keys = OwnKeys()
        self._placement = Placement(members, params.replicas_count)
        self._sweep = Sweep(self._keys, self._placement, params.refresh_period_s, phase)
        self._damping = Damping(params.damping_factor)
        # Not gathered yet: changes by verb and state, since when and until when they wait.
        self._changes: dict[tuple[Verb, int], dict[bytes, None]] = {}
        self._changes_since_s = self._changes_due_s = 0.0
        self._walks: list[_Round] = []
        # When each newcomer gets its keys; those that came since are many when they are told together.
        self._newcomers: dict[bytes, float] = {}
        self._newcomers_queue: list[tuple[float, bytes]] = []
        self._newcomers_since_s = self._newcomers_due_s = 0.0
        self._retries: deque[tuple[float, Batch]] = deque()
        # Gathered, and waiting for their turn to be sent.
        self._urgent: deque[tuple[int, Batch]] = deque()
        self._calm: deque[tuple[int, Batch]] = deque()
        self._is_urgents_turn = True
        # From when on the next batch may go.
        self._free_s = float("-inf")

    # -- what this node provides -----------------------------------------------------------------------------------

    def provide(self, keys: Iterable[bytes], state: int, now: float) -> None:
        """Keys in the same state as before are left to the sweep. Raises: ValueError when a key has not 20 bytes."""
        self._changed(Verb.ADD, state, self._keys.put(keys, state), now)
        self._sweep.woken(now)

    def withdraw(self, keys: Iterable[bytes], now: float) -> None:
        self._changed(Verb.REMOVE, 0, self._keys.take(keys), now)

    @property
    def keys_count(self) -> int:
        return len(self._keys)

    @property
    def has_urgent(self) -> bool:
        """Something new or withdrawn was not sent to everybody yet, or waits to be sent once more."""
        return bool(
            self._changes
            or self._urgent
            or any(one.walk.only is None for one in self._walks)
            or any(batch.urgent for _, batch in self._retries)
        )

    # -- what happened ---------------------------------------------------------------------------------------------

    def member_joined(self, contact: Contact, now: float) -> None:
        """It is told the keys that it keeps now; also when it was known and started anew."""
        node = contact.node
        self._damping.forget(node)
        if not len(self._keys) or node == self._own:
            return
        if not self._newcomers:
            self._newcomers_since_s = now
        jitter_s = min(self._params.rejoin_jitter_s, len(self._members) / _TELLERS_PER_S)
        due_s = now + self._rng.random() * jitter_s
        self._newcomers[node] = due_s
        heapq.heappush(self._newcomers_queue, (due_s, node))
        self._newcomers_due_s = self._debounced(self._newcomers_since_s, now)

    def done(self, batch: Batch, saturated: bytes, now: float) -> None:
        """`saturated`: bit n of it (little-endian bytes) means that the target has enough providers of key n."""
        del now
        if batch.target is not None and batch.verb is Verb.ADD and any(saturated):
            bits = int.from_bytes(saturated, "little")
            keys = [key for number, key in enumerate(batch.keys) if bits >> number & 1]
            self._damping.saturated(batch.target.node, keys, batch.sweep)

    def failed(self, batch: Batch, now: float) -> None:
        """No answer: it is sent once more, then the sweep makes up for it."""
        if not batch.is_retry and len(self._retries) < _RETRIES_MAX_COUNT:
            self._retries.append((now + _RETRY_S, replace(batch, is_retry=True)))

    # -- what is to be done ----------------------------------------------------------------------------------------

    def next_due(self, now: float) -> float | None:
        """When to call `due`. None: nothing until something happens."""
        times = []
        if self._urgent or self._calm or self._walks:
            times.append(now)
        if self._retries:
            times.append(self._retries[0][0])
        if self._changes:
            times.append(self._changes_due_s)
        if self._newcomers:
            times.append(self._newcomers_due_s if self._are_many() else self._newcomers_queue[0][0])
        sweep_s = self._sweep.next_due()
        if sweep_s is not None:
            times.append(sweep_s)
        # Before the pace allows it nothing is worth a call.
        return max(now, self._free_s, min(times)) if times else None

    def due(self, now: float) -> list[Batch]:
        """In the order in which they are to be sent."""
        while self._retries and self._retries[0][0] <= now:
            self._queue(self._retries.popleft()[1], revision=-1)
        if self._changes and self._changes_due_s <= now and len(self._walks) < _WALKS_MAX_COUNT:
            self._start_walks()
        cells_left = _CELLS_COUNT
        cells_left -= self._tell_newcomers(now, cells_left)
        cells_left -= self._take_turns(now, cells_left)
        self._advance_walks(cells_left)
        return self._paced(now)

    # -- gathering -------------------------------------------------------------------------------------------------

    def _changed(self, verb: Verb, state: int, keys: list[bytes], now: float) -> None:
        if not keys:
            return
        if not self._changes:
            self._changes_since_s = now
        # The last word on a key is the only one.
        for waiting in self._changes.values():
            for key in keys:
                waiting.pop(key, None)
        self._changes = {kind: waiting for kind, waiting in self._changes.items() if waiting}
        self._changes.setdefault((verb, state), {}).update(dict.fromkeys(keys))
        self._changes_due_s = self._debounced(self._changes_since_s, now)

    def _debounced(self, since_s: float, now: float) -> float:
        return min(now + self._params.delta_debounce_s, since_s + self._params.delta_debounce_max_s)

    def _start_walks(self) -> None:
        for (verb, state), keys in self._changes.items():
            self._walk(verb, state, sorted(keys), None)
        self._changes = {}

    def _walk(self, verb: Verb, state: int, keys: list[bytes], only: frozenset[bytes] | None) -> None:
        walk = Walk(keys, self._placement, self._own, only)
        self._walks.append(_Round(verb, state, self._keys.revision, walk))

    def _advance_walks(self, cells_left: int) -> None:
        """The shortest first: ten new layers do not wait behind the thousands of a start."""
        while cells_left > 0:
            rounds = [one for one in self._walks if self._has_room(self._queue_of(one.walk))]
            if not rounds:
                break
            chosen = min(rounds, key=lambda one: one.walk.left_count)
            verb, state, revision, walk = chosen
            node, keys, looked = walk.take(self._params.keys_per_datagram_count, cells_left)
            cells_left -= looked
            self._parcel(node, verb, state, keys, revision, urgent=walk.only is None)
            if walk.is_done:
                self._walks.remove(chosen)

    def _take_turns(self, now: float, cells_left: int) -> int:
        """Cells looked at."""
        looked_count = 0
        while looked_count < cells_left and self._has_room(self._calm):
            turn, looked = self._sweep.take(now, cells_left - looked_count)
            looked_count += looked
            if turn is None:
                break
            for state, keys in self._keys.within(turn.ranges):
                left = self._damping.left(turn.node, keys, self._sweep.number)
                self._parcel(turn.node, Verb.ADD, state, left, self._keys.revision, urgent=False)
        return looked_count

    def _tell_newcomers(self, now: float, cells_left: int) -> int:
        """Cells looked at."""
        looked_count = 0
        if self._are_many():
            if self._newcomers_due_s <= now and len(self._walks) < _WALKS_MAX_COUNT:
                only = frozenset(self._newcomers)
                for state, keys in self._keys:
                    self._walk(Verb.ADD, state, keys.copy(), only)
                self._newcomers = {}
                self._newcomers_queue = []
            return looked_count
        while looked_count < cells_left and self._newcomers_queue and self._has_room(self._calm):
            due_s, node = self._newcomers_queue[0]
            if due_s > now:
                break
            heapq.heappop(self._newcomers_queue)
            if self._newcomers.get(node) == due_s:
                del self._newcomers[node]
                looked_count += self._tell(node)
        return looked_count

    def _are_many(self) -> bool:
        return len(self._newcomers) > _NEWCOMERS_FEW_COUNT

    def _queue_of(self, walk: Walk) -> deque[tuple[int, Batch]]:
        return self._urgent if walk.only is None else self._calm

    def _has_room(self, queue: deque[tuple[int, Batch]]) -> bool:
        return len(queue) < self._params.announce_parallel_count

    def _tell(self, node: bytes) -> int:
        """A newcomer, what it keeps. Cells looked at."""
        if self._members.get(node) is None:
            return 1
        certain, maybe = self._placement.reach(node)
        ranges = [certain]
        looked = 2
        for first, last in maybe:
            keys = self._keys.between(first, last)
            gathering = Gathering(self._placement, keys, 0, len(keys), last)
            looked += gathering.advance(len(keys))
            ranges += gathering.ranges.get(node, [])
        for state, keys in self._keys.within(sorted(ranges)):
            self._parcel(node, Verb.ADD, state, keys, self._keys.revision, urgent=False)
        return looked

    # -- sending ---------------------------------------------------------------------------------------------------

    def _parcel(
        self, node: bytes, verb: Verb, state: int, keys: Sequence[bytes], revision: int, *, urgent: bool
    ) -> None:
        target = None if node == self._own else self._members.get(node)
        if target is None and node != self._own:
            return
        size = self._params.keys_per_datagram_count
        for at in range(0, len(keys), size):
            batch = Batch(target, verb, tuple(keys[at : at + size]), state, urgent, self._sweep.number)
            self._queue(batch, revision)

    def _queue(self, batch: Batch, revision: int) -> None:
        (self._urgent if batch.urgent else self._calm).append((revision, batch))

    def _paced(self, now: float) -> list[Batch]:
        interval_s = 1 / self._params.announce_rate_per_s
        self._free_s = max(self._free_s, now - self._params.announce_parallel_count * interval_s)
        taken: list[Batch] = []
        while self._free_s <= now and (self._urgent or self._calm):
            # In turns where both wait: neither the sweep nor a delta is starved.
            self._is_urgents_turn = bool(self._urgent) and (self._is_urgents_turn or not self._calm)
            revision, batch = (self._urgent if self._is_urgents_turn else self._calm).popleft()
            self._is_urgents_turn = not self._is_urgents_turn
            current = batch if revision == self._keys.revision else self._still_true(batch)
            if current is not None:
                taken.append(current)
                self._free_s += interval_s
        return taken

    def _still_true(self, batch: Batch) -> Batch | None:
        target = batch.target
        if target is not None:
            target = self._members.get(target.node)
            if target is None:
                return None
        if batch.verb is Verb.ADD:
            keys = tuple(key for key in batch.keys if self._keys.has(key, batch.state))
        else:
            keys = tuple(key for key in batch.keys if not self._keys.has(key))
        return replace(batch, target=target, keys=keys) if keys else None
