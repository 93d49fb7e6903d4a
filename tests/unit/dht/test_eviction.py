"""Above the cap: who stays known, and who gives way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.members import Change, Gone, GoneReason, Joined, Members
from dht.params import Params

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
X = b"\x11" * 20


def home(node: bytes) -> Endpoint:
    """Everybody has one of his own."""
    return Endpoint(f"10.{node[0]}.{node[18]}.{node[19]}", 1024 + node[1])


def contact(node: bytes) -> Contact:
    return Contact(node, 1, (home(node),), b"")


def heard(members: Members, node: bytes, now: float) -> list[Change]:
    return members.heard(node, 1, home(node), None, now)


SMALL = replace(PARAMS, members_max_count=6)
NEAR_OWN = bytes(20)
SELF_AT_ZERO = Contact(NEAR_OWN, 1, (HERE,), b"")


def far(number: int) -> bytes:
    """In the bucket that shares no bit with zero."""
    return bytes([0x80 + number]) + bytes(19)


def near(number: int) -> bytes:
    """In the bucket that shares 150 bits with zero or so."""
    return bytes(18) + bytes([1, number])


def filled(heard_count: int, told_count: int) -> Members:
    members = Members(SELF_AT_ZERO, SMALL)
    for number in range(heard_count):
        heard(members, far(number), float(number))
    for number in range(heard_count, heard_count + told_count):
        members.told(contact(far(number)), 0.0)
    assert members.is_full
    return members


def test_a_near_node_displaces_a_far_one_that_was_only_told() -> None:
    members = filled(heard_count=3, told_count=3)
    gone, joined = members.told(contact(near(1)), 9.0)
    assert isinstance(gone, Gone)
    assert gone.reason is GoneReason.EVICTED
    assert gone.contact.node in {far(3), far(4), far(5)}
    assert joined == Joined(contact(near(1)), is_rejoin=False)
    assert len(members) == 6


def test_who_was_heard_does_not_give_way_to_hearsay() -> None:
    members = filled(heard_count=6, told_count=0)
    assert members.told(contact(near(1)), 9.0) == []
    assert near(1) not in members


def test_a_near_node_that_is_heard_displaces_who_was_heard_longest_ago() -> None:
    members = filled(heard_count=6, told_count=0)
    gone, joined = heard(members, near(1), 9.0)
    assert gone == Gone(contact(far(0)), GoneReason.EVICTED)
    assert joined == Joined(contact(near(1)), is_rejoin=False)


def test_a_far_newcomer_takes_only_the_place_of_one_never_heard() -> None:
    members = filled(heard_count=5, told_count=1)
    assert members.told(contact(far(9)), 9.0) == []
    gone, _ = heard(members, far(9), 9.0)
    assert gone == Gone(contact(far(5)), GoneReason.EVICTED)
    assert heard(members, far(10), 9.0) == []


def test_of_two_buckets_equally_fat_the_farther_one_loses() -> None:
    members = Members(SELF_AT_ZERO, SMALL)
    for number in range(3):
        members.told(contact(far(number)), 0.0)
        members.told(contact(far(number - 0x40)), 0.0)
    gone, _ = members.told(contact(near(1)), 1.0)
    assert isinstance(gone, Gone)
    assert gone.contact.node >= far(0)


def test_buckets_of_the_same_size_do_not_take_from_each_other() -> None:
    members = Members(SELF_AT_ZERO, SMALL)
    for number in range(3):
        heard(members, far(number), 0.0)
        heard(members, near(number), 0.0)
    assert heard(members, far(9), 9.0) == []
    assert heard(members, near(9), 9.0) == []


def test_above_the_cap_the_near_ones_are_all_known() -> None:
    params = replace(PARAMS, members_max_count=128)
    rng = random.Random(7)
    own = Contact(rng.randbytes(20), 1, (HERE,), b"")
    members = Members(own, params)
    nodes = [rng.randbytes(20) for _ in range(1000)]
    for index, node in enumerate(nodes):
        heard(members, node, float(index))
        assert len(members) <= 128
    known = {member.node for member in members}

    def bucket_counts(among: Iterable[bytes]) -> Counter[int]:
        return Counter(distance(node, own.node).bit_length() for node in among)

    everybody, kept = bucket_counts(nodes), bucket_counts(known)
    share = max(kept.values())
    assert share == 19, "128 places, most of them divided among the six fat buckets"
    assert all(kept[bits] >= min(count, share - 1) for bits, count in everybody.items())
    nearest = sorted(nodes, key=lambda node: distance(node, own.node))[:17]
    assert [member.node for member in members.nearest(own.node, 17)] == nearest


def test_an_evicted_member_is_neither_dead_nor_lost() -> None:
    members = filled(heard_count=3, told_count=3)
    gone, _ = heard(members, near(1), 9.0)
    assert isinstance(gone, Gone)
    members.left(near(1), 1, 9.0)
    assert members.told(gone.contact, 9.0) == [Joined(gone.contact, is_rejoin=False)]
    assert members.lost_sample(random.Random(1), 9.0) is None


def test_more_cannot_be_preloaded_than_may_be_known() -> None:
    members = Members(SELF_AT_ZERO, SMALL)
    with pytest.raises(ValueError, match="members_max_count"):
        members.preload([contact(far(number)) for number in range(7)])
    assert len(members) == 0


def test_a_cap_of_none_holds() -> None:
    members = Members(SELF_AT_ZERO, replace(PARAMS, members_max_count=0))
    assert heard(members, X, 0.0) == []
    assert len(members) == 0
