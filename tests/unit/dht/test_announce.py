"""When a node tells whom what: deltas, pace, retries. One case a test."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from dht.announce.announce import Batch, Verb
from tests.support.announce_bench import PARAMS, PERIOD_S, Bench, once, told

# -- deltas --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members_count", [0, 1, 7, 8, 9, 40, 300])
@pytest.mark.parametrize("keys_count", [1, 100])
def test_new_keys_reach_the_nearest_nodes_once(members_count: int, keys_count: int) -> None:
    bench = Bench(members_count)
    keys = bench.keys(keys_count)
    bench.provide(keys)
    sent = [one for one in bench.run(10.0) if one[1].urgent]
    assert once(told(bench, sent)) == bench.placed(keys)
    assert all(batch.state == 1 and batch.verb is Verb.ADD for _, batch in sent)


def test_a_key_goes_to_this_node_itself_where_it_is_near() -> None:
    bench = Bench(0)
    bench.provide(bench.keys(3))
    (_, batch), *more = bench.run(1.0)
    assert batch.target is None and len(batch.keys) == 3 and not more


def test_keys_for_one_node_share_datagrams() -> None:
    bench = Bench(3)
    bench.provide(bench.keys(100))
    sent = bench.run(10.0)
    assert all(count == 3 for count in Counter(bench.target(batch) for _, batch in sent).values())


@pytest.mark.parametrize(
    ("changes_s", "sent_s"),
    [
        ([0.0], 0.25),
        ([0.0, 0.2], 0.45),
        ([0.0, 0.24, 0.48, 0.72, 0.96], 1.0),
    ],
)
def test_changes_wait_a_moment_for_more(changes_s: list[float], sent_s: float) -> None:
    bench = Bench(5)
    start = bench.now
    for at in changes_s:
        assert bench.run(start + at - bench.now) == []
        bench.provide(bench.keys(2))
    first = bench.run(5.0)[0]
    assert first[0] - start == pytest.approx(sent_s)
    assert len(first[1].keys) >= len(changes_s)


def test_what_is_provided_already_is_not_told_again() -> None:
    bench = Bench(5)
    keys = bench.keys(3)
    bench.provide(keys)
    bench.settle()
    bench.provide(keys)
    assert bench.run(2.0) == []
    assert bench.announcements.keys_count == 3


def test_another_state_is_told() -> None:
    bench = Bench(20)
    keys = bench.keys(3)
    bench.provide(keys, 1)
    bench.settle()
    bench.provide(keys[:1], 2)
    sent = bench.run(2.0)
    assert once(told(bench, sent)) == bench.placed(keys[:1])
    assert {batch.state for _, batch in sent} == {2}
    assert bench.announcements.keys_count == 3


def test_a_state_that_changed_before_it_was_told_is_not_told() -> None:
    bench = Bench(5)
    keys = bench.keys(1)
    bench.provide(keys, 1)
    bench.provide(keys, 2)
    assert {batch.state for _, batch in bench.run(2.0)} == {2}


def test_withdrawn_keys_are_withdrawn_where_they_were_told() -> None:
    bench = Bench(100)
    keys = bench.keys(50)
    bench.provide(keys)
    bench.settle()
    bench.withdraw(keys[:20])
    sent = bench.run(5.0)
    assert once(told(bench, sent, Verb.REMOVE)) == bench.placed(keys[:20])
    assert all(batch.urgent for _, batch in sent if batch.verb is Verb.REMOVE)
    later = bench.run(PERIOD_S)
    assert not set(keys[:20]) & {key for _, key in told(bench, later)}


def test_what_is_not_provided_is_not_withdrawn() -> None:
    bench = Bench(5)
    bench.withdraw(bench.keys(3))
    assert bench.announcements.next_due(bench.now) is None


def test_a_key_withdrawn_before_it_was_told_is_never_told() -> None:
    bench = Bench(5)
    keys = bench.keys(4)
    bench.provide(keys)
    bench.withdraw(keys[:2])
    sent = bench.run(5.0)
    assert {key for _, key in told(bench, sent)} == set(keys[2:])


def test_a_key_provided_again_is_not_withdrawn() -> None:
    bench = Bench(5)
    keys = bench.keys(1)
    bench.provide(keys)
    bench.settle()
    bench.withdraw(keys)
    bench.provide(keys)
    sent = bench.run(5.0)
    assert told(bench, sent, Verb.REMOVE) == []
    assert once(told(bench, sent)) == bench.placed(keys)


def test_what_waits_to_be_sent_is_dropped_when_it_is_withdrawn() -> None:
    """An announcement that is sent after the withdrawal would have the newer stamp."""
    bench = Bench(30)
    keys = bench.keys(3000)
    bench.provide(keys)
    bench.run(0.5)
    before = len(bench.sent)
    assert before
    bench.withdraw(keys)
    assert told(bench, bench.run(60.0)) == []
    reached = once(told(bench, bench.sent[:before]))
    assert reached <= once(told(bench, bench.sent, Verb.REMOVE))


def test_what_waits_to_be_withdrawn_is_dropped_when_it_is_provided_again() -> None:
    bench = Bench(30)
    keys = bench.keys(3000)
    bench.provide(keys)
    bench.settle()
    bench.withdraw(keys)
    assert told(bench, bench.run(0.5), Verb.REMOVE)
    bench.provide(keys)
    sent = bench.run(60.0)
    assert told(bench, sent, Verb.REMOVE) == []
    assert set(told(bench, sent)) == bench.placed(keys)


def test_bad_keys_and_states_change_nothing() -> None:
    bench = Bench(5)
    for keys, state in (([b"k" * 20, b"short"], 1), ([b"k" * 20], 256), ([b"k" * 20], -1)):
        with pytest.raises(ValueError, match=r"expected|bytes"):
            bench.provide(keys, state)
    assert bench.announcements.keys_count == 0
    assert bench.announcements.next_due(bench.now) is None


@pytest.mark.parametrize(("members_count", "keys_count"), [(20, 2000), (0, 1), (300, 5)])
def test_the_urgent_is_over_when_it_was_sent(members_count: int, keys_count: int) -> None:
    bench = Bench(members_count)
    assert not bench.announcements.has_urgent
    bench.provide(bench.keys(keys_count))
    over_s = None
    while bench.now < 1030.0:
        if not bench.announcements.has_urgent:
            over_s = over_s or bench.now
        due_s = bench.announcements.next_due(bench.now)
        bench.run((due_s or bench.now + 1.0) - bench.now)
    assert over_s == max(at for at, batch in bench.sent if batch.urgent)


def test_a_round_starts_with_the_keys_and_nodes_next_to_this_one() -> None:
    """If all nodes began at zero, the lowest ids would hear everybody at once."""
    bench = Bench(300)
    bench.provide(bench.keys(500))
    sent = [batch for _, batch in bench.run(10.0) if batch.urgent]
    bits = [f"{int.from_bytes(found, 'big'):0160b}"[:4] for found in (sent[0].keys[0], bench.own.node)]
    assert bits[0] == bits[1]
    targets = [bench.target(batch) for batch in sent[:5]]
    assert targets[0] == bench.own.node
    assert targets == sorted(targets)


# -- pace ----------------------------------------------------------------------------------------------------------


def test_a_start_is_paced() -> None:
    bench = Bench(500)
    bench.provide(bench.keys(1000))
    start = bench.now
    times = [at - start for at, batch in bench.run(30.0) if batch.urgent]
    assert len(times) > 450
    burst_count = PARAMS.announce_parallel_count + 1
    for first in range(0, len(times), 50):
        within_s = [at for at in times if times[first] <= at < times[first] + 0.5]
        assert len(within_s) <= 0.5 * PARAMS.announce_rate_per_s + burst_count
    assert max(times) < 1.0 + len(times) / PARAMS.announce_rate_per_s


def test_a_call_gives_no_more_than_is_to_be_sent_at_once() -> None:
    bench = Bench(10)
    bench.provide(bench.keys(20_000))
    bench.now += 100.0
    counts = []
    for _ in range(50):
        counts.append(len(bench.announcements.due(bench.now)))
    assert 0 < sum(counts) <= PARAMS.announce_parallel_count + 1


def test_ten_new_layers_do_not_wait_behind_a_start() -> None:
    bench = Bench(300)
    bench.provide(bench.keys(20_000))
    bench.run(1.0)
    new = bench.keys(10)
    bench.provide(new)
    assert set(told(bench, bench.run(1.5))) >= bench.placed(new)


def test_a_new_key_does_not_wait_behind_a_late_sweep() -> None:
    bench = Bench(10)
    bench.provide(bench.keys(20_000))
    bench.settle()
    bench.now += 0.99 * PERIOD_S
    bench.run(0.1)
    new = bench.keys(1)
    bench.provide(new)
    sent = bench.run(0.5)
    assert set(told(bench, sent)) >= bench.placed(new)
    assert not all(batch.urgent for _, batch in sent)


def test_many_deltas_do_not_starve_the_sweep() -> None:
    period_s = 60.0
    bench = Bench(100, params=replace(PARAMS, refresh_period_s=period_s))
    keys = bench.keys(200)
    bench.provide(keys)
    bench.settle()
    for _ in range(int(period_s)):
        # More than the pace allows.
        fresh = bench.keys(60)
        bench.provide(fresh)
        bench.run(1.0)
        bench.withdraw(fresh)
    assert sum(batch.urgent for _, batch in bench.sent) > 0.7 * period_s * PARAMS.announce_rate_per_s
    calm = [one for one in bench.sent if not one[1].urgent]
    assert set(told(bench, calm)) >= bench.placed(keys)


# -- failures ------------------------------------------------------------------------------------------------------


def test_what_failed_is_sent_once_more() -> None:
    bench = Bench(1)
    (member,) = bench.members
    bench.answer = lambda batch: bench.announcements.failed(batch, bench.now) if batch.target else None
    bench.provide(bench.keys(1))
    sent = [one for one in bench.run(30.0) if one[1].target == member]
    assert [batch.is_retry for _, batch in sent] == [False, True]
    assert sent[1][0] - sent[0][0] == pytest.approx(1.0, abs=0.1)
    assert sent[1][1].keys == sent[0][1].keys


def test_a_retry_says_what_is_true_then() -> None:
    bench = Bench(1)
    keys = bench.keys(3)
    bench.answer = lambda batch: bench.announcements.failed(batch, bench.now) if batch.target else None
    bench.provide(keys)
    bench.run(0.5)
    assert bench.announcements.has_urgent
    bench.withdraw(keys[:1])
    retried = [batch for _, batch in bench.run(1.0) if batch.is_retry and batch.verb is Verb.ADD]
    assert [set(batch.keys) for batch in retried] == [set(keys[1:])]


def test_a_node_that_is_gone_is_not_tried_again() -> None:
    bench = Bench(1)
    (member,) = bench.members
    bench.answer = lambda batch: bench.announcements.failed(batch, bench.now) if batch.target else None
    bench.provide(bench.keys(1))
    bench.run(0.5)
    bench.members.left(member.node, member.epoch, bench.now)
    bench.sent.clear()
    assert all(batch.target is None for _, batch in bench.run(PERIOD_S))


def test_what_is_to_be_sent_once_more_is_bounded() -> None:
    bench = Bench(1)
    (member,) = bench.members
    keys = bench.keys(5000)
    bench.provide(keys)
    bench.settle()
    for key in keys:
        bench.announcements.failed(Batch(member, Verb.ADD, (key,), 1, False), bench.now)
    assert 500 < sum(batch.is_retry for _, batch in bench.run(100.0)) < 2000
