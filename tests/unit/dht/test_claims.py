"""What an arbiter answers, step by step: grants, fences, how long a claim holds, other arbiters."""

from __future__ import annotations

import msgspec
import pytest

from dht.claims.claims import COUNTER_BITS, REASON_DONE, Claims
from dht.claims.rulings import (
    Full,
    Granted,
    Holding,
    Lost,
    Pending,
    Released,
    Wait,
)
from dht.claims.waiters import PARTICIPANTS_COUNT
from dht.contacts import EPOCH_MAX, Contact
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
    granted,
    host,
)


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


# -- asking -------------------------------------------------------------------------------------------------------


def test_the_first_asker_is_granted_and_the_second_waits_for_him(claims: Claims) -> None:
    first = granted(claims.ask(KEY, A, 0, 0.0))
    assert first == Granted(Fence(OWN, (EPOCH << COUNTER_BITS) + 1), FIRST_S, ())
    second = claims.ask(KEY, B, 5, 1.0)
    assert isinstance(second, Wait)
    assert second.running.fence == first.fence
    assert second.running.holder == Holding(A, 0)
    assert second.again_s == RETRY_S
    assert second.participants == (), "neither the holder nor the asker"


def test_waiters_are_told_of_each_other(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, B, 5, 0.0)
    ruling = claims.ask(KEY, C, 0, 0.1)
    assert isinstance(ruling, Wait)
    assert ruling.participants == (Holding(B, 5),)
    assert granted(claims.ask(KEY, A, 0, 0.2)).participants in [
        (Holding(B, 5), Holding(C, 0)),
        (Holding(C, 0), Holding(B, 5)),
    ]


def test_a_waiter_that_asked_no_more_is_not_named(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, B, 5, 0.0)
    ruling = claims.ask(KEY, C, 0, 2 * RETRY_S + 0.1)
    assert isinstance(ruling, Wait)
    assert ruling.participants == ()


def test_the_sample_of_many_waiters_goes_round(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    hosts = [host(number) for number in range(5, 5 + 3 * PARTICIPANTS_COUNT)]
    for one in hosts:
        claims.ask(KEY, one, 0, 0.0)
    seen: set[bytes] = set()
    for _ in range(2 * len(hosts)):
        ruling = claims.ask(KEY, B, 0, 0.5)
        assert isinstance(ruling, Wait)
        assert len(ruling.participants) == PARTICIPANTS_COUNT
        seen.update(one.contact.node for one in ruling.participants)
    assert seen == {one.node for one in hosts}


def test_the_holder_that_asks_again_keeps_his_claim_and_his_time(claims: Claims) -> None:
    first = granted(claims.ask(KEY, A, 0, 0.0))
    again = granted(claims.ask(KEY, A, 0, 4.0))
    assert (again.fence, again.hold_s) == (first.fence, FIRST_S - 4.0)


def test_a_holder_that_began_anew_counts_from_where_he_is(claims: Claims) -> None:
    """containerd deletes its ingest when a pull is cancelled: the retry starts at nothing."""
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.renew(KEY, A, fence, 100, 1.0)
    claims.ask(KEY, A, 0, 2.0)
    ruling = claims.ask(KEY, B, 0, 2.0)
    assert isinstance(ruling, Wait)
    assert ruling.running.holder.progress == 0
    assert granted(claims.renew(KEY, A, fence, 1, 3.0)).hold_s > 4.0


def test_keys_are_independent(claims: Claims) -> None:
    assert granted(claims.ask(KEY, A, 0, 0.0)).fence != granted(claims.ask(KEY_2, B, 0, 0.0)).fence


def test_where_a_provider_is_known_nothing_is_granted_and_askers_are_told_of_each_other(
    claims: Claims,
) -> None:
    """A provider has no room for all of a herd."""
    assert claims.ask(KEY, A, 0, 0.0, is_source_known=True) == Pending(RETRY_S, ())
    assert claims.ask(KEY, B, 3, 0.1, is_source_known=True) == Pending(RETRY_S, (Holding(A, 0),))
    assert claims.running_count == 0
    granted(claims.ask(KEY, A, 0, 0.2))
    assert isinstance(claims.ask(KEY, B, 0, 0.0, is_source_known=True), Wait), "a running claim is told"


# -- the fence ----------------------------------------------------------------------------------------------------


def test_the_counter_rises_over_keys_ends_and_restarts(claims: Claims) -> None:
    counters = []
    for number in range(3):
        fence = granted(claims.ask(KEY, A, 0, float(number))).fence
        claims.release(KEY, A, fence, 0, REASON_DONE, float(number))
        counters.append(fence.counter)
    restarted = Claims(OWN, EPOCH + 1, PARAMS)
    counters.append(granted(restarted.ask(KEY, A, 0, 0.0)).fence.counter)
    assert counters == sorted(set(counters))


def test_the_last_epoch_s_counters_fit_the_wire() -> None:
    claims = Claims(OWN, EPOCH_MAX, PARAMS)
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    last = Fence(OWN, fence.counter | (1 << COUNTER_BITS) - 1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(last), type=Fence) == last


# -- how long it holds --------------------------------------------------------------------------------------------


def test_without_progress_it_holds_for_the_first_time_and_no_renewal_lengthens_it(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert granted(claims.renew(KEY, A, fence, 0, 9.0)).hold_s == pytest.approx(1.0)
    assert claims.running(KEY, FIRST_S - 0.001) is not None
    assert claims.running(KEY, FIRST_S) is None
    assert granted(claims.ask(KEY, B, 0, FIRST_S)).fence.counter == fence.counter + 1


def renewed_as_queued(claims: Claims, fence: Fence, now: float, progress: int = 0) -> Granted:
    return granted(claims.renew(KEY, A, fence, progress, now, reason=AskReason.QUEUED))


def test_while_its_holder_is_busy_with_others_it_holds_longer_and_not_for_ever(claims: Claims) -> None:
    """containerd 2.1 takes up all layers of an image at once, and reads three at a time."""
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    now = 0.0
    while now + FIRST_S < PARAMS.claim_queued_max_s:
        now += FIRST_S - 1.0
        hold_s = renewed_as_queued(claims, fence, now).hold_s
        assert hold_s == pytest.approx(min(FIRST_S, PARAMS.claim_queued_max_s - now))
        assert isinstance(claims.ask(KEY, B, 0, now), Wait)
    renewed_as_queued(claims, fence, PARAMS.claim_queued_max_s - 0.001)
    assert claims.running(KEY, PARAMS.claim_queued_max_s) is None
    granted(claims.ask(KEY, B, 0, PARAMS.claim_queued_max_s))


def test_one_that_stands_while_its_holder_is_busy_with_others_holds_a_little_longer(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    renewed_as_queued(claims, fence, 1.0, 1)
    for now in range(2, 16):
        hold_s = renewed_as_queued(claims, fence, float(now), 1).hold_s
        assert hold_s == pytest.approx(
            min(PARAMS.claim_progress_min_s, 1.0 + PARAMS.claim_standing_max_s - now)
        )
    ends_at = 1.0 + PARAMS.claim_standing_max_s
    assert claims.running(KEY, ends_at - 0.001) is not None
    assert claims.running(KEY, ends_at) is None


def test_a_queued_one_that_begins_holds_as_any_other(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    renewed_as_queued(claims, fence, 9.0)
    assert renewed_as_queued(claims, fence, 18.0, 1).hold_s == pytest.approx(3 * 9.0)
    assert renewed_as_queued(claims, fence, 19.0, 1).hold_s == pytest.approx(3 * 9.0 - 1.0), "it was begun"


@pytest.mark.parametrize(
    ("grown_after_s", "hold_s"),
    [
        (0.5, PARAMS.claim_progress_min_s),
        (1.6, PARAMS.claim_progress_min_s),
        # containerd's ingest at 200 KB/s: 1 MiB every 5.35 s.
        (5.35, 3 * 5.35),
        (9.9, 3 * 9.9),
    ],
)
def test_growth_makes_it_hold_as_long_as_the_steps_demand(
    claims: Claims, grown_after_s: float, hold_s: float
) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    ruling = granted(claims.renew(KEY, A, fence, 1, grown_after_s))
    assert ruling.fence == fence
    assert ruling.hold_s == pytest.approx(hold_s)


def test_ever_longer_steps_do_not_hold_it_for_ever(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    now = 0.0
    for progress in range(1, 6):
        hold_s = granted(claims.renew(KEY, A, fence, progress, now + 9.9)).hold_s
        now += 9.9 + hold_s - 0.1
        hold_s = granted(claims.renew(KEY, A, fence, progress + 10**progress, now)).hold_s
        assert hold_s == pytest.approx(PARAMS.claim_step_factor * FIRST_S)


def test_progress_that_does_not_grow_is_no_progress(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 50, 0.0)).fence
    assert granted(claims.renew(KEY, A, fence, 50, 5.0)).hold_s == pytest.approx(5.0)
    assert granted(claims.renew(KEY, A, fence, 49, 6.0)).hold_s == pytest.approx(4.0)


# -- renewing and releasing ---------------------------------------------------------------------------------------


def test_a_fence_that_another_grant_followed_is_lost(claims: Claims) -> None:
    old = granted(claims.ask(KEY, A, 0, 0.0)).fence
    new = granted(claims.ask(KEY, B, 0, FIRST_S)).fence
    ruling = claims.renew(KEY, A, old, 10**9, FIRST_S + 1)
    assert isinstance(ruling, Lost)
    assert ruling.running.fence == new
    assert ruling.running.holder == Holding(B, 0)
    assert granted(claims.renew(KEY, B, new, 1, FIRST_S + 1)).participants == (Holding(A, 10**9),)


def test_an_old_fence_revives_nothing_once_its_successor_ended(claims: Claims) -> None:
    old = granted(claims.ask(KEY, A, 0, 0.0)).fence
    new = granted(claims.ask(KEY, B, 0, FIRST_S)).fence
    claims.release(KEY, B, new, 0, REASON_DONE, FIRST_S)
    ruling = claims.renew(KEY, A, old, 5, FIRST_S + PARAMS.claim_exclude_start_s)
    assert granted(ruling).fence.counter > new.counter, "a grant of its own"


def test_a_forged_fence_of_our_own_is_no_claim(claims: Claims) -> None:
    forged = Fence(OWN, (EPOCH << COUNTER_BITS) + 10**6)
    fence = granted(claims.renew(KEY, A, forged, 5, 0.0)).fence
    assert fence.counter == (EPOCH << COUNTER_BITS) + 1
    assert isinstance(claims.renew(KEY, B, forged, 10, 0.0), Lost)


@pytest.mark.parametrize(("who", "fence_add"), [(B, 0), (A, 1)], ids=["another's", "another fence"])
def test_only_the_holder_gives_back_what_he_holds(claims: Claims, who: Contact, fence_add: int) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert claims.release(KEY, who, Fence(OWN, fence.counter + fence_add), 0, FAILED, 1.0) == Released()
    assert claims.running(KEY, 1.0) is not None


def test_giving_back_what_nobody_knows_is_answered(claims: Claims) -> None:
    assert claims.release(KEY, A, FOREIGN, 0, FAILED, 0.0) == Released()
    assert len(claims) == 0


# -- other arbiters -----------------------------------------------------------------------------------------------


def test_a_claim_of_another_arbiter_is_adopted_and_keeps_its_fence(claims: Claims) -> None:
    ruling = granted(claims.renew(KEY, A, FOREIGN, 100, 0.0))
    assert (ruling.fence, ruling.hold_s) == (FOREIGN, PARAMS.claim_progress_min_s)
    assert isinstance(claims.ask(KEY, B, 0, 0.0), Wait)
    assert granted(claims.renew(KEY, A, FOREIGN, 101, 1.0)).fence == FOREIGN
    claims.release(KEY, A, FOREIGN, 101, REASON_DONE, 2.0)
    assert granted(claims.ask(KEY, B, 0, 2.0)).fence.arbiter == OWN


def test_a_claim_from_before_our_restart_is_adopted() -> None:
    fence = granted(Claims(OWN, EPOCH, PARAMS).ask(KEY, A, 0, 0.0)).fence
    restarted = Claims(OWN, EPOCH + 1, PARAMS)
    assert granted(restarted.renew(KEY, A, fence, 0, 0.0)).fence == fence


def test_of_two_claims_the_one_that_is_ahead_stays(claims: Claims) -> None:
    own = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.renew(KEY, A, own, 50, 1.0)
    assert isinstance(claims.renew(KEY, B, FOREIGN, 50, 1.0), Lost)
    adopted = granted(claims.renew(KEY, B, FOREIGN, 51, 1.1))
    assert (adopted.fence, adopted.participants) == (FOREIGN, (Holding(A, 50),))
    ruling = claims.renew(KEY, A, own, 60, 1.2)
    assert isinstance(ruling, Lost)
    assert ruling.running.holder == Holding(B, 51)


def test_a_claim_that_cannot_be_adopted_ends_no_other(claims: Claims) -> None:
    claims = Claims(OWN, EPOCH, Params(claims_per_holder_count=1))
    granted(claims.ask(KEY_2, B, 0, 0.0))
    own = granted(claims.ask(KEY, A, 0, 0.0)).fence
    assert isinstance(claims.renew(KEY, B, FOREIGN, 51, 0.1), Full)
    assert granted(claims.renew(KEY, A, own, 1, 0.1)).fence == own


def test_a_waiter_s_word_of_a_claim_elsewhere_is_waited_for(claims: Claims) -> None:
    """The arbiter died: a waiter comes to the next one before the holder does."""
    assert claims.ask(KEY, B, 0, 0.0, known=FOREIGN) == Pending(RETRY_S, ())
    assert isinstance(claims.ask(KEY, C, 0, 0.5), Pending), "also whoever knows of none"
    assert granted(claims.renew(KEY, A, FOREIGN, 10, 0.9)).fence == FOREIGN
    assert isinstance(claims.ask(KEY, B, 0, 1.0, known=FOREIGN), Wait)


def test_a_holder_that_died_with_his_arbiter_is_waited_for_once(claims: Claims) -> None:
    claims.ask(KEY, B, 0, 0.0, known=FOREIGN)
    claims.ask(KEY, C, 0, 1.0, known=Fence(OTHER_ARBITER, 78))
    granted(claims.ask(KEY, B, 0, 2 * RETRY_S, known=FOREIGN))


def test_a_claim_that_ended_here_is_not_waited_for(claims: Claims) -> None:
    claims.renew(KEY, A, FOREIGN, 10, 0.0)
    granted(claims.ask(KEY, B, 10, PARAMS.claim_progress_min_s, known=FOREIGN))


def test_our_own_fence_is_not_waited_for(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, fence, 0, REASON_DONE, 1.0)
    granted(claims.ask(KEY, B, 0, 1.0, known=fence))


def test_an_older_fence_of_our_own_is_not_waited_for(claims: Claims) -> None:
    older = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, older, 0, REASON_DONE, 0.0)
    claims.release(KEY, A, granted(claims.ask(KEY, A, 0, 0.0)).fence, 0, REASON_DONE, 0.0)
    granted(claims.ask(KEY, B, 0, 1.0, known=older))


def test_after_a_claim_another_one_elsewhere_is_waited_for_again(claims: Claims) -> None:
    claims.ask(KEY, B, 0, 0.0, known=FOREIGN)
    claims.renew(KEY, A, FOREIGN, 10, 0.5)
    claims.release(KEY, A, FOREIGN, 10, REASON_DONE, 1.0)
    later = Fence(OTHER_ARBITER, 99)
    assert isinstance(claims.ask(KEY, C, 0, 20.0, known=later), Pending)


def test_an_ended_fence_in_other_hands_is_no_claim(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.release(KEY, A, fence, 0, REASON_DONE, 1.0)
    assert granted(claims.renew(KEY, B, fence, 10, 1.0)).fence != fence
