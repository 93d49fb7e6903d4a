"""Who is not given a claim for a while, and who is next when one ended."""

from __future__ import annotations

import pytest

from dht.claims.claims import REASON_DONE, REASON_WHOLE, Claims
from dht.claims.rulings import (
    Excluded,
    Granted,
    Holding,
    Pending,
    Refused,
    Released,
    Wait,
)
from dht.claims.state import REFUSALS_COUNT, REFUSED_MAX_S, REFUSED_START_S
from dht.contacts import Contact
from dht.wire.codec import AskReason
from tests.support.claim_hosts import (
    EPOCH,
    FAILED,
    FIRST_S,
    FOREIGN,
    KEY,
    KEY_2,
    OWN,
    PARAMS,
    RETRY_S,
    A,
    B,
    C,
    D,
    granted,
    host,
)


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


# -- exclusion ----------------------------------------------------------------------------------------------------


def test_who_let_it_end_without_progress_is_excluded_longer_each_time(claims: Claims) -> None:
    now = 0.0
    waits = []
    for _ in range(7):
        granted(claims.ask(KEY, A, 0, now))
        now += FIRST_S
        ruling = claims.ask(KEY, A, 0, now)
        assert isinstance(ruling, Excluded)
        waits.append(ruling.again_s)
        now += ruling.again_s
        claims.expire(now)
    assert waits == [10, 20, 40, 80, 160, 300, 300]


def test_the_excluded_may_wait_and_others_are_granted(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    assert isinstance(claims.ask(KEY, A, 0, FIRST_S), Excluded)
    granted(claims.ask(KEY, B, 0, FIRST_S))
    assert isinstance(claims.ask(KEY, A, 0, FIRST_S), Wait)
    assert isinstance(claims.ask(KEY_2, A, 0, FIRST_S), Granted), "for that key only"


def test_who_brought_something_and_then_stopped_is_not_excluded(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.renew(KEY, A, fence, 10, 1.0)
    granted(claims.ask(KEY, A, 10, 1.0 + PARAMS.claim_progress_min_s))


def test_who_gives_it_back_as_failed_is_excluded_and_as_done_is_not(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert claims.release(KEY, A, fence, 0, REASON_DONE, 1.0) == Released()
    fence = granted(claims.ask(KEY, A, 0, 1.0)).fence
    assert claims.release(KEY, A, fence, 0, FAILED, 2.0) == Released()
    assert claims.ask(KEY, A, 0, 3.0) == Excluded(PARAMS.claim_exclude_start_s - 1.0)


def test_growth_after_the_end_undoes_the_exclusion(claims: Claims) -> None:
    """The origin took 11 s: the bytes come, and nobody else was granted."""
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert isinstance(claims.renew(KEY, A, fence, 0, FIRST_S + 1), Excluded)
    ruling = granted(claims.renew(KEY, A, fence, 1, FIRST_S + 2))
    assert ruling.fence == fence
    assert isinstance(claims.ask(KEY, B, 0, FIRST_S + 2), Wait)


def test_three_that_were_refused_make_the_key_refused_for_everybody(claims: Claims) -> None:
    now = 0.0
    for one in (A, B, C):
        fence = granted(claims.ask(KEY, one, 0, now)).fence
        claims.release(KEY, one, fence, 0, FAILED, now)
    assert REFUSALS_COUNT == 3
    assert claims.ask(KEY, D, 0, now) == Refused(REFUSED_START_S)
    assert claims.renew(KEY, D, FOREIGN, 0, now + 1) == Refused(REFUSED_START_S - 1)
    granted(claims.ask(KEY, D, 0, now + REFUSED_START_S))


def test_a_refused_key_is_refused_longer_each_time(claims: Claims) -> None:
    now = 0.0
    waits = []
    for turn in range(4):
        for one in range(3):
            asker = host(10 + 3 * turn + one)
            claims.release(KEY, asker, granted(claims.ask(KEY, asker, 0, now)).fence, 0, FAILED, now)
        ruling = claims.ask(KEY, D, 0, now)
        assert isinstance(ruling, Refused)
        waits.append(ruling.again_s)
        now += ruling.again_s
    assert waits == [REFUSED_START_S, 20, 40, REFUSED_MAX_S]


def refuse(claims: Claims, who: Contact, now: float, progress: int = 0) -> None:
    claims.release(KEY, who, granted(claims.ask(KEY, who, 0, now)).fence, progress, FAILED, now)


def test_one_host_s_refusals_do_not_refuse_a_key(claims: Claims) -> None:
    for turn in range(REFUSALS_COUNT):
        refuse(claims, A, turn * PARAMS.claim_exclude_max_s)
    granted(claims.ask(KEY, B, 0, (REFUSALS_COUNT - 1) * PARAMS.claim_exclude_max_s))


def test_a_host_that_had_bytes_before_it_failed_clears_the_key(claims: Claims) -> None:
    refuse(claims, A, 0.0)
    refuse(claims, B, 0.0)
    refuse(claims, C, 0.0, progress=1)
    refuse(claims, D, 0.0)
    refuse(claims, host(8), 0.0)
    granted(claims.ask(KEY, host(9), 0, 0.0))


def test_how_often_a_key_was_refused_outlives_the_forgetting(claims: Claims) -> None:
    for turn in range(2):
        for one in range(REFUSALS_COUNT):
            refuse(claims, host(10 + 3 * turn + one), 40.0 * turn)
    # Refused from 40 to 60, and the holders excluded from 40 to 50.
    claims.expire(55.0 + PARAMS.claim_forget_s)
    for one in range(REFUSALS_COUNT):
        refuse(claims, host(20 + one), 119.0)
    assert claims.ask(KEY, D, 0, 119.0) == Refused(40.0)


def test_an_exclusion_begins_anew_after_growth(claims: Claims) -> None:
    refuse(claims, A, 0.0)
    refuse(claims, A, 10.0, progress=5)
    ruling = claims.ask(KEY, A, 5, 10.0)
    assert ruling == Excluded(PARAMS.claim_exclude_start_s)


def test_the_excluded_gets_in_by_no_fence_of_another_arbiter(claims: Claims) -> None:
    refuse(claims, A, 0.0)
    assert isinstance(claims.renew(KEY, A, FOREIGN, 0, 1.0), Excluded)
    assert granted(claims.renew(KEY, A, FOREIGN, 1, 1.0)).fence == FOREIGN, "with bytes he does"


# -- who is next --------------------------------------------------------------------------------------------------


def test_the_waiter_with_the_most_progress_is_next(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, B, 10, FIRST_S - 0.5)
    claims.ask(KEY, C, 30, FIRST_S - 0.4)
    claims.ask(KEY, D, 20, FIRST_S - 0.3)
    end_at = FIRST_S
    assert isinstance(claims.ask(KEY, B, 10, end_at + 0.1), Pending)
    assert isinstance(claims.ask(KEY, D, 20, end_at + 0.2), Pending)
    granted(claims.ask(KEY, C, 30, end_at + 0.3))


def test_the_best_waiter_is_waited_for_no_longer_than_it_takes_him_to_ask(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, C, 30, FIRST_S - 0.4)
    ruling = claims.ask(KEY, B, 10, FIRST_S + 0.1)
    assert isinstance(ruling, Pending)
    assert ruling.again_s == pytest.approx(RETRY_S - 0.1)
    assert ruling.participants == (Holding(C, 30),)
    granted(claims.ask(KEY, B, 10, FIRST_S + RETRY_S))


@pytest.mark.parametrize("progress", [0, 10])
def test_an_equal_or_a_waiter_that_has_gone_silent_is_not_waited_for(claims: Claims, progress: int) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, B, 10, FIRST_S - 0.1)
    claims.ask(KEY, C, 99, FIRST_S - 2 * RETRY_S - 0.1)
    granted(claims.ask(KEY, D, 10 + progress, FIRST_S))


def test_the_excluded_is_not_waited_for(claims: Claims) -> None:
    refuse(claims, A, 0.0)
    fence = granted(claims.ask(KEY, B, 0, 0.1)).fence
    assert isinstance(claims.ask(KEY, A, 50, 1.5), Wait)
    claims.release(KEY, B, fence, 0, REASON_DONE, 2.0)
    granted(claims.ask(KEY, C, 0, 2.1))


def test_a_holder_that_stalled_comes_after_any_waiter(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.renew(KEY, A, fence, 100, 1.0)
    claims.ask(KEY, B, 40, 5.5)
    end_at = 1.0 + PARAMS.claim_progress_min_s
    assert isinstance(claims.renew(KEY, A, fence, 100, end_at + 0.1), Pending)
    granted(claims.ask(KEY, B, 40, end_at + 0.5))


# -- after a holder who has all of it -----------------------------------------------------------------------------


def test_after_a_holder_who_has_all_of_it_others_are_sent_to_him(claims: Claims) -> None:
    """His announcement may be late on a busy host."""
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.ask(KEY, B, 0, 0.5)
    claims.release(KEY, A, fence, 9, REASON_WHOLE, 1.0)
    ruling = claims.ask(KEY, C, 0, 1.1)
    assert isinstance(ruling, Pending)
    assert ruling.participants == (Holding(A, 9), Holding(B, 0))
    assert isinstance(claims.ask(KEY, B, 0, 1.0 + PARAMS.claim_done_s - 0.1), Pending)
    granted(claims.ask(KEY, B, 0, 1.0 + PARAMS.claim_done_s))


def test_he_himself_and_whoever_was_held_long_are_granted_it_all_the_same(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, fence, 9, REASON_WHOLE, 1.0)
    fence = granted(claims.ask(KEY, A, 0, 1.1)).fence
    claims.release(KEY, A, fence, 9, REASON_WHOLE, 1.2)
    granted(claims.ask(KEY, B, 0, 1.3, reason=AskReason.HELD_LONG))


def test_whoever_tried_him_in_vain_is_granted_it(claims: Claims) -> None:
    """He may have died since."""
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, fence, 9, REASON_WHOLE, 1.0)
    assert isinstance(claims.ask(KEY, B, 0, 1.1), Pending)
    granted(claims.ask(KEY, B, 0, 1.2, wants_sources=False))


def test_nobody_is_sent_to_a_holder_who_only_gave_up(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, fence, 9, REASON_DONE, 1.0)
    granted(claims.ask(KEY, B, 0, 1.1))
