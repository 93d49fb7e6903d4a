"""One node an endpoint, and without a secret a bounded number at one address."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.members import HEARD_LATELY_S, Conflict, Gone, GoneReason, Joined, Members, Updated
from dht.params import Params

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
NEXT_DOOR = Endpoint("10.0.0.1", 29022)
THERE = Endpoint("10.0.0.2", 29021)
HERE_V6 = Endpoint("fd00::1", 29021)
THERE_V6 = Endpoint("fd00::2", 29021)
OWN = Contact(b"\x77" * 20, 5, (Endpoint("10.0.0.99", 29021),), b"own")
X = b"\x11" * 20
Y = b"\x22" * 20
Z = b"\x33" * 20


def contact(node: bytes, epoch: int = 1, *endpoints: Endpoint) -> Contact:
    return Contact(node, epoch, endpoints or (HERE,), b"")


def replaced(node: bytes, epoch: int = 1, *endpoints: Endpoint) -> Gone:
    return Gone(contact(node, epoch, *endpoints), GoneReason.REPLACED)


@pytest.fixture
def members() -> Members:
    return Members(OWN, PARAMS)


# -- one node an endpoint -----------------------------------------------------------------------------------------


def test_who_is_heard_where_another_was_takes_its_place(members: Members) -> None:
    """A host lost its data directory: it comes back under another id."""
    members.heard(X, 1, HERE, None, 0.0)
    assert members.heard(Y, 1, HERE, None, 1.0) == [replaced(X), Joined(contact(Y), is_rejoin=False)]
    assert list(members) == [contact(Y)]


def test_hearsay_about_the_replaced_is_not_believed_and_nobody_asks_after_it(members: Members) -> None:
    members.heard(X, 3, HERE, None, 0.0)
    members.heard(Y, 1, HERE, None, 1.0)
    assert members.lost_sample(random.Random(1), 2.0) is None
    assert members.told(contact(X, 3), 2.0) == []
    assert members.told(contact(X, 4, THERE), 2.0) == [Joined(contact(X, 4, THERE), is_rejoin=True)]


def test_the_replaced_may_speak_for_itself(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(Y, 1, HERE, None, 1.0)
    assert members.heard(X, 1, HERE, None, 2.0) == [replaced(Y), Joined(contact(X), is_rejoin=True)]
    assert members.heard(Y, 1, THERE, None, 3.0) == [Joined(contact(Y, 1, THERE), is_rejoin=True)]
    assert list(members) == [contact(X), contact(Y, 1, THERE)]


def test_a_member_that_moves_takes_the_place_too(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(Y, 1, THERE, None, 0.0)
    assert members.heard(Y, 1, HERE, None, 1.0) == [replaced(X), Updated(contact(Y))]
    assert members.heard(Z, 1, THERE, None, 2.0) == [Joined(contact(Z, 1, THERE), is_rejoin=False)]


def test_who_was_told_there_before_it_spoke_takes_the_place(members: Members) -> None:
    """News of the newcomer often comes before its first word."""
    members.heard(X, 1, HERE, None, 0.0)
    members.told(contact(Y), 1.0)
    assert members.heard(Y, 1, HERE, None, 2.0) == [replaced(X)]


@pytest.mark.parametrize("is_preloaded", [True, False])
def test_who_was_told_and_then_heard_there_can_be_replaced(members: Members, is_preloaded: bool) -> None:
    if is_preloaded:
        members.preload([contact(X)])
    else:
        members.told(contact(X), 0.0)
    revision = members.revision
    assert members.heard(X, 1, HERE, None, 1.0) == []
    assert members.revision == revision
    assert members.heard(Y, 1, HERE, None, 2.0) == [replaced(X), Joined(contact(Y), is_rejoin=False)]


def test_who_is_only_said_to_be_there_is_not_replaced(members: Members) -> None:
    members.told(contact(X), 0.0)
    assert members.heard(Y, 1, HERE, None, 1.0) == [Joined(contact(Y), is_rejoin=False)]
    assert members.told(contact(Z), 2.0) == [Joined(contact(Z), is_rejoin=False)]
    assert list(members) == [contact(X), contact(Y), contact(Z)]


@pytest.mark.parametrize(
    ("moves", "after"),
    [
        pytest.param(
            lambda members: members.heard(X, 1, THERE, None, 1.0),
            contact(X, 1, THERE, HERE_V6),
            id="heard-elsewhere",
        ),
        pytest.param(
            lambda members: members.heard(X, 2, THERE_V6, None, 1.0),
            contact(X, 2, THERE_V6),
            id="a-new-life-over-another-family",
        ),
        pytest.param(
            lambda members: members.told(contact(X, 2, THERE), 1.0),
            contact(X, 2, THERE),
            id="told-of-a-new-life-elsewhere",
        ),
        pytest.param(
            lambda members: members.told(contact(X, 2), 1.0),
            contact(X, 2),
            id="told-of-a-new-life-that-nobody-heard-here",
        ),
        pytest.param(
            lambda members: members.told(contact(X, 1, THERE), HEARD_LATELY_S + 1),
            contact(X, 1, THERE, HERE_V6),
            id="told-elsewhere-and-not-heard-lately",
        ),
        pytest.param(
            lambda members: members.preload([contact(X, 1, THERE)]), contact(X, 1, THERE), id="preloaded"
        ),
    ],
)
def test_who_is_there_no_longer_is_not_replaced(
    members: Members, moves: Callable[[Members], object], after: Contact
) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(X, 1, HERE_V6, None, 0.0)
    moves(members)
    assert members.heard(Y, 1, HERE, None, HEARD_LATELY_S + 2) == [Joined(contact(Y), is_rejoin=False)]
    assert members.get(X) == after


def test_with_its_place_goes_its_place_of_the_other_family(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(X, 1, HERE_V6, None, 0.0)
    members.heard(Y, 1, HERE, None, 1.0)
    assert X not in members
    assert members.heard(Z, 1, HERE_V6, None, 2.0) == [Joined(contact(Z, 1, HERE_V6), is_rejoin=False)]


def test_one_that_takes_two_places_replaces_two(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(Y, 1, HERE_V6, None, 0.0)
    assert members.heard(Z, 1, HERE, None, 1.0) == [replaced(X), Joined(contact(Z), is_rejoin=False)]
    assert members.heard(Z, 1, HERE_V6, None, 1.0) == [
        replaced(Y, 1, HERE_V6),
        Updated(contact(Z, 1, HERE, HERE_V6)),
    ]


def test_two_that_share_an_id_replace_nobody_in_turns(members: Members) -> None:
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(X, 1, THERE, None, 1.0)
    members.heard(Y, 1, HERE, None, 1.5)
    assert members.heard(X, 1, HERE, None, 2.0) == [Conflict(X, (THERE, HERE))]
    assert list(members) == [contact(X, 1, THERE), contact(Y)]


def test_at_the_cap_who_is_replaced_makes_the_room() -> None:
    members = Members(OWN, replace(PARAMS, members_max_count=2))
    members.heard(X, 1, HERE, None, 0.0)
    members.heard(Y, 1, THERE, None, 0.0)
    assert members.heard(Z, 1, THERE, None, 1.0) == [
        replaced(Y, 1, THERE),
        Joined(contact(Z, 1, THERE), is_rejoin=False),
    ]


def test_a_newcomer_that_finds_no_place_takes_none() -> None:
    members = Members(OWN, replace(PARAMS, members_max_count=1))
    members.heard(X, 1, HERE, None, 0.0)
    assert members.heard(Y, 1, THERE, None, 1.0) == [], "of the same bucket, so nobody gives way"
    members.left(X, 1, 2.0)
    assert members.heard(Z, 1, THERE, None, 3.0) == [Joined(contact(Z, 1, THERE), is_rejoin=False)]


# -- without a secret ---------------------------------------------------------------------------------------------

BOUND = 3


def door(number: int, address: str = HERE.address) -> Endpoint:
    return Endpoint(address, 30_000 + number)


def lodger(number: int) -> bytes:
    return bytes([number]) * 20


def crowded(*, is_open: bool = True) -> Members:
    """As many as may be at one address."""
    members = Members(OWN, replace(PARAMS, members_per_address_count=BOUND), is_open=is_open)
    for number in range(BOUND):
        members.heard(lodger(number), 1, door(number), None, 0.0)
    assert len(members) == BOUND
    return members


def test_without_a_secret_an_address_has_so_many_ids() -> None:
    members = crowded()
    assert members.heard(X, 1, door(9), None, 1.0) == []
    assert X not in members
    assert members.heard(X, 1, THERE, None, 2.0) == [Joined(contact(X, 1, THERE), is_rejoin=False)]


def test_with_a_secret_there_is_no_such_bound() -> None:
    assert crowded(is_open=False).heard(X, 1, door(9), None, 1.0) != []


def test_those_who_are_there_may_speak_and_move_about() -> None:
    members = crowded()
    assert members.heard(lodger(0), 1, door(0), b"info", 1.0) == [
        Updated(Contact(lodger(0), 1, (door(0),), b"info"))
    ]
    assert members.heard(lodger(1), 1, door(9), None, 1.0) == [Updated(contact(lodger(1), 1, door(9)))]
    assert members.heard(lodger(2), 2, door(8), None, 1.0) == [
        Joined(contact(lodger(2), 2, door(8)), is_rejoin=True)
    ]
    assert members.heard(X, 1, door(7), None, 2.0) == [], "nobody is counted less for having moved"


def test_who_takes_the_place_of_another_needs_no_room() -> None:
    assert crowded().heard(X, 1, door(0), None, 1.0) == [
        replaced(lodger(0), 1, door(0)),
        Joined(contact(X, 1, door(0)), is_rejoin=False),
    ]


def test_a_member_from_elsewhere_finds_no_room_either() -> None:
    members = crowded()
    members.heard(X, 1, THERE, None, 0.0)
    assert members.heard(X, 1, door(9), None, 1.0) == []
    assert members.get(X) == contact(X, 1, THERE)
    assert members.heard(X, 1, HERE_V6, None, 2.0) == [Updated(contact(X, 1, THERE, HERE_V6))]


@pytest.mark.parametrize(
    "goes",
    [
        pytest.param(lambda members: members.left(lodger(0), 1, 1.0), id="left"),
        pytest.param(lambda members: members.heard(lodger(0), 1, THERE, None, 1.0), id="moved"),
        pytest.param(lambda members: members.heard(lodger(0), 2, HERE_V6, None, 1.0), id="a-new-life"),
        pytest.param(
            lambda members: [members.struck(lodger(0), now) for now in (1.0, 2.0)],
            id="fell-silent",
        ),
        pytest.param(lambda members: members.heard(lodger(0), 1, door(1), None, 1.0), id="replaced-another"),
    ],
)
def test_who_goes_makes_room_for_one(goes: Callable[[Members], object]) -> None:
    members = crowded()
    goes(members)
    assert members.heard(X, 1, door(9), None, 3.0) == [Joined(contact(X, 1, door(9)), is_rejoin=False)]
    assert members.heard(Y, 1, door(8), None, 3.0) == []


def test_who_is_only_told_of_is_not_counted() -> None:
    members = Members(OWN, replace(PARAMS, members_per_address_count=BOUND), is_open=True)
    for number in range(100, 110):
        assert members.told(contact(lodger(number), 1, door(number)), 0.0) != []
    for number in range(BOUND):
        assert members.heard(lodger(number), 1, door(number), None, 1.0) != []
    assert len(members) == BOUND + 10
    assert members.heard(X, 1, door(9), None, 2.0) == []
    assert members.told(contact(X, 1, door(9)), 3.0) == [Joined(contact(X, 1, door(9)), is_rejoin=False)]


def test_being_told_of_first_is_no_way_around_the_bound() -> None:
    members = crowded()
    members.told(contact(X, 1, door(9)), 1.0)
    members.struck(X, 2.0)
    assert members.heard(X, 1, door(9), None, 3.0) == []
    assert X not in {one.node for one in members.best(BOUND)}
    assert members.struck(X, 4.0) == [Gone(contact(X, 1, door(9)), GoneReason.SILENT)], (
        "a word that does not count clears no strike"
    )
