"""The fallback host: a request there says that the origin failed this host, and a 404 there ends the pull."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason, ReleaseReason
from mirror.steer.events import RefusalKind
from mirror.steer.ingest import GROWING_S
from mirror.steer.ladder import State
from mirror.steer.refusals import counts, may_be_fed
from mirror.steer.rulings import Excluded, Refused
from mirror.steer.timers import FALLBACK_MAX_S, NOBODY_S, STEERED_FRESH_S
from tests.support.steer_host import FENCE, GRANTED, MIB, PROVIDER, UNRULED, WAIT, SteerHost

EXCLUDED = Excluded(10.0)
REFUSED = Refused(10.0)


@pytest.fixture
def host() -> SteerHost:
    return SteerHost()


def claimed(host: SteerHost) -> None:
    host.ask()
    host.rule(GRANTED)


def refusals(host: SteerHost) -> int:
    return sum(one.reason is ReleaseReason.REFUSED for one in host.of(do.ReleaseClaim))


# -- what counts as a refusal -------------------------------------------------------------------------------------


def test_a_refusal_gives_the_claim_back_and_the_request_waits_for_the_next(host: SteerHost) -> None:
    claimed(host)
    request = host.ask(fallback=True)
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 0, ReleaseReason.REFUSED)]
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert question.reason is AskReason.FALLBACK_ONLY
    host.rule(EXCLUDED)
    host.pass_(1.0)
    host.rule(WAIT)
    assert host.was_fed(request), "another host's claim feeds it"


@pytest.mark.parametrize(("after_s", "counted"), [(STEERED_FRESH_S - 1, 1), (STEERED_FRESH_S + 1, 0)])
def test_a_refusal_counts_while_the_404_is_fresh(host: SteerHost, after_s: float, counted: int) -> None:
    claimed(host)
    host.pass_ruled(after_s, GRANTED)
    host.ask(fallback=True)
    assert refusals(host) == counted


def test_a_refusal_counts_only_for_a_digest_that_this_host_was_steered_on(host: SteerHost) -> None:
    host.ask(fallback=True)
    assert refusals(host) == 0


def test_a_growing_ingest_is_fed_and_no_refusal(host: SteerHost) -> None:
    """Anybody on the host may ask there."""
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    request = host.ask(fallback=True)
    assert refusals(host) == 0
    assert host.was_fed(request)
    assert host.state() is State.CLAIMED


def test_an_ingest_that_stopped_growing_does_not_hide_a_refusal(host: SteerHost) -> None:
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    host.pass_ruled(4.0, GRANTED)
    host.ask(start=MIB, fallback=True)
    assert refusals(host) == 1


def test_an_origin_that_is_lost_on_the_way_is_a_refusal_once_the_ingest_stands_still(host: SteerHost) -> None:
    """The request comes within milliseconds of the last growth."""
    claimed(host)
    host.tell(on.IngestGrew(MIB))
    host.ask(start=MIB, fallback=True)
    host.pass_ruled(GROWING_S - 0.1, GRANTED)
    assert refusals(host) == 0
    assert host.ladder.is_fed_from_origin
    host.pass_(0.2)
    assert refusals(host) == 1
    assert not host.ladder.is_fed_from_origin, "nobody is to wait for it"


# -- how long it is held -----------------------------------------------------------------------------------------------


def test_it_is_held_while_a_claim_is_alive_and_no_longer_than_its_bound(host: SteerHost) -> None:
    request = host.ask(fallback=True)
    host.pass_ruled(FALLBACK_MAX_S - 0.1, WAIT)
    assert not host.got_404(request)
    host.pass_ruled(0.2, WAIT)
    assert host.got_404(request)


def test_it_is_held_while_there_are_providers(host: SteerHost) -> None:
    request = host.ask(fallback=True)
    host.rule(EXCLUDED, (PROVIDER,))
    host.progress(0, MIB)
    host.pass_ruled(FALLBACK_MAX_S - 0.1, EXCLUDED)
    assert not host.got_404(request)


@pytest.mark.parametrize("ruling", [EXCLUDED, UNRULED, GRANTED], ids=["excluded", "unruled", "granted"])
def test_it_is_a_404_when_nobody_can_by_two_words(host: SteerHost, ruling: Excluded) -> None:
    request = host.ask(fallback=True)
    host.pass_ruled(NOBODY_S - 0.1, ruling)
    assert not host.got_404(request)
    host.pass_ruled(1.0, ruling)
    assert host.got_404(request)


def test_alone_it_is_a_404_at_once(host: SteerHost) -> None:
    claimed(host)
    request = host.ask(fallback=True)
    host.rule(EXCLUDED, is_alone=True)
    assert host.got_404(request)


def test_a_claim_that_only_the_fallback_host_asked_for_is_given_back(host: SteerHost) -> None:
    host.ask(fallback=True)
    host.rule(GRANTED)
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 0, ReleaseReason.UNUSED)]
    assert not host.ladder.is_fed_from_origin


def test_an_escape_does_not_touch_it(host: SteerHost) -> None:
    request = host.ask(fallback=True)
    host.rule(UNRULED)
    host.pass_(0.5)
    assert not host.got_404(request)


def test_a_refused_digest_is_a_404_at_both_hosts(host: SteerHost) -> None:
    first, fallback = host.ask(), host.ask(fallback=True)
    host.rule(REFUSED)
    assert host.got_404(first)
    assert host.got_404(fallback)
    assert do.Remember404(10.0, at_both=True) in host.last
    assert host.state() is State.REFUSED
    asked_count = len(host.of(do.AskClaim))
    for later in (host.ask(), host.ask(fallback=True)):
        assert host.got_404(later)
    assert len(host.of(do.AskClaim)) == asked_count, "not asked again meanwhile"
    host.pass_(10.0)
    host.ask(fallback=True)
    assert len(host.of(do.AskClaim)) == asked_count + 1


def test_a_refused_digest_is_fed_all_the_same_where_there_are_providers(host: SteerHost) -> None:
    request = host.ask(fallback=True)
    host.rule(REFUSED, (PROVIDER,))
    assert host.was_fed(request)


def test_it_still_looks_for_others_after_its_own_containerd_was_steered_again(host: SteerHost) -> None:
    """A retry of the pull beside a request that is held."""
    held = host.ask(fallback=True)
    host.rule(EXCLUDED)
    host.ask()
    host.pass_(0.75)
    host.rule(EXCLUDED)
    host.pass_(0.75)
    host.rule(WAIT)
    assert host.was_fed(held)


# -- what may be fed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(RefusalKind))
def test_a_blob_is_fed_whatever_the_origin_said(kind: RefusalKind) -> None:
    assert may_be_fed(kind, is_manifest=False)


@pytest.mark.parametrize("kind", [RefusalKind.FORBIDDEN, RefusalKind.ABSENT])
def test_a_manifest_that_is_not_for_everybody_is_a_404(kind: RefusalKind) -> None:
    host = SteerHost(is_manifest=True)
    request = host.ask(fallback=True)
    host.rule(WAIT)
    host.progress(0, MIB)
    assert not host.was_fed(request), "not before it is known why it is asked for"
    host.tell(on.OriginRefused(request, kind))
    assert host.got_404(request)
    assert not host.was_fed(request)


@pytest.mark.parametrize("kind", [RefusalKind.LIMITED, RefusalKind.FAILED, RefusalKind.UNREACHABLE])
def test_a_manifest_that_everybody_may_have_is_fed(kind: RefusalKind) -> None:
    host = SteerHost(is_manifest=True)
    request = host.ask(fallback=True)
    host.rule(WAIT)
    host.tell(on.OriginRefused(request, kind))
    assert host.was_fed(request)


def test_a_head_looks_twice_before_it_is_a_404(host: SteerHost) -> None:
    head = host.ask(head=True, fallback=True)
    host.tell(on.ProvidersKnown(()))
    assert not host.got_404(head)
    host.pass_(1.0)
    host.tell(on.ProvidersKnown(()))
    assert host.got_404(head)
    assert host.of(do.AskClaim) == []


@pytest.mark.parametrize(
    ("steered_at", "is_growing", "counted"),
    [(None, False, False), (1.0, False, True), (1.0, True, False), (-STEERED_FRESH_S, False, False)],
)
def test_what_counts(steered_at: float | None, is_growing: bool, counted: bool) -> None:
    assert counts(steered_at=steered_at, is_growing=is_growing, now=2.0) is counted


def test_one_word_is_not_enough(host: SteerHost) -> None:
    """Others who wait ask every second."""
    request = host.ask(fallback=True)
    host.rule(EXCLUDED)
    host.pass_(NOBODY_S + 0.1)
    assert not host.got_404(request)
    host.rule(EXCLUDED)
    assert host.got_404(request)
