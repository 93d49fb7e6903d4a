"""What the sorted table answers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.members import (
    Members,
)
from dht.params import Params

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
OWN = Contact(b"\x77" * 20, 5, (Endpoint("10.0.0.99", 29021),), b"own")
X = b"\x11" * 20
Y = b"\x22" * 20


def contact(node: bytes = X, epoch: int = 1, *endpoints: Endpoint, info: bytes = b"") -> Contact:
    return Contact(node, epoch, endpoints or (HERE,), info)


def node_of(number: int) -> bytes:
    """Spread over the ring by the first byte."""
    return number.to_bytes(1, "big") + b"\x33" * 19


@pytest.fixture
def members() -> Members:
    return Members(OWN, PARAMS)


node_ids = st.binary(min_size=20, max_size=20)


@given(st.sets(node_ids, max_size=40), node_ids, st.integers(0, 12))
def test_nearest_with_and_without_us(nodes: set[bytes], key: bytes, count: int) -> None:
    members = Members(OWN, PARAMS)
    members.preload([contact(node) for node in nodes])
    others = sorted(nodes - {OWN.node}, key=lambda node: distance(node, key))
    assert [one.node for one in members.nearest(key, count)] == others[:count]
    everybody = sorted(nodes | {OWN.node}, key=lambda node: distance(node, key))
    assert [one.node for one in members.nearest(key, count, with_own=True)] == everybody[:count]
    closer = [node for node in others if distance(node, key) < distance(OWN.node, key)]
    assert [one.node for one in members.closer(key, OWN.node, count)] == closer[:count]


@given(st.sets(node_ids | st.just(OWN.node), max_size=40), node_ids, node_ids, st.integers(0, 12))
def test_pages_are_in_id_order_and_have_us(nodes: set[bytes], first: bytes, last: bytes, count: int) -> None:
    members = Members(OWN, PARAMS)
    members.preload([contact(node) for node in nodes])
    inside = sorted(node for node in nodes | {OWN.node} if first <= node <= last)
    page, more = members.page(first, last, count)
    assert [one.node for one in page] == inside[:count]
    assert more == (len(inside) > count)
    assert members.count(first, last) == len(inside)


def test_pages_follow_each_other(members: Members) -> None:
    members.preload([contact(node_of(number)) for number in (0x10, 0x50, 0x90, 0xA0, 0xB0, 0xF0)])
    walked: list[tuple[list[int], bool]] = []
    first, more = bytes(20), True
    while more:
        page, more = members.page(first, b"\xff" * 20, 2)
        walked.append(([one.node[0] for one in page], more))
        first = (int.from_bytes(page[-1].node, "big") + 1).to_bytes(20, "big")
    assert walked == [([0x10, 0x50], True), ([0x77, 0x90], True), ([0xA0, 0xB0], True), ([0xF0], False)]


def test_closer_than_a_member_is_not_that_member(members: Members) -> None:
    members.preload([contact(node_of(number)) for number in (0x10, 0x11, 0x13)])
    assert [one.node[0] for one in members.closer(node_of(0x10), node_of(0x13), 9)] == [0x10, 0x11]


@given(st.sets(node_ids, max_size=40), node_ids, node_ids)
def test_the_ring_goes_on_across_zero(nodes: set[bytes], after: bytes, upto: bytes) -> None:
    members = Members(OWN, PARAMS)
    members.preload([contact(node) for node in nodes])
    listed = sorted(nodes - {OWN.node})
    if after <= upto:
        expected = [node for node in listed if after < node <= upto]
    else:
        expected = [node for node in listed if node > after] + [node for node in listed if node <= upto]
    assert [one.node for one in members.in_ring(after, upto)] == expected


def test_walking_the_ring_in_steps_meets_everybody_once(members: Members) -> None:
    rng = random.Random(3)
    members.preload([contact(rng.randbytes(20)) for _ in range(200)])
    marks = sorted(rng.randbytes(20) for _ in range(17))
    walked = [
        one
        for after, upto in zip(marks, [*marks[1:], marks[0]], strict=True)
        for one in members.in_ring(after, upto)
    ]
    assert sorted(walked, key=lambda one: one.node) == list(members)


def test_a_random_member(members: Members) -> None:
    rng = random.Random(5)
    assert members.random(rng) is None
    members.preload([contact(X), contact(Y)])
    assert {members.random(rng) for _ in range(40)} == {contact(X), contact(Y)}


def test_the_best_to_be_saved_are_those_heard_last(members: Members) -> None:
    for number in range(5):
        members.heard(node_of(number), 1, Endpoint(HERE.address, 1024 + number), None, float(number % 3))
    members.told(contact(node_of(9)), 0.0)
    assert [one.node[0] for one in members.best(2)] in ([2, 1], [2, 4])
    assert {one.node[0] for one in members.best(5)} == {0, 1, 2, 3, 4}
    assert len(members.best(100)) == 6


def test_best_forgets_who_is_gone(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.left(X, 1, 1.0)
    assert members.best(4) == []


def test_our_own_contact_can_be_set(members: Members) -> None:
    before = members.revision_of(OWN.node[0])
    members.own = Contact(OWN.node, 6, (HERE,), b"new")
    assert members.page(bytes(20), b"\xff" * 20, 9) == ([members.own], False)
    assert members.revision_of(OWN.node[0]) > before


def test_a_preload_keeps_what_was_known_and_the_later_word(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.preload([contact(Y, 1), contact(X, 2)])
    assert list(members) == [contact(X, 2), contact(Y, 1)]
