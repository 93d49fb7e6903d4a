"""What an arbiter forgets, and what it does when there is no room."""

from __future__ import annotations

import pytest

from dht.claims.claims import REASON_DONE, Claims
from dht.claims.rulings import (
    Excluded,
    Full,
    Pending,
    Wait,
)
from dht.claims.waiters import WAITERS_MAX_COUNT
from dht.contacts import Contact
from dht.params import Params
from tests.support.claim_hosts import (
    EPOCH,
    FAILED,
    FIRST_S,
    FOREIGN,
    KEY,
    KEY_2,
    OWN,
    PARAMS,
    A,
    B,
    granted,
    host,
)


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


def test_a_key_is_forgotten_after_its_last_event(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.ask(KEY, B, 0, 1.0)
    claims.release(KEY, A, fence, 0, REASON_DONE, 2.0)
    assert claims.expire(1.9 + PARAMS.claim_forget_s) == 0
    assert (len(claims), claims.waiters_count) == (1, 1)
    assert claims.expire(2.0 + PARAMS.claim_forget_s) == 1
    assert (len(claims), claims.running_count, claims.waiters_count) == (0, 0, 0)
    assert claims.next_due() is None


def test_an_exclusion_outlives_the_forgetting(claims: Claims) -> None:
    now = 0.0
    for again_s in (10, 20, 40, 80, 160):
        granted(claims.ask(KEY, A, 0, now))
        now += FIRST_S
        assert claims.ask(KEY, A, 0, now) == Excluded(again_s)
        now += again_s
    granted(claims.ask(KEY, A, 0, now))
    now += FIRST_S + 299.0
    claims.expire(now)
    ruling = claims.ask(KEY, A, 0, now)
    assert isinstance(ruling, Excluded)
    assert ruling.again_s == pytest.approx(1.0)


def test_ends_that_nobody_asked_about_are_noticed(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    assert claims.running_count == 1
    due_at = claims.next_due()
    assert due_at == FIRST_S
    claims.expire(due_at)
    assert claims.running_count == 0


def test_a_renewed_claim_is_not_ended_at_its_first_time(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    claims.renew(KEY, A, fence, 1, 9.0)
    claims.expire(FIRST_S)
    assert claims.running(KEY, FIRST_S) is not None
    claims.expire(9.0 + 27.0)
    assert claims.running_count == 0


def test_one_holder_cannot_take_every_claim() -> None:
    claims = Claims(OWN, EPOCH, Params(claims_per_holder_count=3))
    keys = [bytes([number]) * 20 for number in range(4)]
    for key in keys[:3]:
        granted(claims.ask(key, A, 0, 0.0))
    assert isinstance(claims.ask(keys[3], A, 0, 0.0), Full)
    granted(claims.ask(keys[3], B, 0, 0.0))
    granted(claims.ask(bytes([9]) * 20, A, 0, FIRST_S)), "what ended is not counted"


def test_keys_that_run_are_not_pushed_out_and_idle_ones_are() -> None:
    claims = Claims(OWN, EPOCH, Params(claims_max_count=3))
    keys = [bytes([number]) * 20 for number in range(5)]
    fences = [granted(claims.ask(key, A, 0, 0.0)).fence for key in keys[:3]]
    assert isinstance(claims.ask(keys[3], B, 0, 0.0), Full)
    assert isinstance(claims.renew(keys[3], B, FOREIGN, 1, 0.0), Full)
    assert isinstance(claims.ask(keys[0], B, 0, 0.0), Wait)
    claims.release(keys[2], A, fences[2], 0, REASON_DONE, 0.0)
    granted(claims.ask(keys[3], B, 0, 0.0))
    assert len(claims) == 3
    assert claims.running(keys[0], 0.0) is not None


def test_whoever_is_told_of_a_provider_needs_no_room() -> None:
    claims = Claims(OWN, EPOCH, Params(claims_max_count=1))
    granted(claims.ask(KEY, A, 0, 0.0))
    assert claims.ask(KEY_2, B, 0, 0.0, is_source_known=True) == Pending(PARAMS.claim_wait_retry_s, ())
    assert isinstance(claims.ask(KEY_2, B, 0, 0.0), Full)


def test_the_longest_idle_key_makes_room() -> None:
    claims = Claims(OWN, EPOCH, Params(claims_max_count=2))
    keys = [bytes([number]) * 20 for number in range(3)]
    for key in keys[:2]:
        claims.release(key, A, granted(claims.ask(key, A, 0, 0.0)).fence, 0, FAILED, 0.0)
    granted(claims.ask(keys[2], B, 0, 1.0))
    assert isinstance(claims.ask(keys[1], A, 0, 1.0), Excluded)
    assert len(claims) == 2


def test_what_is_to_be_looked_at_does_not_pile_up(claims: Claims) -> None:
    now = 0.0
    for number in range(300):
        fence = granted(claims.ask(KEY, A, number, now)).fence
        claims.renew(KEY, A, fence, number + 1, now + 0.1)
        claims.release(KEY, A, fence, number + 1, REASON_DONE, now + 0.2)
        now += 3.0
        claims.expire(now)
    assert len(claims._due) <= 15, "one a key, and those that came to nothing in the last minute"


def test_waiters_of_all_keys_together_are_bounded(claims: Claims) -> None:
    hosts = [host(number) for number in range(5, 5 + PARAMS.claim_waiters_count)]
    keys_count = WAITERS_MAX_COUNT // len(hosts) + 2
    for number in range(keys_count):
        key = number.to_bytes(20, "big")
        claims.ask(key, Contact(key, 1, (), b""), 0, 0.0)
        for one in hosts:
            assert isinstance(claims.ask(key, one, 0, 0.0), Wait)
    assert claims.waiters_count == WAITERS_MAX_COUNT


def test_a_waiter_that_is_granted_waits_no_more(claims: Claims) -> None:
    claims.ask(KEY, A, 0, 0.0)
    claims.ask(KEY, B, 0, 9.5)
    assert claims.waiters_count == 1
    granted(claims.ask(KEY, B, 0, FIRST_S))
    assert claims.waiters_count == 0


def test_waiters_are_bounded_and_those_ahead_are_kept() -> None:
    params = Params(claim_waiters_count=4)
    claims = Claims(OWN, EPOCH, params)
    claims.ask(KEY, A, 0, 0.0)
    for number in range(10, 20):
        assert isinstance(claims.ask(KEY, host(number), number, 0.0), Wait)
    assert claims.waiters_count == 4
    ruling = claims.ask(KEY, B, 0, 0.1)
    assert isinstance(ruling, Wait)
    assert {one.progress for one in ruling.participants} == {16, 17, 18, 19}
    for number in (30, 31, 32, 33):
        claims.ask(KEY, host(number), 0, 5.0)
    ruling = claims.ask(KEY, B, 0, 5.0)
    assert isinstance(ruling, Wait)
    assert {one.contact for one in ruling.participants} == {host(number) for number in (31, 32, 33)}, (
        "who asks takes the place of the one remembered longest"
    )


def test_a_herd_larger_than_the_memory_is_told_of_in_turns() -> None:
    """All are equally far, and ask every second: each is told of others than the first few that asked."""
    claims = Claims(OWN, EPOCH, Params(claim_waiters_count=8))
    claims.ask(KEY, A, 0, 0.0)
    herd = [host(number) for number in range(10, 60)]
    told: set[bytes] = set()
    for second in range(3):
        for one in herd:
            ruling = claims.ask(KEY, one, 0, float(second))
            assert isinstance(ruling, Wait)
            told |= {other.contact.node for other in ruling.participants}
    assert claims.waiters_count == 8
    assert told >= {one.node for one in herd}


def test_exclusions_are_bounded() -> None:
    claims = Claims(OWN, EPOCH, Params(claim_waiters_count=4))
    for number in range(10):
        one = host(number)
        fence = granted(claims.ask(KEY, one, 1, float(number))).fence
        claims.renew(KEY, one, fence, 2, float(number))
        claims.release(KEY, one, fence, 2, FAILED, float(number))
    for number in (9, 8, 7, 6):
        assert isinstance(claims.ask(KEY, host(number), 1, 9.5), Excluded)
    granted(claims.ask(KEY, host(5), 1, 9.5))
