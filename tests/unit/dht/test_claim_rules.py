"""Whether a node rules on a claim or sends the asker on."""

from __future__ import annotations

import pytest

from dht.claims.claims import REASON_WHOLE, Claims
from dht.claims.rules import CLOSER_NAMED_COUNT, judge
from dht.claims.rulings import (
    Granted,
    Lost,
    NotJoined,
    Pending,
    Redirect,
    Released,
    Wait,
)
from dht.contacts import Contact
from dht.errors import FrameInvalid
from dht.wire.codec import AskReason, Claim, Fence, Verb
from tests.support.claim_hosts import (
    EPOCH,
    FIRST_S,
    FOREIGN,
    KEY,
    OWN,
    PARAMS,
    A,
    B,
    C,
    D,
    granted,
)


@pytest.fixture
def claims() -> Claims:
    return Claims(OWN, EPOCH, PARAMS)


# -- who rules ----------------------------------------------------------------------------------------------------


def ask(
    *passed_over: Contact,
    verb: Verb = Verb.ASK,
    fence: Fence | None = None,
    progress: int = 0,
    reason: int = AskReason.NEEDED,
    want: int = 16,
) -> Claim:
    return Claim(KEY, verb, want, progress, fence, [one.node for one in passed_over], reason)


def test_a_nearer_member_is_named_instead_of_granting(claims: Claims) -> None:
    ruling = judge(claims, ask(), A, [B, C, D], 0.0, is_joined=True)
    assert ruling == Redirect((B, C))
    assert CLOSER_NAMED_COUNT == 2
    assert len(claims) == 0


def test_whoever_was_passed_over_is_not_named(claims: Claims) -> None:
    assert judge(claims, ask(B), A, [B, C], 0.0, is_joined=True) == Redirect((C,))
    granted(judge(claims, ask(B, C), A, [B, C], 0.0, is_joined=True))


def test_the_asker_is_not_sent_to_himself(claims: Claims) -> None:
    granted(judge(claims, ask(), A, [A], 0.0, is_joined=True))


def test_a_member_without_an_address_is_not_named(claims: Claims) -> None:
    granted(judge(claims, ask(), A, [Contact(B.node, 1, (), b"")], 0.0, is_joined=True))


def test_before_it_has_joined_a_node_never_grants(claims: Claims) -> None:
    assert isinstance(judge(claims, ask(), A, [], 0.0, is_joined=False), NotJoined)
    renewal = ask(verb=Verb.RENEW, fence=FOREIGN)
    assert isinstance(judge(claims, renewal, A, [], 0.0, is_joined=False), NotJoined)
    assert len(claims) == 0


def test_a_known_provider_makes_the_claim_needless(claims: Claims) -> None:
    assert isinstance(judge(claims, ask(), A, [], 0.0, is_joined=True, is_source_known=True), Pending)


def test_a_holder_sent_elsewhere_is_not_excluded_here(claims: Claims) -> None:
    fence = granted(judge(claims, ask(B), A, [B], 0.0, is_joined=True)).fence
    renewal = ask(verb=Verb.RENEW, fence=fence)
    assert judge(claims, renewal, A, [B], 1.0, is_joined=True) == Redirect((B,))
    assert isinstance(claims.ask(KEY, C, 0, 2.0), Wait), "until its time is over"
    granted(claims.ask(KEY, A, 0, FIRST_S))


def test_a_release_is_taken_whoever_is_nearer(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    given_back = ask(verb=Verb.RELEASE, fence=fence)
    assert judge(claims, given_back, A, [B], 0.0, is_joined=False) == Released()
    assert claims.running(KEY, 0.0) is None


def test_a_waiter_s_fence_reaches_the_claims(claims: Claims) -> None:
    assert isinstance(judge(claims, ask(fence=FOREIGN), A, [], 0.0, is_joined=True), Pending)


def test_that_the_holder_is_busy_with_others_reaches_the_claims(claims: Claims) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    renewal = ask(verb=Verb.RENEW, fence=fence, reason=AskReason.QUEUED)
    ruling = granted(judge(claims, renewal, A, [], 9.0, is_joined=True))
    assert ruling.hold_s == pytest.approx(FIRST_S)


@pytest.mark.parametrize("verb", [Verb.ASK, Verb.RENEW])
def test_the_reason_of_an_ask_reaches_the_claims_and_of_a_renewal_does_not(
    claims: Claims, verb: Verb
) -> None:
    fence = granted(claims.ask(KEY, A, 0, 0.0)).fence
    granted(claims.renew(KEY, A, fence, 1, 1.0))
    ruling = judge(
        claims, ask(verb=verb, fence=fence, reason=AskReason.SLOW_CLAIMANT), B, [], 2.0, is_joined=True
    )
    assert isinstance(ruling, Granted if verb is Verb.ASK else Lost)


@pytest.mark.parametrize(
    "request_",
    [ask(verb=Verb.RENEW), ask(verb=Verb.RELEASE), Claim(KEY, 3, 0)],
    ids=["renew without a fence", "release without a fence", "unknown verb"],
)
def test_what_no_asker_sends_is_refused(claims: Claims, request_: Claim) -> None:
    with pytest.raises(FrameInvalid):
        judge(claims, request_, A, [], 0.0, is_joined=True)


def test_whoever_wants_no_sources_any_more_is_not_sent_to_one_that_lately_had_it_whole(
    claims: Claims,
) -> None:
    fence = granted(judge(claims, ask(), A, [], 0.0, is_joined=True)).fence
    judge(claims, ask(verb=Verb.RELEASE, fence=fence, reason=REASON_WHOLE), A, [], 1.0, is_joined=True)
    assert isinstance(judge(claims, ask(), B, [], 1.1, is_joined=True), Pending)
    granted(judge(claims, ask(want=0), B, [], 1.2, is_joined=True))
