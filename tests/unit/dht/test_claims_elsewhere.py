"""What a node was told of another arbiter's claim, as an asker, is what it answers as an arbiter."""

from __future__ import annotations

import pytest

from dht.claims.claims import Claims
from dht.claims.elsewhere import TOLD_MAX_COUNT
from dht.claims.rulings import (
    Excluded,
    Granted,
    Holding,
    Lost,
    NotJoined,
    Pending,
    Redirect,
    Ruling,
    Running,
    Wait,
)
from dht.wire.codec import AskReason, Fence
from tests.support.claim_hosts import (
    EPOCH,
    FOREIGN,
    KEY,
    KEY_2,
    OTHER_ARBITER,
    OWN,
    PARAMS,
    A,
    B,
    C,
    granted,
    host,
)

NEARER = OTHER_ARBITER
HERE = host(77)
RUNNING = Running(FOREIGN, Holding(A, 9))
FRESH_S = PARAMS.claim_elsewhere_s


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


def told(claims: Claims, ruling: Ruling, now: float = 0.0, arbiter: bytes = NEARER) -> None:
    claims.elsewhere.told(KEY, arbiter, ruling, HERE, 5, now)


@pytest.mark.parametrize(
    "ruling", [Wait(RUNNING, 1.0, ()), Lost(RUNNING, 1.0, ())], ids=lambda one: type(one).__name__
)
def test_whoever_passed_the_arbiter_over_is_told_of_its_claim(claims: Claims, ruling: Ruling) -> None:
    told(claims, ruling)
    assert claims.ask(KEY, B, 0, 0.1) == Wait(RUNNING, PARAMS.claim_wait_retry_s, ())
    second = claims.ask(KEY, C, 0, 0.2)
    assert isinstance(second, Wait)
    assert second.participants == (Holding(B, 0),), "and of who waits, too"


def test_of_the_own_node_s_claim_it_tells_as_well(claims: Claims) -> None:
    told(claims, Granted(FOREIGN, 10.0, ()))
    assert claims.ask(KEY, B, 0, 0.1) == Wait(
        Running(FOREIGN, Holding(HERE, 5)), PARAMS.claim_wait_retry_s, ()
    )


def test_the_own_claim_is_known_for_as_long_as_it_holds(claims: Claims) -> None:
    told(claims, Granted(FOREIGN, FRESH_S + 5, ()))
    assert isinstance(claims.ask(KEY, B, 0, FRESH_S + 4.9), Wait)
    granted(claims.ask(KEY, B, 0, FRESH_S + 5))


def test_it_is_believed_for_some_seconds_only(claims: Claims) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    assert isinstance(claims.ask(KEY, B, 0, FRESH_S - 0.1), Wait)
    granted(claims.ask(KEY, B, 0, FRESH_S))


@pytest.mark.parametrize("ruling", [Pending(1.0, ()), Excluded(10.0)], ids=lambda one: type(one).__name__)
def test_another_word_of_the_arbiter_ends_it(claims: Claims, ruling: Ruling) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    told(claims, ruling, 0.1)
    granted(claims.ask(KEY, B, 0, 0.2))


@pytest.mark.parametrize(
    "ruling", [Redirect(()), NotJoined(1.0), Wait(RUNNING, 1.0, ())], ids=lambda one: type(one).__name__
)
def test_what_a_third_node_says_changes_nothing(claims: Claims, ruling: Ruling) -> None:
    """It was asked because the arbiter was late."""
    told(claims, Wait(RUNNING, 1.0, ()))
    told(claims, ruling, 0.1, arbiter=b"\x05" * 20)
    assert isinstance(claims.ask(KEY, B, 0, 0.2), Wait)


def test_a_claim_that_was_given_back_is_told_of_no_more(claims: Claims) -> None:
    told(claims, Granted(FOREIGN, 10.0, ()))
    claims.elsewhere.given_back(KEY, Fence(NEARER, FOREIGN.counter + 1))
    assert isinstance(claims.ask(KEY, B, 0, 0.1), Wait), "that was another"
    claims.elsewhere.given_back(KEY, FOREIGN)
    granted(claims.ask(KEY, B, 0, 0.2))


def test_what_is_repeated_is_not_kept(claims: Claims) -> None:
    """Or two nodes would tell each other for ever of a claim that ended."""
    told(claims, Wait(RUNNING, 1.0, ()), arbiter=b"\x05" * 20)
    told(claims, Wait(RUNNING, 1.0, ()), arbiter=OWN)
    granted(claims.ask(KEY, B, 0, 0.1))


def test_the_holder_itself_is_not_told_to_wait_for_itself(claims: Claims) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    granted(claims.ask(KEY, A, 9, 0.1))


def test_the_holder_s_renewal_is_adopted(claims: Claims) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    claims.ask(KEY, B, 0, 0.1)
    assert granted(claims.renew(KEY, A, FOREIGN, 10, 0.2)).fence == FOREIGN


def test_whoever_says_why_he_needs_one_more_is_granted_it(claims: Claims) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    granted(claims.ask(KEY, B, 0, 0.1, reason=AskReason.HELD_LONG))


def test_it_is_bounded(claims: Claims) -> None:
    told(claims, Wait(RUNNING, 1.0, ()))
    for number in range(TOLD_MAX_COUNT):
        key = number.to_bytes(20, "big")
        claims.elsewhere.told(key, NEARER, Wait(RUNNING, 1.0, ()), HERE, 0, 0.0)
    assert len(claims.elsewhere) == TOLD_MAX_COUNT
    granted(claims.ask(KEY, B, 0, 0.1))
    granted(claims.ask(KEY_2, B, 0, 0.1))
