"""Whom a lookup asks, when, and when it is content. The key is zero, so a node's id is its distance."""

from __future__ import annotations

import pytest

from dht.lookup.lookup import ASKED_MAX_COUNT, Answered, Finish, Lookup, Outcome, Silent, Timer
from dht.params import Params
from tests.support.lookup_steps import (
    HEDGE_S,
    KEY,
    OWN,
    PARAMS,
    Provider,
    answered,
    asked,
    contacts,
    finish,
    lookup,
    node,
    reported,
)

# -- the ordinary case: one round ---------------------------------------------------------------------------------


def test_the_nearest_three_are_asked_at_once_whatever_the_order() -> None:
    assert asked(lookup(5, 2, 9, 1, 7).start(0.0)) == [1, 2, 5]


def test_two_answers_with_providers_are_enough() -> None:
    made = lookup(1, 2, 3, 4)
    made.start(0.0)
    first = made.handle(answered(2, 100, 101), 0.01)
    assert reported(first) == [100, 101]
    assert finish(first) is None
    second = made.handle(answered(3, 101, 102), 0.02)
    assert reported(second) == [102], "each provider once"
    assert finish(second) == Finish(Outcome.FOUND, 3, 2, 1)
    assert made.is_finished
    assert made.next_timer() is None


def test_the_first_provider_is_told_at_once() -> None:
    made = lookup(1, 2, 3)
    made.start(0.0)
    assert reported(made.handle(answered(3, 100), 0.001)) == [100]


def test_three_empty_answers_are_a_miss_in_one_round() -> None:
    made = lookup(1, 2, 3, 4, 5, 6)
    made.start(0.0)
    assert made.handle(answered(1), 0.01) == []
    assert made.handle(answered(2), 0.01) == []
    assert made.handle(answered(3), 0.01) == [Finish(Outcome.MISSING, 3, 3, 1)]


def test_one_holder_of_three_that_all_answered_is_found() -> None:
    made = lookup(1, 2, 3, 4, 5, 6)
    made.start(0.0)
    made.handle(answered(1), 0.01)
    made.handle(answered(2, 100), 0.01)
    assert finish(made.handle(answered(3), 0.01)) == Finish(Outcome.FOUND, 3, 3, 1)


def test_enough_providers_end_it_and_no_more_are_told() -> None:
    made = lookup(1, 2, 3, want=2)
    made.start(0.0)
    commands = made.handle(answered(1, 100, 101, 102), 0.01)
    assert reported(commands) == [100, 101]
    assert finish(commands) == Finish(Outcome.FOUND, 3, 1, 1)


def test_nobody_to_ask() -> None:
    assert lookup().start(0.0) == [Finish(Outcome.NOBODY, 0, 0, 0)]


def test_the_own_node_is_never_asked_nor_told() -> None:
    made = lookup(1, 2, 3, own=node(2))
    assert asked(made.start(0.0)) == [1, 3]
    assert made.handle(answered(1, 2), 0.01) == [], "an answer that names only ourselves is empty"
    assert made.handle(answered(3), 0.01) == [Finish(Outcome.MISSING, 2, 2, 1)]


# -- the own records ----------------------------------------------------------------------------------------------


def test_own_records_count_as_an_answer_and_in_no_figure() -> None:
    made = lookup(1, 3, 4, own=node(2))
    assert reported(made.handle(answered(2, 100), 0.0)) == [100]
    assert asked(made.start(0.0)) == [1, 3]
    commands = made.handle(answered(1, 101), 0.01)
    assert finish(commands) == Finish(Outcome.FOUND, 2, 1, 0), "the own records named the first"


def test_own_records_that_are_empty_are_one_of_three() -> None:
    made = lookup(1, 3, 4, own=node(2))
    made.handle(answered(2), 0.0)
    made.start(0.0)
    made.handle(answered(1), 0.01)
    assert made.handle(answered(3), 0.01) == [Finish(Outcome.MISSING, 2, 2, 1)]


def test_own_records_that_know_enough_ask_nobody() -> None:
    made = lookup(1, 3, want=1, own=node(2))
    made.handle(answered(2, 100), 0.0)
    assert made.start(0.0) == [Finish(Outcome.FOUND, 0, 0, 0)]


def test_own_records_alone_do_not_hide_that_nobody_hears_us() -> None:
    made = lookup(1, 3, own=node(2))
    made.handle(answered(2, 100), 0.0)
    made.start(0.0)
    made.handle(Silent(node(1)), 0.01)
    end = finish(made.handle(Silent(node(3)), 0.01))
    assert end == Finish(Outcome.FOUND, 2, 0, 0)
    assert end.is_unheard


# -- the dead -----------------------------------------------------------------------------------------------------


def test_past_its_hedge_a_node_is_replaced_and_a_fourth_answer_wanted() -> None:
    made = lookup(1, 2, 3, 4, 5, 6)
    made.start(0.0)
    made.handle(answered(2), 0.01)
    made.handle(answered(3), 0.01)
    assert made.next_timer() == HEDGE_S
    assert asked(made.handle(Timer(), HEDGE_S)) == [4, 5], "the records may be with the one that is dead"
    assert made.handle(answered(4), 0.06) == []
    assert made.handle(answered(5), 0.06) == [Finish(Outcome.MISSING, 5, 4, 1)]


def test_with_a_provider_known_one_replacement_is_enough() -> None:
    made = lookup(1, 2, 3, 4, 5, 6)
    made.start(0.0)
    made.handle(answered(2, 100), 0.01)
    made.handle(answered(3), 0.01)
    assert asked(made.handle(Timer(), HEDGE_S)) == [4]


def test_a_late_answer_still_counts() -> None:
    made = lookup(1, 2, 3, 4, 5, 6)
    made.start(0.0)
    made.handle(Timer(), HEDGE_S)
    assert reported(made.handle(answered(1, 100), 0.06)) == [100]
    assert finish(made.handle(answered(6, 100), 0.06)) == Finish(Outcome.FOUND, 6, 2, 1)


def test_an_answer_after_the_rpc_was_given_up_still_counts() -> None:
    made = lookup(1, 2, 3)
    made.start(0.0)
    made.handle(Silent(node(1)), 0.1)
    assert reported(made.handle(answered(1, 100), 0.2)) == [100]


def test_a_failure_before_the_hedge_is_replaced_at_once() -> None:
    made = lookup(1, 2, 3, 4, 5)
    made.start(0.0)
    assert asked(made.handle(Silent(node(2)), 0.001)) == [4, 5]


def test_a_late_node_that_then_fails_is_not_replaced_twice() -> None:
    made = lookup(1, 2, 3, 4, 5, 6, 7, 8, 9)
    made.start(0.0)
    made.handle(answered(2), 0.01)
    made.handle(answered(3), 0.01)
    assert asked(made.handle(Timer(), HEDGE_S)) == [4, 5]
    assert made.handle(Silent(node(1)), 0.06) == []


def test_when_everybody_failed_it_ends_at_once_and_says_so() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    made.handle(Silent(node(1)), 0.1)
    end = finish(made.handle(Silent(node(2)), 0.1))
    assert end == Finish(Outcome.SILENT, 2, 0, 0)
    assert end.is_unheard


def test_nobody_left_but_late_ones_are_waited_for_until_the_deadline() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    made.handle(answered(2), 0.01)
    assert made.handle(Timer(), HEDGE_S) == []
    assert made.next_timer() == PARAMS.lookup_deadline_s
    end = finish(made.handle(Timer(), PARAMS.lookup_deadline_s))
    assert end == Finish(Outcome.DEADLINE, 2, 1, 1)
    assert not end.is_unheard


def test_with_a_provider_known_late_ones_are_not_waited_for() -> None:
    made = lookup(1, 2)
    made.start(0.0)
    made.handle(answered(2, 100), 0.01)
    assert finish(made.handle(Timer(), HEDGE_S)) == Finish(Outcome.FOUND, 2, 1, 1)


def test_silence_until_the_deadline() -> None:
    made = lookup(1, 2)
    made.start(10.0)
    made.handle(Timer(), 10.0 + HEDGE_S)
    end = finish(made.handle(Timer(), 10.0 + PARAMS.lookup_deadline_s))
    assert end == Finish(Outcome.SILENT, 2, 0, 0)


def test_the_deadline_holds_though_only_an_answer_tells_the_time() -> None:
    made = lookup(1, 2, 3)
    made.start(0.0)
    assert finish(made.handle(answered(1), PARAMS.lookup_deadline_s)) == Finish(Outcome.DEADLINE, 3, 1, 1)


def test_a_hedge_time_of_nothing_does_not_ask_everybody() -> None:
    made = Lookup[Provider](KEY, OWN, contacts(1, 2, 3, 4, 5), PARAMS, want=1, hedge_s=lambda _: 0.0)
    assert asked(made.start(0.0)) == [1, 2, 3]
    assert asked(made.handle(Timer(), 0.0)) == []
    assert made.next_timer() == PARAMS.hedge_min_s


# -- iteration ----------------------------------------------------------------------------------------------------


def test_a_nearer_node_that_an_answer_names_is_asked_first() -> None:
    made = lookup(10, 20, 30, 40)
    made.start(0.0)
    assert asked(made.handle(answered(20, closer=[5]), 0.01)) == [5]
    made.handle(answered(10), 0.01)
    # 5, 10 and 20 are the nearest three now; 30 is not waited for.
    assert made.handle(answered(5), 0.02) == [Finish(Outcome.MISSING, 4, 3, 2)]


def test_the_hop_of_the_first_provider_is_counted() -> None:
    made = lookup(100)
    made.start(0.0)
    assert asked(made.handle(answered(100, closer=[50]), 0.01)) == [50]
    assert asked(made.handle(answered(50, closer=[25]), 0.02)) == [25]
    end = finish(made.handle(answered(25, 7), 0.03))
    assert end is not None
    assert (end.hops, end.asked_count) == (3, 3)


@pytest.mark.parametrize("named", [[11], [10], [255, 254]], ids=["farther", "itself", "far"])
def test_names_that_are_no_nearer_are_ignored(named: list[int]) -> None:
    made = lookup(10, 20, 30)
    made.start(0.0)
    assert made.handle(answered(10, closer=named), 0.01) == []


def test_one_answer_adds_no_more_than_a_few_and_the_nearest_of_them() -> None:
    made = lookup(1000, params=Params(ask_first_count=100))
    made.start(0.0)
    commands = made.handle(answered(1000, closer=range(119, 99, -1)), 0.01)
    assert asked(commands) == list(range(100, 100 + PARAMS.closer_count))


def test_the_own_node_named_by_others_is_not_asked() -> None:
    made = lookup(10, own=node(1))
    made.start(0.0)
    assert asked(made.handle(answered(10, closer=[1, 2]), 0.01)) == [2]


def test_a_liar_that_names_ever_nearer_nodes_costs_a_bounded_number_of_datagrams() -> None:
    made = lookup(*range(2**60, 2**60 + 8))
    asked_count = 0
    waiting = asked(made.start(0.0))
    now = 0.0
    end = None
    while end is None:
        asked_count += len(waiting)
        assert asked_count <= ASKED_MAX_COUNT
        now += 0.0001
        following: list[int] = []
        for number in waiting:
            commands = made.handle(answered(number, closer=range(number // 2, number // 2 + 4)), now)
            following += asked(commands)
            end = finish(commands) or end
        waiting = following
    assert end.asked_count == asked_count == ASKED_MAX_COUNT
    assert now < PARAMS.lookup_deadline_s


def test_whoever_was_pushed_out_of_the_window_sets_no_timer() -> None:
    made = lookup(10, 20, 30)
    made.start(0.0)
    assert asked(made.handle(answered(10, closer=[5]), 0.04)) == [5]
    made.handle(answered(20), 0.04)
    assert made.next_timer() == 0.04 + HEDGE_S, "30 is past its hedge at 0.05, and nobody waits for it"


# -- what does not belong here ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [answered(4, 100), answered(99, 100), Silent(node(4)), Silent(node(99)), Timer()],
    ids=["not asked yet", "unknown", "silent, not asked", "silent, unknown", "too early"],
)
def test_what_was_not_asked_changes_nothing(event: Answered[Provider] | Silent | Timer) -> None:
    made = lookup(1, 2, 3, 4)
    made.start(0.0)
    assert made.handle(event, 0.01) == []
    assert made.next_timer() == HEDGE_S


def test_an_answer_counts_once() -> None:
    made = lookup(1, 2, 3)
    made.start(0.0)
    made.handle(answered(1, 100), 0.01)
    assert made.handle(answered(1, 101), 0.01) == []


def test_nothing_comes_after_the_end() -> None:
    made = lookup(1, 2, want=1)
    made.start(0.0)
    assert finish(made.handle(answered(1, 100), 0.01)) is not None
    for event in (answered(2, 101), Silent(node(2)), Timer()):
        assert made.handle(event, 5.0) == []
