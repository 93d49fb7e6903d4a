"""When a node sends its next beacon. Pure.

Rules
1. A few beacons soon after the start and after a network came, then one every `beacon_interval_s`, each varied.
2. A settled node that hears a node for the first time answers with one early beacon, so that a newcomer need not wait.
   All hosts of the network hear the newcomer at once: each waits a random moment and keeps quiet if enough others
   spoke meanwhile (the idea of Trickle, RFC 6206 §4.2).
3. Early beacons are rare, whoever speaks.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from dht.params import Params

# A beacon's time is varied by up to this share, downwards.
JITTER = 0.5
# The random moment of rule 2, at most. The newcomer repeats its own beacon after about as long.
EARLY_WITHIN_S = 0.5
# Rule 2: a newcomer that knows so many nodes can join.
EARLY_ENOUGH_COUNT = 3
EARLY_EVERY_S = 5.0


class BeaconTimer:
    """The first beacon is due at once. `now` is monotonic seconds."""

    def __init__(self, params: Params, rng: random.Random, now: float) -> None:
        self._params = params
        self._rng = rng
        self._first_left_count = params.beacon_first_count
        self._regular_at = now
        self._early_at: float | None = None
        self._heard_since_early_count = 0
        self._last_early_at: float | None = None
        # Who was heard, oldest first; bounded as any memory of strangers.
        self._heard: OrderedDict[bytes, None] = OrderedDict()

    def due_at(self) -> float:
        return self._regular_at if self._early_at is None else min(self._regular_at, self._early_at)

    def network_came(self, now: float) -> None:
        self._first_left_count = self._params.beacon_first_count
        self._regular_at = now

    def sent(self, now: float) -> None:
        if self._early_at is not None:
            self._last_early_at = now
            self._early_at = None
        if now < self._regular_at:
            return
        self._first_left_count = max(0, self._first_left_count - 1)
        mean_s = self._params.beacon_first_s if self._first_left_count else self._params.beacon_interval_s
        self._regular_at = now + mean_s * (1 - JITTER * self._rng.random())

    def heard(self, node: bytes, now: float) -> None:
        is_new = node not in self._heard
        self._heard[node] = None
        self._heard.move_to_end(node)
        if len(self._heard) > self._params.strangers_max_count:
            self._heard.popitem(last=False)
        if self._early_at is not None:
            self._heard_since_early_count += 1
            if self._heard_since_early_count >= EARLY_ENOUGH_COUNT:
                self._early_at = None
            return
        is_settled = not self._first_left_count
        is_rested = self._last_early_at is None or now - self._last_early_at >= EARLY_EVERY_S
        if is_new and is_settled and is_rested:
            self._early_at = now + EARLY_WITHIN_S * self._rng.random()
            self._heard_since_early_count = 0
