"""When containerd is asked again: soon after a sign, once more when things have settled, and now and then
anyway."""

from __future__ import annotations

import pytest

from mirror.store.walk_timer import DEBOUNCE_S, INTERVAL_S, REST_RATIO, SETTLE_S, WalkTimer


def walked(*, at: float) -> WalkTimer:
    timer = WalkTimer()
    timer.walk_begins(at)
    return timer


def test_the_first_walk_is_due_at_once() -> None:
    assert WalkTimer().wait_s(now=7) == 0


def test_without_a_sign_only_the_interval_counts() -> None:
    assert walked(at=100).wait_s(now=110) == INTERVAL_S - 10
    assert walked(at=100).wait_s(now=100 + INTERVAL_S) == 0


def test_signs_until_the_walk_are_one_and_do_not_put_it_off() -> None:
    timer = walked(at=100)
    timer.sign(now=101)
    assert timer.wait_s(now=101) == pytest.approx(DEBOUNCE_S)
    timer.sign(now=101.1)
    assert timer.wait_s(now=101.1) == pytest.approx(DEBOUNCE_S - 0.1)


def test_a_walk_follows_within_the_limit_of_the_port() -> None:
    assert DEBOUNCE_S <= 0.25


def test_one_more_walk_follows_when_things_have_settled_and_no_more() -> None:
    timer = walked(at=100)
    timer.sign(now=101)
    timer.walk_begins(now=101.2)
    assert timer.wait_s(now=101.2) == pytest.approx(SETTLE_S - 0.2)
    timer.walk_begins(now=101 + SETTLE_S)
    assert timer.wait_s(now=101 + SETTLE_S) == INTERVAL_S


def test_a_later_sign_puts_the_last_walk_off() -> None:
    timer = walked(at=100)
    timer.sign(now=101)
    timer.walk_begins(now=101.2)
    timer.sign(now=102)
    timer.walk_begins(now=102.2)
    assert timer.wait_s(now=102.2) == pytest.approx(SETTLE_S - 0.2)


def test_a_sign_during_a_walk_asks_for_another() -> None:
    timer = walked(at=100)
    timer.walk_begins(now=101)
    timer.sign(now=101.05)
    assert timer.wait_s(now=101.3) == 0


def test_signs_before_the_first_walk_leave_one_to_settle() -> None:
    timer = WalkTimer()
    timer.sign(now=5)
    timer.walk_begins(now=5)
    assert timer.wait_s(now=5) == SETTLE_S


def test_after_a_long_walk_there_is_a_long_rest() -> None:
    timer = walked(at=100)
    timer.sign(now=100.1)
    timer.walk_ends(now=101)
    assert timer.wait_s(now=101) == pytest.approx(REST_RATIO)
    assert timer.wait_s(now=101 + REST_RATIO) == 0


def test_a_thousand_blobs_cost_no_delay() -> None:
    """Their walk was measured at 20 to 50 ms."""
    timer = walked(at=100)
    timer.walk_ends(now=100.05)
    timer.sign(now=100.05)
    assert timer.wait_s(now=100.05) == pytest.approx(DEBOUNCE_S)
