"""What comes round again, and who is told out of turn: damping, newcomers, the sweep, nodes that slept."""

from __future__ import annotations

from collections import Counter

import pytest

from dht.announce.announce import Batch
from dht.announce.damping import Damping
from tests.support.announce_bench import PARAMS, PERIOD_S, SETTLED_S, Bench, once, told

# -- damping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(6))
def test_a_saturated_key_comes_back_at_every_fourth_sweep_there_only(place: int) -> None:
    """Wherever the node stands on the ring: the last one answers when the next sweep has begun."""
    bench = Bench(6)
    keys = bench.keys(5)
    hot = sorted(keys)[2]
    full = sorted(bench.nearest(hot) - {bench.own.node})[place]

    def answer(batch: Batch) -> None:
        bits = sum(
            1 << number
            for number, key in enumerate(batch.keys)
            if batch.target and batch.target.node == full and key == hot
        )
        bench.announcements.done(batch, bits.to_bytes(6, "little").rstrip(b"\0"), bench.now)

    bench.provide(keys)
    bench.settle()
    bench.answer = answer
    rounds = [once(told(bench, bench.run(PERIOD_S))) for _ in range(9)]
    everything = bench.placed(keys)
    damped = everything - {(full, hot)}
    assert rounds == [everything, *[damped] * 3, everything, *[damped] * 3, everything]


def test_a_node_that_was_started_anew_gets_its_saturated_keys() -> None:
    bench = Bench(1)
    (member,) = bench.members
    keys = bench.keys(3)
    bench.answer = lambda batch: bench.announcements.done(batch, b"\x07", bench.now)
    bench.provide(keys)
    bench.run(10.0)
    bench.answer = lambda batch: bench.announcements.done(batch, b"", bench.now)
    bench.join(member.node, epoch=2)
    assert once(told(bench, bench.run(1.0))) == {(member.node, key) for key in keys}
    # Its records would end before the fourth sweep.
    assert once(told(bench, bench.run(PERIOD_S))) == bench.placed(keys)


def test_what_is_damped_is_kept_once() -> None:
    damping = Damping(4)
    for _ in range(3):
        damping.saturated(b"n" * 20, [b"k" * 20], 7)
    assert len(damping) == 1
    assert damping.left(b"n" * 20, [b"k" * 20, b"l" * 20], 10) == [b"l" * 20]
    assert damping.left(b"n" * 20, [b"k" * 20], 11) == [b"k" * 20]
    assert len(damping) == 0


# -- newcomers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members_count", "within_s"),
    [(1, 0.1), (7, 0.2), (8, 0.2), (12, 0.2), (60, 0.7), (300, 3.1), (4000, 30.0)],
)
def test_a_newcomer_gets_its_keys_within_the_jitter(members_count: int, within_s: float) -> None:
    bench = Bench(members_count)
    keys = bench.keys(300)
    bench.provide(keys)
    bench.settle()
    start = bench.now
    joined = [bench.rng.randbytes(20) for _ in range(5)]
    for node in joined:
        bench.join(node)
    sent = [one for one in bench.run(within_s + 0.5) if bench.target(one[1]) in joined]
    assert set(told(bench, sent)) == {(node, key) for node, key in bench.placed(keys) if node in joined}
    times = {bench.target(batch): at - start for at, batch in sent}
    assert len(set(times.values())) == len(times)
    assert not any(batch.urgent for _, batch in sent)


def test_a_newcomer_that_is_gone_again_gets_nothing() -> None:
    bench = Bench(3)
    bench.provide(bench.keys(3))
    bench.settle()
    bench.join(b"n" * 20)
    bench.members.left(b"n" * 20, 1, bench.now)
    assert all(bench.target(batch) != b"n" * 20 for _, batch in bench.run(PERIOD_S))


def test_a_newcomer_that_came_twice_gets_its_keys_once() -> None:
    bench = Bench(0)
    keys = bench.keys(3)
    bench.provide(keys)
    bench.settle()
    for epoch in (1, 2, 3):
        bench.join(b"n" * 20, epoch)
    sent = [one for one in bench.run(PARAMS.rejoin_jitter_s + 1.0) if one[1].target]
    assert once(told(bench, sent)) == {(b"n" * 20, key) for key in keys}


def test_many_newcomers_are_told_together_and_the_others_are_left_alone() -> None:
    bench = Bench(100)
    keys = bench.keys(300)
    bench.provide(keys)
    bench.settle()
    joined = {bench.rng.randbytes(20) for _ in range(300)}
    for node in sorted(joined):
        bench.join(node)
    sent = bench.run(10.0)
    newcomers = [one for one in sent if bench.target(one[1]) in joined]
    assert set(told(bench, newcomers)) == {(node, key) for node, key in bench.placed(keys) if node in joined}
    # The sweep goes on meanwhile.
    assert len(sent) - len(newcomers) < 10


@pytest.mark.parametrize("members_count", [2, 150, 600])
def test_who_provides_before_it_knows_anybody_tells_all_when_it_joins(members_count: int) -> None:
    bench = Bench(0)
    keys = bench.keys(200)
    bench.provide(keys)
    bench.run(2.0)
    bench.sent.clear()
    for _ in range(members_count):
        bench.join(bench.rng.randbytes(20))
    others = {(node, key) for node, key in bench.placed(keys) if node != bench.own.node}
    assert set(told(bench, bench.run(10.0))) >= others


def test_without_keys_newcomers_mean_nothing() -> None:
    bench = Bench(3)
    bench.join(b"n" * 20)
    assert bench.announcements.next_due(bench.now) is None
    assert bench.announcements.due(bench.now) == []


# -- the sweep -----------------------------------------------------------------------------------------------------


def test_a_sweep_tells_each_node_once_and_at_a_flat_rate() -> None:
    bench = Bench(400)
    keys = bench.keys(1000)
    bench.provide(keys)
    bench.settle()
    sent = bench.run(PERIOD_S)
    assert once(told(bench, sent)) == bench.placed(keys)
    assert max(Counter(bench.target(batch) for _, batch in sent).values()) == 1
    tenths = Counter(int((at - 1000.0 - SETTLED_S) * 10 / PERIOD_S) for at, _ in sent)
    assert min(tenths[tenth] for tenth in range(10)) >= 20 and max(tenths.values()) <= 60


def test_a_thousand_nodes_with_a_thousand_keys_send_less_than_one_request_a_second() -> None:
    bench = Bench(999)
    keys = bench.keys(1000)
    bench.provide(keys)
    bench.settle()
    sent = bench.run(PERIOD_S)
    assert once(told(bench, sent)) == bench.placed(keys)
    assert sum(batch.target is not None for _, batch in sent) / PERIOD_S <= 1.0


def test_nodes_with_other_phases_sweep_at_other_times() -> None:
    turns = []
    for phase in (0.0, 0.25, 0.5, 0.999):
        bench = Bench(50, phase=phase)
        bench.provide(bench.keys(200))
        bench.settle()
        lowest = min(one.node for one in bench.members)
        turns += [at for at, batch in bench.run(PERIOD_S) if bench.target(batch) == lowest][:1]
    assert len({round(at % PERIOD_S) for at in turns}) == 4


def test_a_host_that_slept_makes_one_round() -> None:
    bench = Bench(40)
    keys = bench.keys(200)
    bench.provide(keys)
    bench.settle()
    bench.now += 5.5 * PERIOD_S
    late = once(told(bench, bench.run(30.0)))
    assert late <= bench.placed(keys)
    assert set(told(bench, bench.run(PERIOD_S))) == bench.placed(keys)


def test_what_is_provided_meanwhile_does_not_start_the_round_anew() -> None:
    bench = Bench(40)
    keys = bench.keys(200)
    bench.provide(keys)
    bench.settle()
    bench.now += 0.9 * PERIOD_S
    bench.provide(bench.keys(1))
    late = [one for one in bench.run(30.0) if not one[1].urgent]
    assert len(set(told(bench, late))) > 0.7 * len(bench.placed(keys))


@pytest.mark.parametrize("members_count", [12, 30, 100])
def test_when_members_leave_their_heirs_are_told_and_nobody_twice(members_count: int) -> None:
    bench = Bench(members_count)
    keys = bench.keys(300)
    bench.provide(keys)
    # The ring's start: from here on a round is a period.
    bench.run((2 - 0.3) * PERIOD_S - bench.now)
    bench.sent.clear()
    start = bench.now
    bench.run(0.4 * PERIOD_S)
    gone = [one for one in bench.members if one.node[0] % 3 == 0]
    for one in gone:
        bench.members.left(one.node, one.epoch, bench.now)
    bench.run(0.6 * PERIOD_S - 1.0)
    sent = once(told(bench, bench.sent))
    assert not {
        (bench.target(batch), key)
        for at, batch in bench.sent
        if at > start + 0.4 * PERIOD_S
        for key in batch.keys
    } & {(one.node, key) for one in gone for key in keys}
    # All who had their turn after that, with all that they keep now of the regions that were not over.
    first = bytes([128])
    assert sent >= {(node, key) for node, key in bench.placed(keys) if node > first and key > first}
    assert set(told(bench, bench.run(PERIOD_S))) == bench.placed(keys)


def test_the_sweep_rests_without_keys_and_wakes_with_them() -> None:
    bench = Bench(20)
    keys = bench.keys(10)
    bench.provide(keys)
    bench.settle()
    bench.withdraw(keys)
    bench.run(2 * PERIOD_S)
    assert bench.announcements.next_due(bench.now) is None
    bench.now += 3.3 * PERIOD_S
    bench.provide(keys)
    bench.settle()
    assert once(told(bench, bench.run(PERIOD_S))) == bench.placed(keys)
