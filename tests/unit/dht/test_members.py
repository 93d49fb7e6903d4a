"""What is believed of whom, and what the table answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.members import (
    HEARD_LATELY_S,
    Gone,
    GoneReason,
    Joined,
    Members,
    Updated,
)
from dht.params import Params

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
THERE = Endpoint("10.0.0.2", 29021)
ELSEWHERE = Endpoint("10.0.0.3", 29021)
HERE_V6 = Endpoint("fd00::1", 29021)
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


# -- direct evidence ----------------------------------------------------------------------------------------------


def test_a_stranger_that_speaks_is_a_member(members: Members) -> None:
    assert members.heard(X, 3, HERE, b"role", 0.0) == [Joined(contact(X, 3, info=b"role"), is_rejoin=False)]
    assert members.get(X) == contact(X, 3, info=b"role")
    assert X in members
    assert len(members) == 1


def test_hearing_the_same_again_changes_nothing(members: Members) -> None:
    members.heard(X, 3, HERE, b"role", 0.0)
    revision = members.revision
    assert members.heard(X, 3, HERE, None, 1.0) == []
    assert members.heard(X, 3, HERE, b"role", 1.0) == []
    assert members.revision == revision


def test_info_that_is_not_said_stays(members: Members) -> None:
    members.heard(X, 3, HERE, b"role", 0.0)
    assert members.heard(X, 3, THERE, None, 1.0) == [Updated(contact(X, 3, THERE, info=b"role"))]
    assert members.heard(X, 3, THERE, b"", 2.0) == [Updated(contact(X, 3, THERE))]


def test_the_address_of_the_other_family_stays(members: Members) -> None:
    members.heard(X, 3, HERE_V6, None, 0.0)
    assert members.heard(X, 3, HERE, None, 1.0) == [Updated(contact(X, 3, HERE, HERE_V6))]
    assert members.heard(X, 3, HERE_V6, None, 2.0) == []
    assert members.heard(X, 3, THERE, None, 3.0) == [Updated(contact(X, 3, THERE, HERE_V6))]


def test_a_new_life_starts_over(members: Members) -> None:
    members.heard(X, 3, HERE_V6, b"role", 0.0)
    assert members.heard(X, 4, HERE, None, 1.0) == [
        Joined(contact(X, 4, HERE, info=b"role"), is_rejoin=True)
    ], "the earlier life's other address says nothing"


def test_a_node_restored_from_a_backup_is_believed(members: Members) -> None:
    members.heard(X, 30, HERE, None, 0.0)
    assert members.heard(X, 3, HERE, None, 1.0) == [Joined(contact(X, 3), is_rejoin=True)]


def test_the_own_id_is_no_member(members: Members) -> None:
    assert members.heard(OWN.node, 9, HERE, None, 0.0) == []
    assert members.told(contact(OWN.node, 9), 0.0) == []
    members.preload([contact(OWN.node), contact(X)])
    assert list(members) == [contact(X)]
    members.left(OWN.node, 9, 0.0)
    assert len(members) == 1


# -- hearsay ------------------------------------------------------------------------------------------------------


def test_hearsay_adds(members: Members) -> None:
    assert members.told(contact(X, 2, HERE, HERE_V6), 0.0) == [
        Joined(contact(X, 2, HERE, HERE_V6), is_rejoin=False)
    ]
    assert members.told(contact(X, 2, HERE, HERE_V6), 0.0) == []


def test_hearsay_without_an_address_is_nothing(members: Members) -> None:
    assert members.told(Contact(X, 2, (), b""), 0.0) == []
    members.heard(X, 2, HERE, None, 0.0)
    assert members.told(Contact(X, 3, (), b""), 0.0) == []


@pytest.mark.parametrize(
    ("told", "after"),
    [
        pytest.param(contact(X, 4, THERE), contact(X, 5, HERE, info=b"a"), id="an-older-life"),
        pytest.param(contact(X, 0, THERE), contact(X, 5, HERE, info=b"a"), id="no-epoch-known"),
        pytest.param(contact(X, 5, THERE), contact(X, 5, HERE, info=b"a"), id="another-address"),
        pytest.param(contact(X, 5, HERE_V6), contact(X, 5, HERE, HERE_V6, info=b"a"), id="another-family"),
        pytest.param(contact(X, 5, THERE, HERE_V6), contact(X, 5, HERE, HERE_V6, info=b"a"), id="both"),
        pytest.param(contact(X, 5, HERE, info=b"b"), contact(X, 5, HERE, info=b"a"), id="other-info"),
        pytest.param(contact(X, 6, THERE), contact(X, 6, THERE), id="a-newer-life-elsewhere"),
    ],
)
def test_hearsay_about_a_member_heard_lately(members: Members, told: Contact, after: Contact) -> None:
    members.heard(X, 5, HERE, b"a", 0.0)
    members.told(told, HEARD_LATELY_S)
    assert members.get(X) == after


def test_hearsay_supplies_the_info_that_was_not_said(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    assert members.told(contact(X, 5, HERE, info=b"a"), 1.0) == [Updated(contact(X, 5, HERE, info=b"a"))]


def test_hearsay_tells_of_a_new_life(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    assert members.told(contact(X, 6, THERE), 1.0) == [Joined(contact(X, 6, THERE), is_rejoin=True)]
    assert members.told(contact(X, 6, ELSEWHERE), 2.0) == [Updated(contact(X, 6, ELSEWHERE))], (
        "this life was never heard, so nothing of it stands against hearsay"
    )


def test_an_address_heard_long_ago_gives_way(members: Members) -> None:
    members.heard(X, 5, HERE, b"a", 0.0)
    assert members.told(contact(X, 5, THERE, info=b"b"), HEARD_LATELY_S + 1) == [
        Updated(contact(X, 5, THERE, info=b"b"))
    ]


def test_an_address_that_does_not_answer_gives_way(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    members.struck(X, 1.0)
    assert members.told(contact(X, 5, THERE), 1.0) == [Updated(contact(X, 5, THERE))]
    assert members.struck(X, 2.0) == [], "the new address has not failed yet"


def test_the_epoch_that_hearsay_lacked_is_no_new_life(members: Members) -> None:
    members.told(contact(X, 0), 0.0)
    assert members.heard(X, 7, HERE, None, 1.0) == [Updated(contact(X, 7))]
    members.told(contact(Y, 0), 0.0)
    assert members.told(contact(Y, 7), 1.0) == [Updated(contact(Y, 7))]


# -- who falls silent, who leaves ---------------------------------------------------------------------------------


def test_two_strikes(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    assert members.struck(X, 1.0) == []
    assert members.struck(X, 2.0) == [Gone(contact(), GoneReason.SILENT)]
    assert X not in members
    assert members.struck(X, 3.0) == []


def test_requests_of_the_same_moment_are_one_strike(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    for after in range(9):
        assert members.struck(X, 1.0 + after * PARAMS.strikes_apart_s / 10) == []
    assert members.struck(X, 1.0 + PARAMS.strikes_apart_s) == [Gone(contact(), GoneReason.SILENT)]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param(lambda members: members.heard(X, 1, HERE, None, 1.5), id="heard"),
        pytest.param(lambda members: members.heard(X, 1, THERE, None, 1.5), id="heard-elsewhere"),
        pytest.param(lambda members: members.heard(X, 1, HERE, b"new", 1.5), id="heard-with-info"),
        pytest.param(lambda members: members.heard(X, 2, HERE, None, 1.5), id="heard-anew"),
        pytest.param(lambda members: members.told(contact(X, 2), 1.5), id="told-of-a-new-life"),
    ],
)
def test_a_word_clears_the_strikes(members: Members, word: Callable[[Members], object]) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.struck(X, 1.0)
    word(members)
    assert members.struck(X, 2.0) == []


def test_hearsay_about_the_dead_is_not_believed_for_a_while(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    members.struck(X, 1.0)
    members.struck(X, 2.0)
    assert members.told(contact(X, 5), 3.0) == []
    assert members.told(contact(X, 0), 3.0) == []
    assert members.told(contact(X, 5), 2.0 + PARAMS.dead_memory_s) == [Joined(contact(X, 5), is_rejoin=True)]


def test_a_new_life_of_the_dead_is_believed(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    members.left(X, 5, 1.0)
    assert members.told(contact(X, 6), 2.0) == [Joined(contact(X, 6), is_rejoin=True)]


def test_the_dead_speak_for_themselves(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    members.struck(X, 1.0)
    members.struck(X, 2.0)
    assert members.heard(X, 5, HERE, None, 3.0) == [Joined(contact(X, 5), is_rejoin=True)]
    assert members.told(contact(X, 5, THERE), 4.0) == []


def test_leaving(members: Members) -> None:
    members.heard(X, 5, HERE, None, 0.0)
    assert members.left(X, 4, 1.0) == [], "a word of an earlier life"
    assert members.left(X, 5, 1.0) == [Gone(contact(X, 5), GoneReason.LEFT)]
    assert members.left(X, 5, 1.0) == []
    assert members.told(contact(X, 5), 2.0) == []


def test_a_stranger_that_left_is_not_learned_from_late_hearsay(members: Members) -> None:
    assert members.left(X, 5, 0.0) == []
    assert members.told(contact(X, 5), 1.0) == []


def test_a_word_of_an_earlier_life_brings_nobody_back(members: Members) -> None:
    members.left(X, 5, 0.0)
    members.left(X, 3, 1.0)
    assert members.told(contact(X, 4), 2.0) == []


def test_who_is_back_by_hearsay_was_not_heard(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.left(X, 1, 1.0)
    members.told(contact(X, 2), 2.0)
    assert members.told(contact(X, 2, THERE), 3.0) == [Updated(contact(X, 2, THERE))]


def test_who_was_gone_for_long_is_new() -> None:
    params = replace(PARAMS, strikes_count=1)
    members = Members(OWN, params)
    members.heard(X, 5, HERE, None, 0.0)
    members.heard(Y, 5, THERE, None, 0.0)
    members.struck(X, 0.0)
    members.left(Y, 5, 0.0)
    assert members.heard(X, 5, HERE, None, params.lost_forget_s) == [Joined(contact(X, 5), is_rejoin=False)]
    assert members.heard(Y, 5, THERE, None, params.dead_memory_s) == [
        Joined(contact(Y, 5, THERE), is_rejoin=False)
    ]


def test_the_lost_are_those_that_fell_silent(members: Members) -> None:
    rng = random.Random(1)
    members.heard(X, 5, HERE, None, 0.0)
    members.heard(Y, 5, THERE, None, 0.0)
    assert members.lost_sample(rng, 0.0) is None
    members.struck(X, 1.0)
    members.struck(X, 2.0)
    members.left(Y, 5, 2.0)
    assert {members.lost_sample(rng, 3.0) for _ in range(20)} == {contact(X, 5)}
    assert members.lost_count == 1
    assert members.lost_sample(rng, 2.0 + PARAMS.lost_forget_s) is None
    assert members.lost_count == 0


def test_who_is_back_or_left_after_all_is_not_lost() -> None:
    members = Members(OWN, PARAMS)
    rng = random.Random(1)
    for node, endpoint in ((X, HERE), (Y, THERE)):
        members.heard(node, 5, endpoint, None, 0.0)
        members.struck(node, 1.0)
        members.struck(node, 2.0)
    members.heard(X, 5, HERE, None, 3.0)
    members.left(Y, 5, 3.0)
    assert members.lost_sample(rng, 4.0) is None


def test_the_lost_and_the_dead_are_bounded() -> None:
    params = replace(PARAMS, lost_max_count=3, members_max_count=10, strikes_count=1)
    members = Members(OWN, params)
    for number in range(30):
        members.heard(node_of(number), 1, HERE, None, float(number))
        members.struck(node_of(number), float(number))
    assert members.lost_count == 3
    rng = random.Random(1)
    lost = {members.lost_sample(rng, 30.0) for _ in range(60)}
    assert lost == {contact(node_of(number)) for number in (27, 28, 29)}
    assert members.told(contact(node_of(29)), 30.0) == []
    assert members.told(contact(node_of(0)), 30.0) != [], "the oldest was forgotten for the newest"


# -- round trips --------------------------------------------------------------------------------------------------


def test_the_hedge_follows_the_round_trip(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    assert members.hedge_s(X) == PARAMS.hedge_start_s
    members.rtt(X, 0.1)
    assert members.hedge_s(X) == pytest.approx(0.4)
    members.rtt(X, 0.2)
    assert members.hedge_s(X) == pytest.approx(4 * (0.1 + 0.1 * PARAMS.srtt_weight))
    for _ in range(200):
        members.rtt(X, 0.0001)
    assert members.hedge_s(X) == PARAMS.hedge_min_s


def test_round_trips_of_strangers_are_not_kept(members: Members) -> None:
    members.rtt(X, 0.1)
    assert members.hedge_s(X) == PARAMS.hedge_start_s
    members.heard(X, 1, HERE, None, 0.0)
    members.rtt(X, 0.1)
    members.left(X, 1, 1.0)
    assert members.hedge_s(X) == PARAMS.hedge_start_s
