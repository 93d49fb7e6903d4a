"""One claim more beside one that runs: for whom, how often, and how several are told apart."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dht.claims.claims import REASON_DONE, Claims
from dht.claims.rulings import Excluded, Granted, Holding, Lost, Refused, Ruling, Wait
from dht.claims.state import REFUSALS_COUNT
from dht.claims.waiters import PARTICIPANTS_COUNT
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import AskReason, Fence
from tests.support.claim_hosts import (
    EPOCH,
    FAILED,
    FIRST_S,
    FOREIGN,
    KEY,
    KEY_2,
    OTHER_ARBITER,
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

HELD_LONG, SLOW = AskReason.HELD_LONG, AskReason.SLOW_CLAIMANT
LAST_REASON = max(AskReason)


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


def more(claims: Claims, who: Contact, now: float, reason: int, progress: int = 0) -> Ruling:
    return claims.ask(KEY, who, progress, now, reason=reason)


def after_ends(claims: Claims, count: int) -> float:
    """So many claims ended by their time, and one more runs, without growth."""
    now = 0.0
    for number in range(count + 1):
        granted(claims.ask(KEY, host(100 + number), 0, now))
        now += FIRST_S
    return now - FIRST_S


def slow(claims: Claims, who: Contact = A, now: float = 0.0) -> Fence:
    """`who` holds the claim, and it has grown; it holds for 30 s from then."""
    fence = granted(claims.ask(KEY, who, 0, now)).fence
    granted(claims.renew(KEY, who, fence, 10, now + 9.99))
    return fence


# -- held long ----------------------------------------------------------------------------------------------------


def test_held_long_while_no_claim_has_ended_yet_waits(claims: Claims) -> None:
    granted(claims.ask(KEY, A, 0, 0.0))
    assert isinstance(more(claims, B, 5.0, HELD_LONG), Wait)


def test_held_long_after_an_end_is_granted_one_more(claims: Claims) -> None:
    now = after_ends(claims, 1)
    first = claims.running(KEY, now)
    assert first is not None
    second = granted(more(claims, B, now + 5.0, HELD_LONG))
    assert second.fence.counter == first.fence.counter + 1
    assert second.hold_s == FIRST_S
    assert isinstance(more(claims, C, now + 5.0, HELD_LONG), Wait), "one, not one each"
    assert isinstance(more(claims, C, now + 5.0, AskReason.NEEDED), Wait)
    assert claims.running_count == 2


def test_how_many_may_run_doubles_with_each_end(claims: Claims) -> None:
    counts = []
    for ends_count in range(5):
        claims = Claims(OWN, EPOCH, PARAMS)
        now = after_ends(claims, ends_count)
        rulings = [more(claims, host(number), now, HELD_LONG) for number in range(20)]
        counts.append(sum(isinstance(one, Granted) for one in rulings))
    assert counts == [0, 1, 2, 4, 4]
    assert PARAMS.claims_per_key_count == 5


def test_a_claim_that_was_given_back_is_no_end_by_time(claims: Claims) -> None:
    for who, reason in ((A, FAILED), (B, REASON_DONE)):
        claims.release(KEY, who, granted(claims.ask(KEY, who, 0, 0.0)).fence, 0, reason, 1.0)
    granted(claims.ask(KEY, C, 0, 2.0))
    assert isinstance(more(claims, D, 5.0, HELD_LONG), Wait)


def test_a_holder_who_was_sent_elsewhere_let_no_claim_end(claims: Claims) -> None:
    granted(claims.ask(KEY, A, 0, 0.0))
    claims.moved(KEY, A, 0, 1.0)
    granted(claims.ask(KEY, B, 0, FIRST_S))
    assert isinstance(more(claims, C, FIRST_S + 5.0, HELD_LONG), Wait)


def test_when_somebody_had_all_of_it_ends_are_counted_anew(claims: Claims) -> None:
    now = after_ends(claims, 1)
    running = claims.running(KEY, now)
    assert running is not None
    claims.release(KEY, running.holder.contact, running.fence, 5, REASON_DONE, now)
    granted(claims.ask(KEY, A, 0, now))
    assert isinstance(more(claims, B, now, HELD_LONG), Wait)


@pytest.mark.parametrize("progress", [0, 5], ids=["without a byte", "while another claim runs"])
def test_whoever_was_only_let_go_ends_no_count(claims: Claims, progress: int) -> None:
    """Without bytes it was not needed; beside another it may have been no faster."""
    now = after_ends(claims, 1)
    beside = granted(more(claims, B, now, HELD_LONG)).fence
    running = claims.running(KEY, now)
    assert running is not None
    if progress == 0:
        claims.release(KEY, running.holder.contact, running.fence, 0, REASON_DONE, now)
    claims.release(KEY, B, beside, progress, REASON_DONE, now)
    if progress == 0:
        granted(claims.ask(KEY, A, 0, now))
    granted(more(claims, C, now, HELD_LONG))


# -- a slow claimant ----------------------------------------------------------------------------------------------


def test_beside_a_slow_claimant_one_more_is_granted(claims: Claims) -> None:
    slow(claims)
    ruling = granted(more(claims, B, 12.0, SLOW, 10))
    assert ruling.participants == (Holding(A, 10),), "whose bytes are drained first"
    for reason in (SLOW, HELD_LONG):
        assert isinstance(more(claims, C, 12.0, reason, 10), Wait)


def test_beside_two_there_is_no_third_for_slowness_however_late(claims: Claims) -> None:
    first, second = two(claims)
    now = 13.0
    for progress in range(11, 111):
        granted(claims.renew(KEY, A, first, progress, now))
        granted(claims.renew(KEY, B, second, progress, now))
        assert isinstance(more(claims, C, now, SLOW), Wait)
        now += 4.0
    claims.release(KEY, A, first, 0, REASON_DONE, now)
    granted(more(claims, C, now, SLOW))


def test_a_claimant_without_a_byte_is_not_slow(claims: Claims) -> None:
    granted(claims.ask(KEY, A, 0, 0.0))
    assert isinstance(more(claims, B, 9.0, SLOW), Wait)


def test_where_help_was_in_vain_the_next_waits_twice_as_long_each_time() -> None:
    claims = Claims(OWN, EPOCH, PARAMS)
    fence = slow(claims)
    progress, now = 10, 10.0
    granted_at = []
    while now < 1500.0:
        progress += 1
        assert granted(claims.renew(KEY, A, fence, progress, now)).fence == fence
        ruling = more(claims, B, now, SLOW)
        if isinstance(ruling, Granted):
            granted_at.append(now)
            claims.release(KEY, B, ruling.fence, 50, REASON_DONE, now + 0.5)
        now += 1.0
    waits = [later - earlier for earlier, later in pairwise(granted_at)]
    assert waits == [30, 60, 120, 240, 300, 300, 300]


# -- for whatever reason ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [AskReason.NEEDED, LAST_REASON + 1, 255])
def test_no_reason_or_one_of_a_later_release_waits(claims: Claims, reason: int) -> None:
    slow(claims, now=after_ends(claims, 2) + FIRST_S)
    assert isinstance(more(claims, B, 3 * FIRST_S + 15.0, reason), Wait)


@pytest.mark.parametrize("reason", [HELD_LONG, SLOW, 255])
def test_where_no_claim_runs_the_reason_does_not_matter(claims: Claims, reason: int) -> None:
    granted(more(claims, A, 0.0, reason))
    now = FIRST_S
    assert isinstance(more(claims, A, now, reason), Excluded)


def test_while_a_provider_is_known_nothing_more_is_granted(claims: Claims) -> None:
    slow(claims)
    ruling = claims.ask(KEY, B, 0, 12.0, reason=SLOW, is_source_known=True)
    assert isinstance(ruling, Wait)
    granted(more(claims, B, 12.0, SLOW))


def test_the_holder_who_asks_for_more_keeps_his_claim(claims: Claims) -> None:
    fence = slow(claims)
    assert granted(more(claims, A, 12.0, SLOW, 10)).fence == fence
    assert claims.running_count == 1


def test_the_excluded_is_granted_no_more(claims: Claims) -> None:
    now = after_ends(claims, 1)
    assert isinstance(more(claims, host(100), now + 1.0, HELD_LONG), Wait)
    granted(more(claims, B, now + 1.0, HELD_LONG))


def test_while_the_key_is_refused_no_more_is_granted(claims: Claims) -> None:
    now = after_ends(claims, 3)
    for number in range(REFUSALS_COUNT):
        fence = granted(more(claims, host(number), now, HELD_LONG)).fence
        claims.release(KEY, host(number), fence, 0, FAILED, now)
    assert isinstance(more(claims, D, now, HELD_LONG), Wait)
    running = claims.running(KEY, now)
    assert running is not None
    claims.release(KEY, running.holder.contact, running.fence, 0, REASON_DONE, now)
    assert isinstance(more(claims, D, now, HELD_LONG), Refused)


def test_who_holds_too_many_claims_waits() -> None:
    claims = Claims(OWN, EPOCH, Params(claims_per_holder_count=1))
    slow(claims)
    granted(claims.ask(KEY_2, B, 0, 10.0))
    assert isinstance(more(claims, B, 12.0, SLOW), Wait)
    granted(more(claims, C, 12.0, SLOW))


# -- two claims of a key ------------------------------------------------------------------------------------------


def two(claims: Claims) -> tuple[Fence, Fence]:
    """A's, with a progress of 10, and B's, until 22 s."""
    return slow(claims), granted(more(claims, B, 12.0, SLOW)).fence


def waited_for(claims: Claims, now: float) -> Holding:
    ruling = claims.ask(KEY, C, 0, now)
    assert isinstance(ruling, Wait)
    return ruling.running.holder


def test_others_wait_for_the_one_that_is_ahead_and_are_told_of_both(claims: Claims) -> None:
    first, second = two(claims)
    ruling = claims.ask(KEY, C, 0, 12.1)
    assert isinstance(ruling, Wait)
    assert (ruling.running.fence, ruling.running.holder) == (first, Holding(A, 10))
    assert ruling.participants == (Holding(B, 0),)
    granted(claims.renew(KEY, B, second, 10, 13.0))
    assert waited_for(claims, 13.0) == Holding(A, 10), "the older of equals"
    assert granted(claims.renew(KEY, B, second, 11, 13.1)).participants == (Holding(A, 10), Holding(C, 0))
    ruling = claims.ask(KEY, C, 0, 13.1)
    assert isinstance(ruling, Wait)
    assert (ruling.running.fence, ruling.running.holder) == (second, Holding(B, 11))
    assert ruling.participants == (Holding(A, 10),)


def test_each_grows_and_ends_for_itself(claims: Claims) -> None:
    first, second = two(claims)
    assert granted(claims.renew(KEY, A, first, 20, 14.0)).hold_s == pytest.approx(3 * 4.01)
    assert granted(claims.renew(KEY, B, second, 0, 14.0)).hold_s == pytest.approx(FIRST_S - 2.0)
    claims.expire(22.0)
    assert claims.running_count == 1
    assert waited_for(claims, 22.0) == Holding(A, 20)
    assert isinstance(claims.renew(KEY, B, second, 0, 22.0), Lost)


@pytest.mark.parametrize("reason", [REASON_DONE, FAILED])
def test_when_the_first_is_given_back_the_second_is_the_claim(claims: Claims, reason: int) -> None:
    first, second = two(claims)
    claims.release(KEY, A, first, 10, reason, 13.0)
    assert waited_for(claims, 13.0) == Holding(B, 0)
    assert granted(claims.renew(KEY, B, second, 1, 14.0)).fence == second
    claims.release(KEY, B, second, 1, REASON_DONE, 14.0)
    granted(claims.ask(KEY, C, 0, 14.0))


def test_when_the_first_s_time_is_over_the_second_is_the_claim(claims: Claims) -> None:
    _, second = two(claims)
    granted(claims.renew(KEY, B, second, 5, 21.9))
    # A's last growth was at 9.99 and took as long.
    assert waited_for(claims, 39.9) == Holding(A, 10)
    assert waited_for(claims, 40.0) == Holding(B, 5)


@pytest.mark.parametrize(("who", "whose"), [(A, "B"), (B, "A"), (C, "A"), (C, "B")])
def test_nobody_gives_back_the_other_one(claims: Claims, who: Contact, whose: str) -> None:
    first, second = two(claims)
    claims.release(KEY, who, first if whose == "A" else second, 0, FAILED, 13.0)
    assert claims.running_count == 2


def test_all_holders_are_told_before_any_waiter(claims: Claims) -> None:
    now = after_ends(claims, 2)
    for number in range(2 * PARTICIPANTS_COUNT):
        claims.ask(KEY, host(number), 50, now)
    for one in (B, C):
        granted(more(claims, one, now, HELD_LONG))
    seen: set[bytes] = set()
    for _ in range(20):
        ruling = claims.ask(KEY, D, 0, now)
        assert isinstance(ruling, Wait)
        assert ruling.participants[:2] == (Holding(B, 0), Holding(C, 0))
        assert len(ruling.participants) == PARTICIPANTS_COUNT
        seen.update(one.contact.node for one in ruling.participants[2:])
    waiters = {host(number).node for number in range(2 * PARTICIPANTS_COUNT)}
    assert seen == waiters - {B.node, C.node, D.node}, "all waiters have their turn"


# -- other arbiters -----------------------------------------------------------------------------------------------


def test_two_claims_of_one_other_arbiter_are_both_adopted(claims: Claims) -> None:
    beside = Fence(OTHER_ARBITER, FOREIGN.counter + 1)
    granted(claims.renew(KEY, A, FOREIGN, 100, 0.0))
    assert granted(claims.renew(KEY, B, beside, 5, 0.1)).fence == beside
    assert waited_for(claims, 0.2) == Holding(A, 100)
    claims.release(KEY, A, FOREIGN, 100, REASON_DONE, 0.3)
    assert waited_for(claims, 0.4) == Holding(B, 5)


def test_no_more_of_them_than_may_run(claims: Claims) -> None:
    for number in range(PARAMS.claims_per_key_count):
        granted(claims.renew(KEY, host(number), Fence(OTHER_ARBITER, number), 100 - number, 0.0))
    late = Fence(OTHER_ARBITER, 99)
    assert isinstance(claims.renew(KEY, host(50), late, 100, 0.1), Lost)
    assert granted(claims.renew(KEY, host(50), late, 101, 0.1)).fence == late, "the one that is ahead stays"
    assert claims.running_count == PARAMS.claims_per_key_count
    assert isinstance(claims.renew(KEY, host(PARAMS.claims_per_key_count - 1), late, 99, 0.1), Lost)


def test_one_fence_in_two_hands_is_one_claim(claims: Claims) -> None:
    granted(claims.renew(KEY, A, FOREIGN, 100, 0.0))
    assert isinstance(claims.renew(KEY, B, FOREIGN, 5, 0.1), Lost)


def test_two_of_ours_from_before_a_restart_are_both_adopted() -> None:
    before = Claims(OWN, EPOCH, PARAMS)
    first, second = two(before)
    claims = Claims(OWN, EPOCH + 1, PARAMS)
    assert granted(claims.renew(KEY, A, first, 10, 0.0)).fence == first
    assert granted(claims.renew(KEY, B, second, 0, 0.1)).fence == second


def test_one_from_before_our_restart_stands_beside_none_that_was_granted_since() -> None:
    old = granted(Claims(OWN, EPOCH, PARAMS).ask(KEY, A, 0, 0.0)).fence
    claims = Claims(OWN, EPOCH + 1, PARAMS)
    new = granted(claims.ask(KEY, B, 5, 0.0)).fence
    ruling = claims.renew(KEY, A, old, 5, 0.1)
    assert isinstance(ruling, Lost)
    assert ruling.running.fence == new


def test_whom_a_claim_is_adopted_in_place_of_is_the_one_behind(claims: Claims) -> None:
    two(claims)
    granted(claims.renew(KEY, D, FOREIGN, 11, 12.5))
    assert waited_for(claims, 12.5) == Holding(D, 11)
    ruling = claims.ask(KEY, C, 0, 12.5)
    assert isinstance(ruling, Wait)
    assert ruling.participants == (Holding(A, 10), Holding(B, 0)), "B waits now"
    assert claims.running_count == 2


# -- queued -------------------------------------------------------------------------------------------------------


def test_beside_a_queued_claim_one_more_is_granted_for_slowness_and_for_nothing_else(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert isinstance(more(claims, B, 1.0, SLOW), Wait), "it is not known to be queued"
    granted(claims.renew(KEY, A, fence, 0, 1.0, reason=AskReason.QUEUED))
    assert isinstance(more(claims, B, 1.0, HELD_LONG), Wait)
    granted(more(claims, B, 1.0, SLOW))
    assert isinstance(more(claims, C, 1.0, SLOW), Wait)


# -- bounds -------------------------------------------------------------------------------------------------------


def test_a_claim_begun_as_its_key_was_about_to_be_forgotten_is_known() -> None:
    """Whether the asker holds too many is known only after the others' ends were looked at, and with them idle keys."""
    claims = Claims(OWN, EPOCH, Params(claims_per_holder_count=1))
    claims.release(KEY, B, granted(claims.ask(KEY, B, 0, 0.0)).fence, 0, REASON_DONE, 0.0)
    now = PARAMS.claim_forget_s
    granted(claims.ask(KEY_2, A, 0, now - FIRST_S))
    fence = granted(claims.ask(KEY, A, 0, now)).fence
    assert isinstance(claims.ask(KEY, C, 0, now + RETRY_S), Wait)
    claims.release(KEY, A, fence, 0, REASON_DONE, now + RETRY_S)
    assert claims.running_count == 0
