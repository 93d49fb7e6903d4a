"""Whom a claim is asked of where the nearest do not answer. The key is zero, so a node's id is its distance."""

from __future__ import annotations

from collections.abc import Sequence

from dht.claims.lookup import (
    PASSED_OVER_MAX_COUNT,
    ClaimLookup,
    ClaimSilent,
    Decided,
    Reason,
    Undecided,
)
from dht.claims.rulings import (
    NotJoined,
)
from dht.lookup.lookup import Timer
from dht.silence import Silence
from tests.support.claim_lookup_steps import (
    CLAIM_HEDGE_S,
    DEADLINE_S,
    OWN,
    WAIT,
    claimed,
    grant,
    lookup,
    passed,
    ruled,
)
from tests.support.lookup_steps import (
    KEY,
    PARAMS,
    Provider,
    contact,
    contacts,
    node,
)


def test_past_its_hedge_a_node_is_asked_once_more_then_passed_over() -> None:
    made = lookup(1, 2, 3)
    made.start(0.0)
    assert made.next_timer() == CLAIM_HEDGE_S
    assert claimed(made.handle(Timer(), CLAIM_HEDGE_S)) == [(1, [])], "the datagram may have been lost"
    assert claimed(made.handle(Timer(), 2 * CLAIM_HEDGE_S)) == [(2, [1])]
    assert claimed(passed(made)) == [(3, [1, 2])]


def test_one_that_was_heard_lately_is_waited_for_half_of_the_time_that_is_left() -> None:
    made = lookup(1, 2, 3, lively=[1, 2])
    made.start(0.0)
    assert claimed(made.handle(Timer(), CLAIM_HEDGE_S)) == [(1, [])], "the datagram may have been lost"
    assert made.next_timer() == DEADLINE_S / 2
    assert claimed(made.handle(Timer(), DEADLINE_S / 2)) == [(2, [1])]
    made.handle(Timer(), DEADLINE_S / 2 + CLAIM_HEDGE_S)
    assert made.next_timer() == 0.75 * DEADLINE_S
    assert claimed(made.handle(Timer(), 0.75 * DEADLINE_S)) == [(3, [1, 2])]
    assert made.handle(ruled(3, grant(3)), 0.8) == [Decided(contact(3), grant(3), 5, 1, 1)]


def test_one_that_was_heard_lately_and_fails_is_passed_over_at_once() -> None:
    made = lookup(1, 2, lively=[1, 2])
    made.start(0.0)
    made.handle(ClaimSilent(node(1)), 0.001)
    assert claimed(made.handle(ClaimSilent(node(1)), 0.002)) == [(2, [1])]


def test_a_failure_is_tried_once_more_then_passed_over() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    assert claimed(made.handle(ClaimSilent(node(1)), 0.001)) == [(1, [])]
    assert claimed(made.handle(ClaimSilent(node(1)), 0.002)) == [(2, [1])]


def test_one_try_that_timed_out_does_not_end_the_other() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    made.handle(Timer(), CLAIM_HEDGE_S)
    assert made.handle(ClaimSilent(node(1)), CLAIM_HEDGE_S + 0.001) == []
    assert isinstance(made.handle(ruled(1, WAIT), CLAIM_HEDGE_S + 0.002)[0], Decided)


def test_the_ruling_of_one_that_was_passed_over_still_stands_if_it_is_the_first() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    passed(made)
    commands = made.handle(ruled(1, WAIT), 0.2)
    assert commands == [Decided(contact(1), WAIT, 3, 1, 1)]


def test_no_more_are_named_than_a_request_holds() -> None:
    made = lookup(*range(1, 12))
    commands: Sequence[object] = made.start(0.0)
    for number in range(1, 11):
        assert claimed(commands)[0][0] == number
        made.handle(ClaimSilent(node(number)), 0.0)
        commands = made.handle(ClaimSilent(node(number)), 0.0)
    assert claimed(commands) == [(11, list(range(1, PASSED_OVER_MAX_COUNT + 1)))]


def test_when_everybody_failed_it_ends_at_once() -> None:
    made = lookup(1)
    made.start(0.0)
    made.handle(ClaimSilent(node(1)), 0.001)
    assert made.handle(ClaimSilent(node(1)), 0.002) == [Undecided(Reason.SILENT, 2, 0)]


def test_late_ones_are_waited_for_until_the_deadline() -> None:
    made = lookup(1)
    made.start(0.0)
    assert passed(made) == []
    assert made.next_timer() == DEADLINE_S
    assert made.handle(Timer(), DEADLINE_S) == [Undecided(Reason.SILENT, 2, 0)]


def test_at_the_deadline_a_grant_that_waited_for_others_stands() -> None:
    made: ClaimLookup[Provider] = ClaimLookup(
        KEY,
        node(OWN),
        contacts(1, 2),
        PARAMS,
        want=1,
        hedge_s=lambda _: 5.0,
        is_heard_lately=lambda _: False,
        silence=Silence(),
        providers_asked_count=1,
    )
    made.start(0.0)
    assert made.handle(ruled(1, grant(1)), 0.9) == []
    assert isinstance(made.handle(Timer(), DEADLINE_S)[0], Decided)


def test_one_that_has_not_joined_is_passed_over_at_once() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    assert claimed(made.handle(ruled(1, NotJoined(1.0)), 0.01)) == [(2, [1])]
    assert made.handle(ruled(2, NotJoined(1.0)), 0.02) == [Undecided(Reason.UNRULED, 2, 2)]


# -- busy rather than out of reach --------------------------------------------------------------------------------


def heard_at(now: float) -> Silence:
    silence = Silence()
    silence.heard(now)
    return silence


def test_where_somebody_was_heard_the_nearest_is_asked_anew_at_the_deadline() -> None:
    made = lookup(1, 2, lively=[1, 2], silence=heard_at(0.1))
    made.start(0.0)
    now, commands = 0.0, []
    while now < DEADLINE_S:
        now = made.next_timer() or 0.0
        commands = list(made.handle(Timer(), now))
    assert claimed(commands) == [(1, [])]
    assert made.next_timer() == DEADLINE_S + CLAIM_HEDGE_S
    assert made.handle(ruled(1, grant(1)), 1.4) == [Decided(contact(1), grant(1), 5, 1, 1)]


def test_it_ends_after_twice_the_time_all_the_same() -> None:
    made = lookup(1, 2, silence=heard_at(0.1))
    commands: Sequence[object] = made.start(0.0)
    asked_count = len(claimed(commands))
    now = 0.0
    while not made.is_finished:
        now = made.next_timer() or 0.0
        commands = made.handle(Timer(), now)
        asked_count += len(claimed(commands))
    assert now == 2 * DEADLINE_S
    assert asked_count == 8, "twice each of both"
    assert commands == [Undecided(Reason.SILENT, 8, 0)]


def test_a_ruling_of_the_first_time_still_stands() -> None:
    made = lookup(1, silence=heard_at(0.1))
    made.start(0.0)
    passed(made)
    made.handle(ClaimSilent(node(1)), 0.5)
    made.handle(Timer(), DEADLINE_S)
    assert made.handle(ruled(1, WAIT), DEADLINE_S + 0.01) == [Decided(contact(1), WAIT, 3, 1, 1)]
