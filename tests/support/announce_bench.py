"""Announcements with their members, in time that is the test's own."""

from __future__ import annotations

import random
from collections.abc import Callable

from dht.announce.announce import Announcements, Batch, Verb
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.members import Members
from dht.params import Params

PARAMS = Params()
PERIOD_S = PARAMS.refresh_period_s
SETTLED_S = 60.0
# A call does a bounded amount of work and what is left is due at once: but not for ever.
CALLS_AT_ONCE_MAX_COUNT = 20_000


def contact(node: bytes, epoch: int = 1) -> Contact:
    return Contact(node, epoch, (Endpoint(f"10.0.{node[0]}.{node[1]}", 29021),), b"")


class Bench:
    """Driven by their own timers. Whatever is sent is answered, unless `answer` says otherwise."""

    def __init__(
        self, members_count: int, seed: int = 1, params: Params = PARAMS, phase: float = 0.3
    ) -> None:
        rng = random.Random(seed)
        self.rng = rng
        self.params = params
        self.own = contact(rng.randbytes(20))
        self.members = Members(self.own, params)
        self.members.preload(contact(rng.randbytes(20)) for _ in range(members_count))
        self.announcements = Announcements(self.own.node, self.members, params, phase, rng)
        self.now = 1000.0
        self.sent: list[tuple[float, Batch]] = []
        self.answer: Callable[[Batch], None] = lambda batch: self.announcements.done(batch, b"", self.now)

    def keys(self, count: int) -> list[bytes]:
        return [self.rng.randbytes(20) for _ in range(count)]

    def provide(self, keys: list[bytes], state: int = 1) -> None:
        self.announcements.provide(keys, state, self.now)

    def withdraw(self, keys: list[bytes]) -> None:
        self.announcements.withdraw(keys, self.now)

    def join(self, node: bytes, epoch: int = 1) -> None:
        for change in self.members.told(contact(node, epoch), self.now):
            self.announcements.member_joined(change.contact, self.now)  # type: ignore[union-attr]

    def run(self, for_s: float) -> list[tuple[float, Batch]]:
        """What was sent in that time."""
        until = self.now + for_s
        start = len(self.sent)
        calls_count = 0
        while (due_s := self.announcements.next_due(self.now)) is not None and due_s <= until:
            calls_count = calls_count + 1 if due_s <= self.now else 0
            assert calls_count < CALLS_AT_ONCE_MAX_COUNT, "due again and again without an end"
            self.now = max(self.now, due_s)
            for batch in self.announcements.due(self.now):
                assert 0 < len(batch.keys) <= self.params.keys_per_datagram_count
                self.sent.append((self.now, batch))
                self.answer(batch)
        self.now = until
        return self.sent[start:]

    def settle(self) -> None:
        self.run(SETTLED_S)
        self.sent.clear()

    def nearest(self, key: bytes) -> set[bytes]:
        nodes = [self.own.node, *(one.node for one in self.members)]
        return set(sorted(nodes, key=lambda node: distance(node, key))[: self.params.replicas_count])

    def placed(self, keys: list[bytes]) -> set[tuple[bytes, bytes]]:
        return {(node, key) for key in keys for node in self.nearest(key)}

    def target(self, batch: Batch) -> bytes:
        return batch.target.node if batch.target else self.own.node


def told(bench: Bench, sent: list[tuple[float, Batch]], verb: Verb = Verb.ADD) -> list[tuple[bytes, bytes]]:
    return [(bench.target(batch), key) for _, batch in sent if batch.verb is verb for key in batch.keys]


def once(pairs: list[tuple[bytes, bytes]]) -> set[tuple[bytes, bytes]]:
    assert len(pairs) == len(set(pairs)), "told twice"
    return set(pairs)
