"""Lookups in a network of nodes that answer or are dead, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from dht.lookup.lookup import Answered, Finish, Lookup, Outcome, Timer
from tests.support.lookup_steps import HEDGE_S, PARAMS, Provider, answered, asked, finish, lookup, reported

RTT_S = 0.01


@dataclass
class Net:
    """Nodes that answer after RTT_S what they were given, or never."""

    tables: Mapping[int, list[int]]
    records: Mapping[int, list[int]]
    dead: frozenset[int] = frozenset()
    told: set[int] = field(default_factory=set)

    def run(self, made: Lookup[Provider]) -> tuple[Finish, float]:
        """The end, and when it came."""
        queue: list[tuple[float, int, Answered[Provider]]] = []
        number = 0
        commands = made.start(0.0)
        now = 0.0
        while True:
            self.told.update(reported(commands))
            end = finish(commands)
            if end is not None:
                return end, now
            for found in asked(commands):
                if found not in self.dead:
                    closer = sorted(one for one in self.tables[found] if one < found)[:4]
                    event = answered(found, *self.records.get(found, []), closer=closer)
                    number += 1
                    heapq.heappush(queue, (now + RTT_S, number, event))
            due_at = made.next_timer()
            assert due_at is not None
            assert due_at > now
            if queue and queue[0][0] <= due_at:
                now, _, event = heapq.heappop(queue)
                commands = made.handle(event, now)
            else:
                now = due_at
                commands = made.handle(Timer(), now)


def test_sparse_tables_still_lead_to_the_records() -> None:
    """A network above the cap of the full table: each node knows a few of 2,000 and all of its neighbourhood."""
    rng = random.Random(3)
    numbers = sorted(rng.sample(range(1, 2**40), 2000))
    tables = {
        number: rng.sample(numbers, 40) + numbers[max(0, place - 15) : place + 15]
        for place, number in enumerate(numbers)
    }
    holders = numbers[: PARAMS.replicas_count]
    net = Net(tables, {holder: [77] for holder in holders})
    hops = []
    for start in rng.sample(numbers, 50):
        near = sorted(tables[start])[:8]
        end, at = net.run(lookup(*near))
        assert end.outcome is Outcome.FOUND
        hops.append(end.hops)
        assert at < HEDGE_S, "nobody is dead: no hedge was waited for"
    assert 1 < max(hops) <= 4


@pytest.mark.parametrize(("dead_share", "found_share"), [(0.0, 1.0), (0.2, 1.0), (0.5, 0.99)])
def test_a_full_table_with_dead_members_finds_what_a_live_holder_has(
    dead_share: float, found_share: float
) -> None:
    rng = random.Random(5)
    found_count = wanted_count = 0
    for _ in range(300):
        numbers = sorted(rng.sample(range(1, 2**40), 40))
        dead = frozenset(one for one in numbers if rng.random() < dead_share)
        holders = numbers[: PARAMS.replicas_count]
        if dead.issuperset(holders):
            continue
        wanted_count += 1
        net = Net(dict.fromkeys(numbers, numbers), {holder: [77] for holder in holders}, dead)
        end, at = net.run(lookup(*numbers[:20]))
        found_count += end.outcome is Outcome.FOUND
        assert at <= PARAMS.lookup_deadline_s
        if not dead & set(numbers[:3]):
            assert (at, end.asked_count) == (RTT_S, 3), "one round when nobody is dead"
        if net.told:
            assert at <= PARAMS.lookup_deadline_s
    assert found_count >= found_share * wanted_count


def test_a_miss_among_the_dead_ends_before_the_deadline_as_a_rule() -> None:
    rng = random.Random(7)
    ends = []
    for _ in range(300):
        numbers = sorted(rng.sample(range(1, 2**40), 40))
        dead = frozenset(one for one in numbers if rng.random() < 0.2)
        end, at = Net(dict.fromkeys(numbers, numbers), {}, dead).run(lookup(*numbers[:20]))
        assert at <= PARAMS.lookup_deadline_s
        assert end.outcome is Outcome.MISSING
        ends.append(at)
    ends.sort()
    assert ends[len(ends) // 2] <= HEDGE_S + RTT_S + 1e-9
