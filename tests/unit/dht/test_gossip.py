"""News: least told first, each so often, bounded."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.gossip import PASSED_OVER_MAX_COUNT, Gossip
from dht.params import Params
from dht.wire.codec import Delta, DeltaKind

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
THERE = Endpoint("10.0.0.2", 29021)
ASKERS = itertools.count(1 << 100)


def contact(number: int, epoch: int = 1, *, endpoint: Endpoint = HERE, info: bytes = b"") -> Contact:
    return Contact(number.to_bytes(20, "big"), epoch, (endpoint,), info)


def take(gossip: Gossip, members_count: int) -> list[Delta]:
    """What somebody is told who never asked before."""
    return gossip.take(members_count, next(ASKERS).to_bytes(20, "big"))


def limit(members_count: int) -> int:
    return PARAMS.delta_spread_factor * ceil(log2(members_count + 1))


def told(deltas: list[Delta]) -> list[tuple[int, int, int]]:
    """(number, kind, epoch)"""
    return [(int.from_bytes(one.member.node, "big"), one.kind, one.member.epoch) for one in deltas]


def test_no_news() -> None:
    assert take(Gossip(PARAMS), 1000) == []


def test_a_delta_says_all_that_is_known_of_the_member() -> None:
    gossip = Gossip(PARAMS)
    known = Contact(b"\x05" * 20, 9, (HERE, Endpoint("fd00::1", 1)), b"role")
    gossip.add(DeltaKind.JOINED, known)
    [delta] = take(gossip, 10)
    assert delta.kind == DeltaKind.JOINED
    assert delta.member.contact() == known


@pytest.mark.parametrize("members_count", [0, 1, 2, 7, 8, 1000, 5000])
def test_each_is_told_so_often_and_no_more(members_count: int) -> None:
    gossip = Gossip(PARAMS)
    for number in range(7):
        gossip.add(DeltaKind.JOINED, contact(number))
    counts: Counter[int] = Counter()
    for _ in range(1000):
        taken = take(gossip, members_count)
        assert len(taken) <= PARAMS.deltas_per_reply_count
        assert len({one.member.node for one in taken}) == len(taken)
        counts.update(number for number, _, _ in told(taken))
    assert counts == {number: limit(max(members_count, 1)) for number in range(7)}
    assert len(gossip) == 0


def test_the_least_told_goes_first() -> None:
    gossip = Gossip(replace(PARAMS, deltas_per_reply_count=2))
    for number in range(3):
        gossip.add(DeltaKind.JOINED, contact(number))
    assert [number for number, _, _ in told(take(gossip, 99))] == [0, 1]
    gossip.add(DeltaKind.SILENT, contact(9))
    assert [number for number, _, _ in told(take(gossip, 99))] == [2, 9]
    assert [number for number, _, _ in told(take(gossip, 99))] == [0, 1]


def test_nobody_is_told_twice_and_none_of_the_tellings_is_used_up_on_him() -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.SILENT, contact(1))
    often, others = b"o" * 20, limit(99) - 1
    assert [told(gossip.take(99, often)) for _ in range(100)] == [[(1, DeltaKind.SILENT, 1)]] + [[]] * 99
    assert [len(take(gossip, 99)) for _ in range(others + 1)] == [1] * others + [0]


def test_nobody_is_told_of_himself() -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.JOINED, contact(1))
    assert gossip.take(99, contact(1).node) == []
    assert len(take(gossip, 99)) == 1


def test_much_that_the_asker_knows_costs_little_and_hides_little() -> None:
    gossip = Gossip(replace(PARAMS, deltas_per_reply_count=1))
    asker = b"o" * 20
    for number in range(PASSED_OVER_MAX_COUNT + 1):
        gossip.add(DeltaKind.JOINED, contact(number))
        gossip.take(99, asker)
    gossip.add(DeltaKind.JOINED, contact(50))
    assert [number for number, _, _ in told(gossip.take(99, asker))] == [50], (
        "what was told least stands first"
    )
    assert gossip.take(99, asker) == []


def test_a_smaller_cluster_is_told_less_often() -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.JOINED, contact(1))
    for _ in range(limit(3)):
        assert take(gossip, 1000)
    assert take(gossip, 3) == []
    assert take(gossip, 1000) == [], "what was told enough is dropped"


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        pytest.param((DeltaKind.JOINED, contact(1, 6)), (1, DeltaKind.JOINED, 6), id="a-newer-life"),
        pytest.param((DeltaKind.JOINED, contact(1, 4)), (1, DeltaKind.SILENT, 5), id="an-older-life"),
        pytest.param((DeltaKind.JOINED, contact(1, 5)), (1, DeltaKind.JOINED, 5), id="the-same-life-later"),
        pytest.param((DeltaKind.LEFT, contact(1, 5)), (1, DeltaKind.LEFT, 5), id="left"),
    ],
)
def test_one_piece_of_news_a_node(second: tuple[DeltaKind, Contact], expected: tuple[int, int, int]) -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.SILENT, contact(1, 5))
    gossip.add(*second)
    assert told(take(gossip, 99)) == [expected]
    assert len(gossip) == 1


@pytest.mark.parametrize(
    ("again", "is_news"),
    [
        (contact(1, 5), False),
        (contact(1, 5, endpoint=THERE), True),
        (contact(1, 5, info=b"x"), True),
        (contact(1, 6), True),
    ],
)
def test_only_what_is_new_starts_over(again: Contact, is_news: bool) -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.JOINED, contact(1, 5))
    for _ in range(limit(3) - 1):
        take(gossip, 3)
    gossip.add(DeltaKind.JOINED, again)
    rest_count = sum(bool(take(gossip, 3)) for _ in range(100))
    assert rest_count == (limit(3) if is_news else 1)


def test_a_node_without_an_address_is_no_news() -> None:
    gossip = Gossip(PARAMS)
    gossip.add(DeltaKind.LEFT, Contact(b"\x05" * 20, 9, (), b""))
    assert take(gossip, 99) == []


def test_what_was_told_most_gives_way() -> None:
    params = replace(PARAMS, deltas_max_count=4, deltas_per_reply_count=1)
    gossip = Gossip(params)
    for number in range(4):
        gossip.add(DeltaKind.JOINED, contact(number))
    take(gossip, 99)
    gossip.add(DeltaKind.JOINED, contact(9))
    assert len(gossip) == 4
    assert {told(take(gossip, 99))[0][0] for _ in range(8)} == {1, 2, 3, 9}


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 3), st.sampled_from(DeltaKind)) | st.none(),
        max_size=120,
    )
)
def test_nothing_grows_and_nothing_is_told_twice_too_often(
    steps: list[tuple[int, int, DeltaKind] | None],
) -> None:
    params = replace(PARAMS, deltas_max_count=5)
    gossip = Gossip(params)
    newest: dict[int, int] = {}
    counts: Counter[tuple[int, int, int]] = Counter()
    added: Counter[tuple[int, int, int]] = Counter()
    for step in steps:
        if step is None:
            taken = told(take(gossip, 6))
            counts.update(taken)
            assert len(taken) == min(4, len(taken))
            assert all(epoch == newest[number] for number, _, epoch in taken), "an older life is told"
        else:
            number, epoch, kind = step
            # What was dropped for want of room is not known any more.
            is_known = number in {one[0] for one in told(snapshot(gossip))}
            gossip.add(kind, contact(number, epoch))
            if epoch >= newest.get(number, 0) or not is_known:
                newest[number] = epoch
            added[(number, kind, epoch)] += 1
        assert len(gossip) <= 5
        assert len(gossip._heap) <= 2 * params.deltas_max_count + 1
    assert all(count <= added[one] * limit(6) for one, count in counts.items())


def snapshot(gossip: Gossip) -> list[Delta]:
    return [news.delta for _, news in gossip._news.values()]
