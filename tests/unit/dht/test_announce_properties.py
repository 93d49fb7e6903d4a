"""Whatever the ids, keys and order of things: who keeps a key is told of it, and no withdrawn key stays."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from dht.announce.announce import Announcements, Batch, Verb
from dht.announce.own_keys import OwnKeys
from dht.announce.placement import LAST_KEY, Gathering, Placement, within
from dht.announce.sweep import Sweep
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.members import Joined, Members
from dht.params import Params
from tests.support.examples import examples

# Three replicas: small clusters are divided into regions, too.
PARAMS = Params(replicas_count=3, keys_per_datagram_count=5)
PERIOD_S = PARAMS.refresh_period_s
# Enough for many at once, and quick.
CROWD_MAX_COUNT = 500

# Ids all over the ring, ids that stand close together, and the ends.
spread = st.binary(min_size=20, max_size=20)
crowded = st.builds(
    lambda head, tail: head + bytes(17) + tail,
    st.sampled_from([b"\0\0", b"\x80\0", b"\x80\1"]),
    st.binary(min_size=1, max_size=1),
)
ids = st.one_of(spread, crowded, st.sampled_from([bytes(20), LAST_KEY, b"\x7f" + b"\xff" * 19]))
id_sets = st.sets(ids, max_size=40)
key_sets = st.sets(ids, min_size=1, max_size=30)


def contact(node: bytes, epoch: int = 1) -> Contact:
    return Contact(node, epoch, (Endpoint("10.0.0.1", 29021),), b"")


def cluster(nodes: set[bytes], own: bytes) -> Members:
    members = Members(contact(own), PARAMS)
    members.preload(map(contact, nodes - {own}))
    return members


def nearest(nodes: set[bytes], key: bytes) -> set[bytes]:
    return set(sorted(nodes, key=lambda node: distance(node, key))[: PARAMS.replicas_count])


def placed(nodes: set[bytes], keys: set[bytes]) -> set[tuple[bytes, bytes]]:
    return {(node, key) for key in keys for node in nearest(nodes, key)}


# -- placement -----------------------------------------------------------------------------------------------------


@given(id_sets, ids, ids, st.data())
def test_a_cell_is_kept_by_the_nearest_nodes_from_end_to_end(
    others: set[bytes], own: bytes, key: bytes, data: st.DataObject
) -> None:
    nodes = others | {own}
    last, kept_by = Placement(cluster(nodes, own), PARAMS.replicas_count).cell(key)
    assert key <= last
    low, high = int.from_bytes(key, "big"), int.from_bytes(last, "big")
    between = data.draw(st.integers(low, high)).to_bytes(20, "big")
    for one in (key, between, last):
        assert set(kept_by) == nearest(nodes, one)


@given(id_sets, ids, key_sets)
def test_what_a_node_keeps_is_within_its_reach(others: set[bytes], own: bytes, keys: set[bytes]) -> None:
    nodes = others | {own}
    placement = Placement(cluster(nodes, own), PARAMS.replicas_count)
    for node in nodes:
        certain, maybe = placement.reach(node)
        kept = {key for key in keys if node in nearest(nodes, key)}
        surely = {key for key in keys if certain[0] <= key <= certain[1]}
        perhaps = {key for key in keys for first, last in maybe if first <= key <= last}
        assert surely <= kept <= surely | perhaps


@given(id_sets, ids, key_sets, st.integers(1, 5))
def test_gathering_gives_each_node_its_keys_once(
    others: set[bytes], own: bytes, keys: set[bytes], cells_count: int
) -> None:
    nodes = others | {own}
    placement = Placement(cluster(nodes, own), PARAMS.replicas_count)
    listed = sorted(keys)
    middle = len(listed) // 2
    pairs = []
    # Two runs side by side: no range of one reaches into the other.
    for start, end in ((0, middle), (middle, len(listed))):
        upto = listed[middle - 1] if end == middle else LAST_KEY
        gathering = Gathering(placement, listed, start, end, upto)
        while not gathering.is_done:
            assert 0 < gathering.advance(cells_count) <= cells_count
        pairs += [(node, key) for node, ranges in gathering.ranges.items() for key in within(listed, ranges)]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == placed(nodes, keys)


@given(st.lists(st.tuples(st.booleans(), key_sets, st.integers(0, 2)), max_size=8), ids, ids)
def test_own_keys_are_a_dictionary_in_order(
    changes: list[tuple[bool, set[bytes], int]], first: bytes, last: bytes
) -> None:
    own = OwnKeys()
    model: dict[bytes, int] = {}
    for is_put, keys, state in changes:
        if is_put:
            assert own.put(keys, state) == sorted(key for key in keys if model.get(key) != state)
            model.update(dict.fromkeys(keys, state))
        else:
            assert own.take(keys) == sorted(keys & set(model))
            model = {key: state for key, state in model.items() if key not in keys}
        assert len(own) == len(model)
        assert {key: state for state, listed in own for key in listed} == model
        assert own.between(first, last) == sorted(key for key in model if first <= key <= last)
        assert own.first_from(first) == min((key for key in model if key >= first), default=None)
        for key in keys:
            assert own.has(key) is (key in model)


# -- the sweep -----------------------------------------------------------------------------------------------------


@given(id_sets, ids, key_sets, st.floats(0, 1, exclude_max=True), st.floats(0, 1e6), st.integers(1, 3))
def test_in_any_period_each_node_has_its_turn_with_all_its_keys(
    others: set[bytes], own: bytes, keys: set[bytes], phase: float, start_s: float, cells_count: int
) -> None:
    nodes = others | {own}
    own_keys = OwnKeys()
    own_keys.put(keys, 1)
    placement = Placement(cluster(nodes, own), PARAMS.replicas_count)
    sweep = Sweep(own_keys, placement, PERIOD_S, phase)
    sweep.woken(start_s)
    times: dict[tuple[bytes, bytes], list[float]] = {}
    until_s = start_s + 2.5 * PERIOD_S
    while (due_s := sweep.next_due()) is not None and due_s < until_s:
        now = max(due_s, start_s)
        turn, looked = sweep.take(now, cells_count)
        assert looked <= cells_count
        if turn is not None:
            # Nobody waits for another's turn.
            assert now - 1e-3 <= turn.due_s <= now
            for key in within(sorted(keys), turn.ranges):
                times.setdefault((turn.node, key), []).append(turn.due_s)
    assert set(times) == placed(nodes, keys)
    # Ids are placed on the ring, and times kept, as floats.
    slack_s = 1e-3
    for found in times.values():
        assert found[0] <= start_s + PERIOD_S + slack_s
        for before, after in pairwise(found):
            assert abs(after - before - PERIOD_S) <= slack_s
        assert found[-1] >= until_s - PERIOD_S - slack_s


@given(st.integers(0, 999), st.sampled_from([0.1, 0.3, 0.6, 0.9]), st.integers(0, 60))
def test_in_one_round_nobody_is_told_twice_whatever_the_regions_become(
    seed: int, changed_at: float, left_count: int
) -> None:
    rng = random.Random(seed)
    nodes = {rng.randbytes(20) for _ in range(64)}
    own = min(nodes)
    members = cluster(nodes, own)
    own_keys = OwnKeys()
    keys = sorted(rng.randbytes(20) for _ in range(60))
    own_keys.put(keys, 1)
    sweep = Sweep(own_keys, Placement(members, PARAMS.replicas_count), PERIOD_S, 0.0)
    sweep.woken(0.0)
    pairs = []
    while (due_s := sweep.next_due()) is not None and due_s < PERIOD_S:
        if due_s > changed_at * PERIOD_S:
            for one in list(members)[left_count:]:
                members.left(one.node, one.epoch, due_s)
        turn, _ = sweep.take(due_s, 100)
        if turn is not None and sweep.number == 0:
            pairs += [(turn.node, key) for key in within(keys, turn.ranges)]
    assert len(pairs) == len(set(pairs))
    # Of the region at hand, those who are left may have had their turn already.
    later = {key for key in keys if changed_at + 1 / 8 < key[0] / 256 < 0.95}
    assert {key for _, key in pairs} >= later


# -- everything together -------------------------------------------------------------------------------------------


class AnnouncementsMachine(RuleBasedStateMachine):
    """A cluster whose nodes keep what they are told. It loses datagrams; members come, go and start anew."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.keys: dict[bytes, int] = {}
        # What each node keeps: the state of each key.
        self.kept: dict[bytes, dict[bytes, int]] = {}
        self.is_lossy = False

    @initialize(own=ids, others=id_sets, seed=st.integers(0, 999))
    def start(self, own: bytes, others: set[bytes], seed: int) -> None:
        self.own = own
        self.members = cluster(others, own)
        self.rng = random.Random(seed)
        self.announcements = Announcements(own, self.members, PARAMS, self.rng.random(), self.rng)
        self.kept = {node: {} for node in others | {own}}

    # -- what may happen

    @rule(keys=key_sets, state=st.integers(0, 2))
    def provide(self, keys: set[bytes], state: int) -> None:
        self.announcements.provide(keys, state, self.now)
        self.keys.update(dict.fromkeys(keys, state))

    @rule(share=st.sampled_from([0.2, 1.0]))
    def withdraw(self, share: float) -> None:
        keys = {key for key in self.keys if self.rng.random() < share}
        self.announcements.withdraw(keys, self.now)
        for key in keys:
            del self.keys[key]

    @rule(node=ids)
    def join(self, node: bytes) -> None:
        known = self.members.get(node)
        for change in self.members.told(contact(node, known.epoch + 1 if known else 1), self.now):
            assert isinstance(change, Joined)
            self.kept[node] = {}
            self.announcements.member_joined(change.contact, self.now)

    @rule(count=st.integers(40, 90))
    def join_in_crowds(self, count: int) -> None:
        for _ in range(count):
            if len(self.members) < CROWD_MAX_COUNT:
                self.join(self.rng.randbytes(20))

    @rule(count=st.integers(1, 20))
    def leave(self, count: int) -> None:
        for _ in range(count):
            gone = self.members.random(self.rng)
            if gone is not None:
                self.members.left(gone.node, gone.epoch, self.now)

    @rule(is_lossy=st.booleans(), for_s=st.sampled_from([0.1, 0.3, 1.0, 40.0, 0.4 * PERIOD_S]))
    def run(self, is_lossy: bool, for_s: float) -> None:
        self.is_lossy = is_lossy
        self.drive(for_s)

    @rule(for_s=st.sampled_from([1.0, 3.3 * PERIOD_S]))
    def sleep(self, for_s: float) -> None:
        self.now += for_s

    # -- how it is carried out

    def drive(self, for_s: float) -> None:
        until_s = self.now + for_s
        calls_count = 0
        while (due_s := self.announcements.next_due(self.now)) is not None and due_s <= until_s:
            calls_count = calls_count + 1 if due_s <= self.now else 0
            assert calls_count < 5000
            self.now = max(self.now, due_s)
            for batch in self.announcements.due(self.now):
                self.deliver(batch)
        self.now = until_s

    def deliver(self, batch: Batch) -> None:
        assert 0 < len(batch.keys) <= PARAMS.keys_per_datagram_count
        assert len(batch.keys) == len(set(batch.keys))
        if batch.target is not None and self.is_lossy and self.rng.random() < 0.3:
            self.announcements.failed(batch, self.now)
            return
        kept = self.kept[batch.target.node if batch.target else self.own]
        for key in batch.keys:
            if batch.verb is Verb.ADD:
                # What is said is true when it is said.
                assert self.keys.get(key) == batch.state
                kept[key] = batch.state
            else:
                assert key not in self.keys
                kept.pop(key, None)
        self.announcements.done(batch, b"", self.now)

    def teardown(self) -> None:
        if not self.kept:
            return
        self.is_lossy = False
        # Who keeps a key since others left may have had its turn already in this round.
        self.drive(2 * PERIOD_S + 60.0)
        assert not self.announcements.has_urgent
        nodes = {one.node for one in self.members} | {self.own}
        for node, key in placed(nodes, set(self.keys)):
            assert self.kept[node].get(key) == self.keys[key]


AnnouncementsMachine.TestCase.settings = settings(
    max_examples=examples(100), stateful_step_count=15, deadline=None
)
TestAnnouncements = AnnouncementsMachine.TestCase


@settings(max_examples=examples(30), deadline=None)
@given(id_sets, ids, key_sets, st.integers(0, 99))
def test_what_is_withdrawn_in_a_quiet_cluster_is_kept_by_nobody(
    others: set[bytes], own: bytes, keys: set[bytes], seed: int
) -> None:
    machine = AnnouncementsMachine()
    machine.start(own, others, seed)
    machine.provide(keys, 1)
    machine.drive(machine.rng.random() * 5)
    half = set(sorted(keys)[::2])
    machine.announcements.withdraw(half, machine.now)
    for key in half:
        del machine.keys[key]
    machine.drive(30.0)
    assert not any(half & set(kept) for kept in machine.kept.values())
    assert {(node, key) for node, kept in machine.kept.items() for key in kept} == placed(
        others | {own}, keys - half
    )


@settings(max_examples=examples(50))
@given(id_sets, ids, key_sets, ids, st.integers(0, 99))
def test_a_newcomer_has_its_keys_within_the_jitter(
    others: set[bytes], own: bytes, keys: set[bytes], newcomer: bytes, seed: int
) -> None:
    machine = AnnouncementsMachine()
    machine.start(own, others - {newcomer}, seed)
    machine.provide(keys, 1)
    machine.drive(30.0)
    if newcomer == own:
        return
    machine.join(newcomer)
    machine.drive(PARAMS.rejoin_jitter_s + 1.0)
    nodes = others | {own, newcomer}
    expected = {key for key in keys if newcomer in nearest(nodes, key)}
    assert set(machine.kept[newcomer]) == expected


def test_the_ends_of_a_range_belong_to_it() -> None:
    listed = [bytes([number]) * 20 for number in range(10)]
    assert within(listed, [(listed[2], listed[4]), (listed[7], listed[7])]) == [*listed[2:5], listed[7]]
    assert within(listed, [(b"\2" * 19 + b"\3", b"\3" * 20)]) == [listed[3]]
