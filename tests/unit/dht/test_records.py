"""What a node stores for others: newest stamp, hidden providers, sampling, time, saving."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dht.contacts import stamp
from dht.endpoints import Endpoint
from dht.records.records import Record, Records, SavedRecord, Stored
from dht.records.saved import decode_records, encode_records
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

# -- one record ----------------------------------------------------------------------------------------------------


def test_a_record_is_told_with_its_state() -> None:
    records = Records(PARAMS)
    assert records.add(KEY, node(1), 7, 5, TTL_S, 0.0) is Stored.STORED
    assert records.find(KEY, 16, 1.0, random.Random(1)) == [Record(node(1), 7)]
    assert records.find(OTHER, 16, 1.0, random.Random(1)) == []
    assert (len(records), records.keys_count, records.providers_count, records.count(KEY)) == (1, 1, 1, 1)


def test_who_asks_is_not_told_of_himself() -> None:
    records = Records(PARAMS)
    add(records, node(1))
    add(records, node(2))
    assert found(records, exclude=node(1).node) == {node(2).node}


@pytest.mark.parametrize(("ttl_s", "lives_s"), [(10.0, 10), (10.2, 11), (TTL_S, 3600), (10 * TTL_S, 3600)])
def test_a_record_ends_with_its_ttl_and_the_cap(ttl_s: float, lives_s: int) -> None:
    records = Records(PARAMS)
    add(records, node(1), ttl_s=ttl_s, now=100.0)
    assert found(records, now=100 + lives_s - 0.001)
    assert not found(records, now=100 + lives_s)


def test_what_is_over_is_counted_until_the_sweep() -> None:
    records = Records(PARAMS)
    add(records, node(1), ttl_s=10)
    assert records.expire(9.0, EVERYTHING) == 0
    assert (len(records), records.count(KEY)) == (1, 1)
    assert records.expire(10.0, EVERYTHING) == 1
    assert (len(records), records.keys_count, records.providers_count, records.count(KEY)) == (0, 0, 0, 0)


def test_a_renewal_takes_the_new_state_and_time() -> None:
    records = Records(PARAMS)
    records.add(KEY, node(1), 1, 5, 10, 0.0)
    assert records.add(KEY, node(1), 2, 6, 10, 8.0) is Stored.STORED
    assert records.find(KEY, 16, 17.0, random.Random(1)) == [Record(node(1), 2)]
    assert len(records) == 1


@pytest.mark.parametrize("wrong", [b"", b"k" * 19, b"k" * 21])
def test_a_key_of_another_length_changes_nothing(wrong: bytes) -> None:
    records = Records(PARAMS)
    with pytest.raises(ValueError, match="20 bytes"):
        records.add(wrong, node(1), 1, 5, TTL_S, 0.0)
    with pytest.raises(ValueError, match="20 bytes"):
        records.remove(wrong, node(1).node, 5, 0.0)
    assert (len(records), records.providers_count, records.tombstones_count) == (0, 0, 0)


# -- the newest stamp wins -----------------------------------------------------------------------------------------

A, R = "add", "remove"


@pytest.mark.parametrize(
    ("said", "is_there"),
    [
        ([(A, 5), (A, 6)], True),
        ([(A, 6), (A, 5)], True),
        ([(A, 5), (R, 6)], False),
        ([(R, 6), (A, 5)], False),
        ([(A, 6), (R, 5)], True),
        ([(R, 5), (A, 6)], True),
        ([(A, 5), (R, 6), (A, 5)], False),
        ([(A, 5), (R, 6), (A, 7)], True),
        ([(A, 5), (R, 8), (R, 6), (A, 7)], False),
        ([(R, 6), (A, 6)], False),
        ([(A, 6), (R, 6)], False),
    ],
)
def test_the_newest_word_counts_in_any_order(said: list[tuple[str, int]], is_there: bool) -> None:
    records = Records(PARAMS)
    for verb, sequence in said:
        if verb == A:
            add(records, node(1), said=sequence)
        else:
            records.remove(KEY, node(1).node, stamp(1, sequence), 0.0)
    assert bool(found(records)) is is_there


def test_what_each_call_says_of_an_older_word() -> None:
    records = Records(PARAMS)
    assert add(records, node(1), said=6) is Stored.STORED
    assert add(records, node(1), said=5) is Stored.STALE
    assert records.remove(KEY, node(1).node, stamp(1, 5), 0.0) is False
    assert records.remove(KEY, node(1).node, stamp(1, 7), 0.0) is True
    assert records.remove(KEY, node(1).node, stamp(1, 8), 0.0) is False
    assert add(records, node(1), said=8) is Stored.STALE
    assert add(records, node(1), said=9) is Stored.STORED


def test_a_removal_is_about_one_key_and_one_node() -> None:
    records = Records(PARAMS)
    for who in (node(1), node(2)):
        for wanted in (KEY, OTHER):
            add(records, who, wanted)
    records.remove(KEY, node(1).node, stamp(1, 9), 0.0)
    assert (found(records), found(records, OTHER)) == ({node(2).node}, {node(1).node, node(2).node})
    assert add(records, node(1), OTHER, said=8) is Stored.STORED


def test_a_tombstone_ends() -> None:
    records = Records(PARAMS)
    records.remove(KEY, node(1).node, stamp(1, 9), 0.0)
    assert add(records, node(1), said=5, now=PARAMS.tombstone_s - 1) is Stored.STALE
    assert add(records, node(1), said=5, now=PARAMS.tombstone_s) is Stored.STORED
    assert records.tombstones_count == 1
    records.expire(PARAMS.tombstone_s, EVERYTHING)
    assert (records.tombstones_count, len(records)) == (0, 1)


def test_a_node_restored_from_a_backup_is_believed_after_a_while() -> None:
    """Its epoch is lower than what is known: a replay within a tombstone's time, its present life afterwards."""
    records = Records(PARAMS)
    add(records, node(1, epoch=7))
    assert add(records, node(1, epoch=3), said=9, now=PARAMS.tombstone_s) is Stored.STALE
    assert records.remove(KEY, node(1).node, stamp(3, 9), PARAMS.tombstone_s) is False
    assert add(records, node(1, epoch=7), said=4, now=PARAMS.tombstone_s + 1) is Stored.STALE
    assert add(records, node(1, epoch=3), said=9, now=PARAMS.tombstone_s + 1) is Stored.STORED


# -- members that go and come --------------------------------------------------------------------------------------


def test_a_hidden_provider_is_back_with_its_records() -> None:
    records = Records(PARAMS)
    add(records, node(1))
    add(records, node(2))
    records.hide(node(1).node)
    assert found(records) == {node(2).node}
    assert len(records) == 2
    records.show(node(1).node)
    assert found(records) == {node(1).node, node(2).node}


@pytest.mark.parametrize("wanted", [KEY, OTHER])
def test_a_provider_that_announces_is_not_hidden(wanted: bytes) -> None:
    records = Records(PARAMS)
    add(records, node(1))
    records.hide(node(1).node)
    add(records, node(1), wanted, said=6)
    assert found(records) == {node(1).node}


def test_a_provider_is_told_where_it_is_now() -> None:
    records = Records(PARAMS)
    add(records, node(1))
    moved = replace(node(1, epoch=2, info=b"new"), endpoints=(Endpoint("10.9.9.9", 1),))
    records.relocate(moved)
    assert records.find(KEY, 1, 0.0, random.Random(1)) == [Record(moved, 1)]
    again = replace(moved, endpoints=(Endpoint("fd00::1", 1),))
    add(records, again, said=9)
    assert records.find(KEY, 1, 0.0, random.Random(1)) == [Record(again, 1)]


def test_of_strangers_nothing_is_kept() -> None:
    records = Records(PARAMS)
    records.hide(node(1).node)
    records.show(node(1).node)
    records.relocate(node(1))
    records.forget(node(1).node)
    assert records.providers_count == 0


def test_a_node_that_left_is_forgotten_at_once_and_cleared_away_later() -> None:
    records = Records(PARAMS)
    add(records, node(1))
    add(records, node(2))
    records.remove(OTHER, node(1).node, stamp(1, 3), 0.0)
    records.forget(node(1).node)
    assert found(records) == {node(2).node}
    assert list(records.providers()) == [node(2)]
    # It is back before the sweep: its new records are its own.
    add(records, node(1, epoch=2))
    assert found(records) == {node(1).node, node(2).node}
    assert records.expire(0.0, EVERYTHING) == 1
    assert (len(records), records.tombstones_count, records.providers_count) == (2, 0, 2)
    assert found(records) == {node(1).node, node(2).node}


# -- sampling ------------------------------------------------------------------------------------------------------


def test_a_sample_is_as_long_as_wanted_and_names_each_once() -> None:
    records = Records(PARAMS)
    full_key(records)
    rng = random.Random(4)
    for want in (0, 1, 16, 64, 1000):
        sample = [one.provider.node for one in records.find(KEY, want, 0.0, rng)]
        assert len(sample) == len(set(sample)) == min(want, 64)


def test_all_providers_are_told_about_equally_often() -> None:
    records = Records(PARAMS)
    full_key(records)
    records.hide(node(9).node)
    rng = random.Random(4)
    told = Counter(one.provider.node for _ in range(4000) for one in records.find(KEY, 16, 0.0, rng))
    assert set(told) == {node(number).node for number in range(64) if number != 9}
    assert min(told.values()) / 1016 > 0.7 and max(told.values()) / 1016 < 1.3


# -- time ----------------------------------------------------------------------------------------------------------


def test_the_sweep_does_a_little_at_a_time() -> None:
    records = Records(PARAMS)
    for number in range(2000):
        add(records, node(number % 50), key(number), ttl_s=10)
    calls = [records.expire(10.0, 100) for _ in range(40)]
    assert sum(calls) == 2000
    assert max(calls) <= 200
    assert records.expire(10.0, 0) == 0


def test_an_empty_store_is_swept() -> None:
    assert Records(PARAMS).expire(0.0, 100) == 0


# -- saving --------------------------------------------------------------------------------------------------------


def saved_round(records: Records, now: float, wall_s: float, passed_s: float) -> Iterator[SavedRecord]:
    content = encode_records(records.entries(now), "c", wall_s)
    yield from decode_records(content, "c", wall_s + passed_s, PARAMS)


def test_records_survive_a_restart_with_what_is_left_of_their_time() -> None:
    records = Records(PARAMS)
    add(records, node(1, epoch=4, info=b"i"), ttl_s=100, now=1000.0)
    add(records, node(2), ttl_s=10, now=1000.0)
    add(records, node(2), OTHER, now=1000.0)
    records.hide(node(2).node)
    after = Records(PARAMS)
    # The monotonic clock starts anew with the host.
    assert after.restore(saved_round(records, 1005.0, 5e8, 20.0), 3.0) == 2
    assert after.find(KEY, 9, 3.0, random.Random(1)) == [Record(node(1, epoch=4, info=b"i"), 1)]
    assert found(after, OTHER, 3.0) == {node(2).node}
    assert found(after, now=3 + 74.0)
    assert not found(after, now=3 + 76.0)
    assert add(after, node(1, epoch=4), said=4, now=4.0) is Stored.STALE


def test_what_is_over_left_or_has_no_address_is_not_saved() -> None:
    records = Records(PARAMS)
    add(records, node(1), ttl_s=10)
    add(records, node(2))
    records.forget(node(2).node)
    add(records, replace(node(3), endpoints=()))
    records.remove(KEY, node(4).node, 9, 0.0)
    assert list(records.entries(10.0)) == []


def test_what_is_known_is_not_replaced_by_what_was_saved() -> None:
    records = Records(PARAMS)
    records.add(KEY, node(1), 2, stamp(1, 9), TTL_S, 0.0)
    old = SavedRecord(KEY, node(1).node, b"\x0a\0\0\1\0\1", b"", 1, stamp(1, 8), 50.0)
    assert records.restore([old], 0.0) == 0
    assert records.find(KEY, 1, 0.0, random.Random(1)) == [Record(node(1), 2)]


def test_what_is_no_record_is_left_out() -> None:
    good = SavedRecord(KEY, node(1).node, b"\x0a\0\0\1\0\1", b"", 1, 8, 50.0)
    bad = [
        good._replace(key=b"short"),
        good._replace(node=b"short"),
        good._replace(endpoints=b"no"),
        good._replace(remaining_s=0.0),
    ]
    records = Records(PARAMS)
    assert records.restore([*bad, good], 0.0) == 1
    assert len(records) == 1


def test_saving_goes_on_while_records_change() -> None:
    records = Records(PARAMS)
    for number in range(500):
        add(records, node(number % 20), key(number))
    entries = records.entries(0.0)
    first = [next(entries) for _ in range(10)]
    for number in range(500, 3000):
        add(records, node(number % 20), key(number))
    for number in range(20):
        records.forget(node(number).node)
    records.expire(0.0, EVERYTHING)
    assert len(first) == 10
    assert all(len(one.key) == 20 for one in entries)
