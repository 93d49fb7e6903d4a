"""Whom a claim is asked of, and which ruling stands. The key is zero, so a node's id is its distance."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dht.claims.lookup import (
    ASKED_MAX_COUNT,
    AskClaim,
    ClaimLookup,
    ClaimSilent,
    Decided,
    GiveBack,
    Reason,
    Ruled,
    Undecided,
)
from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Holding,
    Lost,
    Pending,
    Redirect,
    Refused,
    Released,
    Ruling,
)
from dht.lookup.lookup import Answered, Silent, Timer
from dht.wire.codec import Fence
from tests.support.claim_lookup_steps import (
    DEADLINE_S,
    HOLDER,
    OWN,
    WAIT,
    asked,
    claimed,
    grant,
    lookup,
    passed,
    ruled,
)
from tests.support.lookup_steps import (
    HEDGE_S,
    Provider,
    answered,
    contact,
    contacts,
    node,
    reported,
)

# -- the ordinary case --------------------------------------------------------------------------------------------


def test_the_nearest_is_asked_to_rule_and_the_next_for_providers_only() -> None:
    commands = lookup(3, 1, 2, 4, others=2).start(0.0)
    assert claimed(commands) == [(1, [])]
    assert asked(commands) == [2, 3]


def test_a_grant_stands_at_once_where_nobody_else_was_asked() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    assert made.handle(ruled(1, grant(1)), 0.01) == [Decided(contact(1), grant(1), 1, 1, 1)]
    assert made.is_finished
    assert made.next_timer() is None


def test_a_grant_stands_when_the_others_have_answered_too() -> None:
    made = lookup(1, 2, 3, others=2)
    made.start(0.0)
    assert made.handle(ruled(1, grant(1)), 0.01) == []
    assert made.handle(answered(2), 0.02) == []
    assert made.next_timer() == HEDGE_S
    assert made.handle(answered(3), 0.03) == [Decided(contact(1), grant(1), 3, 3, 1)]


def test_a_provider_that_another_knows_comes_with_the_grant() -> None:
    made = lookup(1, 2, 3, others=2)
    made.start(0.0)
    made.handle(ruled(1, grant(1)), 0.01)
    commands = made.handle(answered(3, 100), 0.02)
    assert reported(commands) == [100]
    assert isinstance(commands[-1], Decided)


def test_the_others_are_not_waited_for_longer_than_their_hedge() -> None:
    made = lookup(1, 2, 3, others=2)
    made.start(0.0)
    made.handle(Silent(node(2)), 0.005)
    made.handle(ruled(1, grant(1)), 0.01)
    assert isinstance(made.handle(Timer(), HEDGE_S)[0], Decided)


@pytest.mark.parametrize(
    ("ruling", "named", "is_at_once"),
    [
        (WAIT, (), True),
        (Lost(HOLDER, 1.0, ()), (), True),
        (grant(1), (100,), True),
        (Granted(Fence(node(1), 1), 10.0, (Holding(contact(90), 5),)), (), True),
        (Pending(1.0, (Holding(contact(90), 5),)), (), True),
        (Pending(1.0, ()), (), False),
        (Excluded(10.0), (), False),
        (Refused(10.0), (), False),
        (Full(5.0), (), False),
        (grant(1), (), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_waits_for_the_others_and_what_does_not(
    ruling: Ruling, named: tuple[int, ...], is_at_once: bool
) -> None:
    made = lookup(1, 2, 3, others=2)
    made.start(0.0)
    commands = made.handle(ruled(1, ruling, *named), 0.01)
    assert reported(commands) == list(named)
    assert isinstance(commands[-1] if commands else None, Decided) is is_at_once
    if not is_at_once:
        made.handle(answered(2), 0.02)
        assert made.handle(answered(3), 0.02) == [Decided(contact(1), ruling, 3, 3, 1)]


def test_providers_are_told_once_never_ourselves_and_no_more_than_wanted() -> None:
    made = lookup(1, 2, 3, others=2, want=3)
    made.start(0.0)
    assert reported(made.handle(answered(2, 100, OWN), 0.01)) == [100]
    assert reported(made.handle(answered(3, 100, 101), 0.01)) == [101]
    assert reported(made.handle(ruled(1, grant(1), 101, 102, 103), 0.01)) == [102]


def test_the_own_node_may_be_the_one_to_ask() -> None:
    made = lookup(2, 1, 3, own=1, others=2)
    commands = made.start(0.0)
    assert claimed(commands) == [(1, [])]
    assert asked(commands) == [2, 3]


def test_a_cluster_of_one_rules_at_once() -> None:
    made = lookup(7, own=7, others=2)
    assert claimed(made.start(0.0)) == [(7, [])]
    assert made.handle(ruled(7, grant(7)), 0.0) == [Decided(contact(7), grant(7), 0, 0, 1)]


def test_nobody_to_ask() -> None:
    made = lookup()
    assert made.start(0.0) == [Undecided(Reason.NOBODY, 0, 0)]
    assert made.next_timer() is None


# -- redirects ----------------------------------------------------------------------------------------------------


def test_a_nearer_node_that_is_named_is_asked() -> None:
    made = lookup(10, 20)
    made.start(0.0)
    assert claimed(made.handle(ruled(10, Redirect((contact(4), contact(5)))), 0.01)) == [(4, [])]
    commands = made.handle(ruled(4, WAIT), 0.02)
    assert commands == [Decided(contact(4), WAIT, 2, 2, 2)]


def test_before_it_has_joined_any_member_leads_to_the_arbiter() -> None:
    made = lookup(500)
    made.start(0.0)
    assert claimed(made.handle(ruled(500, Redirect((contact(40),))), 0.01)) == [(40, [])]
    assert claimed(made.handle(ruled(40, Redirect((contact(2),))), 0.02)) == [(2, [])]


def test_when_all_that_it_named_are_dead_it_is_asked_again_and_told_so() -> None:
    made = lookup(10, 20)
    made.start(0.0)
    made.handle(ruled(10, Redirect((contact(4), contact(5)))), 0.01)
    assert claimed(passed(made)) == [(5, [4])]
    assert claimed(passed(made)) == [(10, [4, 5])]
    assert isinstance(made.handle(ruled(10, grant(10)), 0.3)[0], Decided)


def test_one_that_names_them_all_the_same_is_passed_over() -> None:
    made = lookup(10, 20)
    made.start(0.0)
    made.handle(ruled(10, Redirect((contact(4),))), 0.01)
    passed(made)
    commands = made.handle(ruled(10, Redirect((contact(4),))), 0.3)
    assert claimed(commands) == [(20, [4, 10])]


@pytest.mark.parametrize("named", [[10], [11], [OWN], []], ids=["itself", "farther", "the asker", "nobody"])
def test_a_redirect_that_leads_nowhere_passes_it_over(named: list[int]) -> None:
    made = lookup(10, 20)
    made.start(0.0)
    commands = made.handle(ruled(10, Redirect(tuple(contacts(*named)))), 0.01)
    assert claimed(commands) == [(20, [10])]


def test_a_late_redirect_is_followed_when_its_turn_comes() -> None:
    made = lookup(10, 20)
    made.start(0.0)
    passed(made)
    assert made.handle(ruled(10, Redirect((contact(4),))), 0.11) == [], "20 is under way"
    assert claimed(passed(made)) == [(4, [])]
    assert claimed(passed(made)) == [(10, [4])], "it is alive: it comes before whoever is farther"


def test_liars_that_name_ever_nearer_nodes_cost_a_bounded_number_of_requests() -> None:
    made = lookup(2**60)
    commands: Sequence[object] = made.start(0.0)
    count = 0
    while claimed(commands):
        count += 1
        assert count <= ASKED_MAX_COUNT
        number = claimed(commands)[0][0]
        commands = made.handle(ruled(number, Redirect((contact(number // 2),))), 0.001 * count)
    assert commands == [Undecided(Reason.UNRULED, ASKED_MAX_COUNT, ASKED_MAX_COUNT)]


def test_the_last_request_allowed_is_not_tried_again() -> None:
    made = lookup(2**60)
    commands: Sequence[object] = made.start(0.0)
    for count in range(1, ASKED_MAX_COUNT):
        number = claimed(commands)[0][0]
        commands = made.handle(ruled(number, Redirect((contact(number // 2),))), 0.001 * count)
    assert claimed(commands)
    due_at = made.next_timer()
    assert due_at is not None
    assert made.handle(Timer(), due_at) == []
    assert made.next_timer() == DEADLINE_S


# -- second grants ------------------------------------------------------------------------------------------------


def both_asked() -> ClaimLookup[Provider]:
    made = lookup(1, 2)
    made.start(0.0)
    passed(made)
    return made


def test_a_late_grant_of_the_nearer_arbiter_takes_the_place_of_the_farther_one_s() -> None:
    """Others ask the nearer: there they must find the claim."""
    made = both_asked()
    assert isinstance(made.handle(ruled(2, grant(2)), 0.12)[0], Decided)
    assert made.handle(ruled(1, grant(1)), 0.4) == [
        GiveBack(contact(2), grant(2).fence),
        Decided(contact(1), grant(1), 3, 2, 1),
    ]


def test_a_late_grant_of_the_farther_arbiter_is_given_back() -> None:
    made = both_asked()
    assert isinstance(made.handle(ruled(1, grant(1)), 0.12)[0], Decided)
    assert made.handle(ruled(2, grant(2)), 0.4) == [GiveBack(contact(2), grant(2).fence)]


@pytest.mark.parametrize(
    "ruling", [WAIT, Excluded(1.0), Pending(1.0, ())], ids=lambda one: type(one).__name__
)
def test_a_late_grant_is_given_back_to_whoever_was_told_otherwise(ruling: Ruling) -> None:
    made = both_asked()
    made.handle(ruled(2, ruling), 0.12)
    assert made.handle(ruled(1, grant(1)), 0.4) == [GiveBack(contact(1), grant(1).fence)]


def test_a_grant_after_the_deadline_is_given_back() -> None:
    made = both_asked()
    made.handle(Timer(), DEADLINE_S)
    assert made.handle(ruled(1, grant(1)), DEADLINE_S + 0.1) == [GiveBack(contact(1), grant(1).fence)]


def test_a_grant_that_comes_while_the_first_waits_for_others_is_weighed_too() -> None:
    made = lookup(1, 2, 3, others=2)
    made.start(0.0)
    made.handle(answered(2), 0.0)
    made.handle(ClaimSilent(node(1)), 0.01)
    assert claimed(made.handle(ClaimSilent(node(1)), 0.01)) == [(2, [1])]
    made.handle(ruled(2, grant(2)), 0.02)
    assert made.handle(ruled(1, grant(1)), 0.03) == [GiveBack(contact(2), grant(2).fence)]
    assert made.handle(answered(3), 0.04) == [Decided(contact(1), grant(1), 5, 3, 1)]


# -- what does not belong here ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        ruled(2, grant(2)),
        ruled(99, grant(9)),
        ruled(1, Released()),
        answered(2, 100),
        Silent(node(2)),
        ClaimSilent(node(2)),
    ],
    ids=["not asked", "unknown", "no ruling", "providers not asked", "silent", "claim silent"],
)
def test_what_was_not_asked_decides_nothing(
    event: Ruled[Provider] | Answered[Provider] | Silent | ClaimSilent,
) -> None:
    made = lookup(1, 2)
    made.start(0.0)
    commands = made.handle(event, 0.01)
    assert not [one for one in commands if not isinstance(one, AskClaim)]
    assert not made.is_finished


def test_the_second_copy_of_an_answer_is_ignored() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    made.handle(Timer(), HEDGE_S)
    made.handle(ruled(1, grant(1)), 0.06)
    assert made.handle(ruled(1, grant(1)), 0.07) == []
    assert made.handle(Timer(), 5.0) == []
