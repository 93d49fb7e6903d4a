"""What a node stores for others has bounds: quotas, tombstones, packed rows, memory."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace

import pytest

from dht.contacts import stamp
from dht.endpoints import Endpoint
from dht.records.provider_slots import Slots
from dht.records.records import Records, Stored
from dht.records.rows import ROW_BYTES, Rows, fields, packed_slot, place, span
from tests.support.provider_records import (
    EVERYTHING,
    KEY,
    OTHER,
    PARAMS,
    TTL_S,
    add,
    found,
    full_key,
    key,
    node,
)

# -- quotas --------------------------------------------------------------------------------------------------------


def test_a_key_with_enough_providers_is_saturated() -> None:
    records = Records(PARAMS)
    full_key(records)
    assert add(records, node(64)) is Stored.SATURATED
    assert records.count(KEY) == 64
    assert add(records, node(64), OTHER) is Stored.STORED
    # Those that are there stay, and are renewed.
    assert add(records, node(3), said=6) is Stored.STORED
    assert records.providers_count == 65


@pytest.mark.parametrize("gone", ["hidden", "forgotten", "over"])
def test_what_nobody_sees_makes_room(gone: str) -> None:
    records = Records(PARAMS)
    full_key(records, 63)
    add(records, node(63), ttl_s=10 if gone == "over" else TTL_S)
    if gone == "hidden":
        records.hide(node(63).node)
    elif gone == "forgotten":
        records.forget(node(63).node)
    assert add(records, node(64), now=10.0) is Stored.STORED
    assert found(records, now=10.0) == {node(number).node for number in (*range(63), 64)}
    assert add(records, node(65), now=10.0) is Stored.SATURATED


def test_what_is_over_makes_room_before_what_is_hidden() -> None:
    records = Records(PARAMS)
    full_key(records, 63)
    add(records, node(63), ttl_s=10)
    records.hide(node(5).node)
    add(records, node(64), now=10.0)
    records.show(node(5).node)
    assert node(5).node in found(records, now=10.0)


def test_of_several_that_nobody_sees_the_oldest_makes_room() -> None:
    records = Records(PARAMS)
    full_key(records)
    for number in (9, 5, 30):
        records.hide(node(number).node)
    add(records, node(64))
    for number in (9, 5, 30):
        records.show(node(number).node)
    assert node(5).node not in found(records)
    assert len(found(records)) == 64


def test_one_provider_has_a_quota() -> None:
    records = Records(replace(PARAMS, keys_per_provider_count=3))
    assert [add(records, node(1), key(number)) for number in range(4)] == [Stored.STORED] * 3 + [Stored.QUOTA]
    assert add(records, node(1), key(1), said=6) is Stored.STORED
    assert add(records, node(2), key(3)) is Stored.STORED
    records.remove(key(0), node(1).node, stamp(1, 7), 0.0)
    assert add(records, node(1), key(3), said=8) is Stored.STORED


def test_one_address_has_a_quota_whatever_the_nodes_behind_it() -> None:
    records = Records(replace(PARAMS, records_per_address_count=3))
    same = [replace(node(number), endpoints=(Endpoint("10.0.0.1", number + 1),)) for number in range(5)]
    assert [add(records, who) for who in same[:4]] == [Stored.STORED] * 3 + [Stored.QUOTA]
    assert records.providers_count == 3
    # One of them moves, one withdraws, one leaves.
    records.relocate(replace(same[0], endpoints=(Endpoint("10.0.0.2", 1),)))
    assert [add(records, who) for who in same[3:]] == [Stored.STORED, Stored.QUOTA]
    records.remove(KEY, same[1].node, stamp(1, 9), 0.0)
    assert add(records, same[4]) is Stored.STORED
    records.forget(same[2].node)
    assert add(records, same[1], said=10) is Stored.STORED
    assert add(records, same[2]) is Stored.QUOTA


def test_a_node_that_left_gives_its_share_of_an_address_back_once() -> None:
    records = Records(replace(PARAMS, records_per_address_count=3))
    same = [replace(node(number), endpoints=(Endpoint("10.0.0.1", number + 1),)) for number in range(2)]
    for number in range(2):
        add(records, same[0], key(number))
    add(records, same[1], key(2))
    records.forget(same[0].node)
    records.expire(0.0, EVERYTHING)
    assert [add(records, same[1], key(number)) for number in (3, 4, 5)] == [
        Stored.STORED,
        Stored.STORED,
        Stored.QUOTA,
    ]


def test_slots_and_addresses_are_given_back() -> None:
    slots = Slots()
    for number in range(100):
        slot = slots.open(node(number))
        slots.count_records(slot, 1)
        slots.relocate(slot, replace(node(number), endpoints=node(number + 1000).endpoints))
        slots.count_records(slot, -1)
        slots.settle(slot)
        assert slot.index == 0
    assert (len(slots), slots.addresses_count) == (0, 0)


def test_both_addresses_of_a_provider_count() -> None:
    records = Records(replace(PARAMS, records_per_address_count=2))
    both = replace(node(1), endpoints=(Endpoint("10.0.0.1", 1), Endpoint("fd00::1", 1)))
    add(records, both, key(1))
    add(records, both, key(2))
    for only in both.endpoints:
        assert add(records, replace(node(2), endpoints=(only,))) is Stored.QUOTA


def test_there_is_a_quota_in_all() -> None:
    records = Records(replace(PARAMS, records_max_count=3))
    for number in range(3):
        add(records, node(number), key(number), ttl_s=10)
    assert add(records, node(3), key(3)) is Stored.QUOTA
    assert add(records, node(1), key(1), said=6, ttl_s=20) is Stored.STORED
    assert records.expire(10.0, EVERYTHING) == 2
    assert add(records, node(3), key(3), now=10.0) is Stored.STORED


def test_what_was_refused_leaves_nothing() -> None:
    records = Records(replace(PARAMS, records_max_count=1, records_per_address_count=1))
    add(records, node(1))
    size = records.size_bytes
    for number in range(2, 100):
        assert add(records, node(number)) is Stored.QUOTA
    assert (records.size_bytes, records.providers_count) == (size, 1)


def test_tombstones_have_bounds_per_provider_per_key_and_in_all() -> None:
    small = replace(PARAMS, keys_per_provider_count=40, providers_per_key_count=6, records_max_count=100)
    records = Records(small)
    for number in range(50):
        records.remove(key(number), node(1).node, stamp(1, 9), 0.0)
    assert records.tombstones_count == 10
    for number in range(50):
        records.remove(KEY, node(number).node, stamp(1, 9), 0.0)
    assert records.tombstones_count == 16
    for number in range(50):
        records.remove(key(number), node(number).node, stamp(1, 9), 0.0)
    assert records.tombstones_count == 25
    assert records.providers_count <= 25
    # A removal beyond the bounds still removes.
    add(records, node(60))
    assert records.remove(KEY, node(60).node, stamp(1, 9), 0.0) is True
    assert not found(records)
    records.expire(small.tombstone_s, EVERYTHING)
    assert (records.tombstones_count, records.providers_count) == (0, 0)


# -- packed rows ---------------------------------------------------------------------------------------------------


def test_a_key_that_only_looks_like_one_is_not_found() -> None:
    """The bytes of a key stand across two rows, and inside a stamp and the next key."""
    rows = Rows()
    array = rows.array(KEY)
    one, two = b"\0" * 19 + b"\1", b"\2" * 20
    rows.insert(array, 0, one, (1, 2, 3, 0x0101010101010101))
    rows.insert(array, 0, two, (1, 2, 3, 4))
    across = bytes(array[30:50])
    assert across in array
    assert span(array, across) == (0, 0)
    assert place(array, across) == -1
    rows.insert(array, 0, across, (9, 2, 3, 5))
    assert span(array, across) == (2 * ROW_BYTES, 3 * ROW_BYTES)
    assert place(array, across + packed_slot(9)) == 2 * ROW_BYTES
    assert place(array, across + packed_slot(1)) == -1
    assert fields(array, 2 * ROW_BYTES) == (9, 2, 3, 5)


def test_repetitive_keys_are_told_apart() -> None:
    records = Records(PARAMS)
    keys = [bytes([value]) * 20 for value in (0, 1, 255)]
    keys += [bytes(19 - at) + b"\1" + bytes(at) for at in range(20)]
    for wanted in keys:
        for number in (0, 1, 2):
            assert add(records, node(number), wanted, said=0) is Stored.STORED
    for wanted in keys:
        assert records.count(wanted) == 3
    for wanted in keys[::2]:
        records.remove(wanted, node(1).node, stamp(1, 1), 0.0)
    assert [records.count(wanted) for wanted in keys] == [2, 3] * 11 + [2]
    assert records.keys_count == len(keys)


def test_all_is_found_while_the_table_grows() -> None:
    rng = random.Random(6)
    records = Records(PARAMS)
    expected: dict[bytes, set[bytes]] = {}
    for _ in range(3000):
        wanted, who = key(rng.randrange(700)), node(rng.randrange(40))
        add(records, who, wanted)
        expected.setdefault(wanted, set()).add(who.node)
    assert {wanted: found(records, wanted) for wanted in expected} == expected
    assert records.keys_count == len(expected)
    assert len(records) == sum(map(len, expected.values()))


# -- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("providers_per_key_count", [1, 5, 50])
def test_a_record_costs_less_than_a_hundred_bytes(providers_per_key_count: int) -> None:
    """Contacts are the members' own; all that is the store's is counted: rows, keys, slots, indexes."""
    rng = random.Random(8)
    contacts = [node(number) for number in range(200)]
    plan = [
        (key(number), rng.sample(contacts, providers_per_key_count))
        for number in range(8000 // providers_per_key_count)
    ]
    said = stamp(1, 5)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    records = Records(PARAMS)
    for wanted, providers in plan:
        for who in providers:
            records.add(bytes(bytearray(wanted)), who, 1, said, TTL_S, 0.0)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(records) == 8000
    assert used < 100 * 1024 * 8
    # What is shown to operators.
    assert 0.8 < records.size_bytes / used < 1.6
