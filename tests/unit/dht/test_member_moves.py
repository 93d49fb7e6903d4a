"""A member at two addresses: moved, or two nodes of one id."""

from __future__ import annotations

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.members import (
    Change,
    Conflict,
    Gone,
    GoneReason,
    Joined,
    Members,
    Updated,
)
from dht.members.moves import MOVES_MAX_COUNT
from dht.params import Params

PARAMS = Params()
HERE = Endpoint("10.0.0.1", 29021)
THERE = Endpoint("10.0.0.2", 29021)
ELSEWHERE = Endpoint("10.0.0.3", 29021)
HERE_V6 = Endpoint("fd00::1", 29021)
OWN = Contact(b"\x77" * 20, 5, (Endpoint("10.0.0.99", 29021),), b"own")
X = b"\x11" * 20


def contact(node: bytes = X, epoch: int = 1, *endpoints: Endpoint, info: bytes = b"") -> Contact:
    return Contact(node, epoch, endpoints or (HERE,), info)


@pytest.fixture
def members() -> Members:
    return Members(OWN, PARAMS)


def talk(members: Members, *turns: tuple[Endpoint, float]) -> list[Change]:
    """What the last turn changed."""
    changes: list[Change] = []
    for endpoint, now in turns:
        changes = members.heard(X, 1, endpoint, None, now)
    return changes


def test_one_move_is_no_conflict(members: Members) -> None:
    assert talk(members, (HERE, 0.0), (THERE, 1.0)) == [Updated(contact(X, 1, THERE))]
    assert talk(members, (ELSEWHERE, 2.0)) == [Updated(contact(X, 1, ELSEWHERE))]


def test_two_addresses_in_turns_are_a_conflict(members: Members) -> None:
    assert talk(members, (HERE, 0.0), (THERE, 1.0), (HERE, 2.0)) == [Conflict(X, (THERE, HERE))]
    assert members.get(X) == contact(X, 1, THERE)


def test_a_conflict_is_said_once_a_window_and_the_address_stays(members: Members) -> None:
    talk(members, (HERE, 0.0), (THERE, 1.0), (HERE, 2.0))
    said: list[Change] = []
    now = 2.0
    while now < 2.0 + PARAMS.conflict_window_s:
        for endpoint in (THERE, HERE):
            said += members.heard(X, 1, endpoint, None, now)
        now += 1.0
    assert said == []
    for turn in range(4):
        said += members.heard(X, 1, THERE if turn % 2 else HERE, None, now + turn + 1)
    conflicts = [change for change in said if isinstance(change, Conflict)]
    assert conflicts == [Conflict(X, (HERE, THERE))]


def test_the_address_that_stays_in_a_conflict_must_answer(members: Members) -> None:
    talk(members, (HERE, 0.0), (THERE, 1.0), (HERE, 2.0))
    members.struck(X, 3.0)
    talk(members, (HERE, 3.5))
    assert members.struck(X, 4.0) == [Gone(contact(X, 1, THERE), GoneReason.SILENT)]


@pytest.mark.parametrize(
    "turns",
    [
        pytest.param(
            [(HERE, 0.0), (THERE, 1.0), (HERE, 2.0 + PARAMS.conflict_window_s)], id="moved-back-later"
        ),
        pytest.param([(HERE, 0.0), (THERE, 1.0), (ELSEWHERE, 2.0)], id="moved-on"),
        pytest.param([(HERE, 0.0), (HERE_V6, 1.0), (HERE, 2.0)], id="two-families"),
    ],
)
def test_what_is_no_conflict(members: Members, turns: list[tuple[Endpoint, float]]) -> None:
    assert not any(isinstance(change, Conflict) for change in talk(members, *turns))


def test_another_life_is_no_conflict(members: Members) -> None:
    talk(members, (HERE, 0.0), (THERE, 1.0))
    assert members.heard(X, 2, HERE, None, 2.0) == [Joined(contact(X, 2, HERE), is_rejoin=True)]
    assert members.heard(X, 2, THERE, None, 3.0) == [Updated(contact(X, 2, THERE))]


@pytest.mark.parametrize("is_heard", [True, False])
def test_a_move_of_an_earlier_life_is_no_turn(members: Members, is_heard: bool) -> None:
    talk(members, (HERE, 0.0), (THERE, 1.0))
    if is_heard:
        members.heard(X, 2, THERE, None, 2.0)
    else:
        members.told(contact(X, 2, THERE), 2.0)
    assert members.heard(X, 2, HERE, None, 3.0) == [Updated(contact(X, 2, HERE))]


def test_a_move_before_it_was_gone_is_no_turn(members: Members) -> None:
    talk(members, (HERE, 0.0), (THERE, 1.0))
    members.left(X, 1, 2.0)
    members.heard(X, 1, THERE, None, 3.0)
    assert members.heard(X, 1, HERE, None, 4.0) == [Updated(contact(X, 1, HERE))]


def test_moves_remembered_are_bounded(members: Members) -> None:
    nodes = [number.to_bytes(20, "big") for number in range(MOVES_MAX_COUNT + 1)]
    homes = {
        node: [Endpoint(one.address, 1024 + at) for one in (HERE, THERE)] for at, node in enumerate(nodes)
    }
    for turn in range(2):
        for node in nodes:
            members.heard(node, 1, homes[node][turn], None, float(turn))
    first, second = nodes[0], nodes[1]
    assert members.heard(second, 1, homes[second][0], None, 2.0) == [
        Conflict(second, (homes[second][1], homes[second][0]))
    ]
    assert members.heard(first, 1, homes[first][0], None, 2.0) == [
        Updated(contact(first, 1, homes[first][0]))
    ], "the oldest move was forgotten"
