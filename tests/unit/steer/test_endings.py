"""How bodies end, what is remembered of it, and wrong bytes."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import ReleaseReason
from mirror.steer.timers import GIVE_UP_S, SILENT_MAX_S, UNCOMMITTED_MAX_S, WRONG_S, ZERO_BYTE_CLOSE_EVERY_S
from tests.support.steer_host import FENCE, GRANTED, MIB, WAIT, SteerHost


@pytest.fixture
def host() -> SteerHost:
    return SteerHost()


def handed_over(host: SteerHost, total: int = 8 * MIB) -> None:
    """Fed 2 MiB by the swarm, then sent to the origin with the claim."""
    request = host.ask()
    host.tell(on.IngestBorn(total))
    host.rule(WAIT)
    host.progress(2 * MIB, 2 * MIB)
    host.tell(on.Fed(request, MIB))
    host.tell(on.Starved(request, 2 * MIB))
    host.tell(on.IngestGrew(2 * MIB))
    host.rule_again(GRANTED)
    assert host.was_ended(request)


def test_one_body_a_minute_ends_without_a_byte(host: SteerHost) -> None:
    """The request after it has no Range, and is a 404 too."""
    first, second = host.ask(), host.ask()
    host.rule(WAIT)
    for request in (first, second):
        host.tell(on.Fed(request, 0))
    host.pass_ruled(SILENT_MAX_S, WAIT)
    assert host.was_ended(first)
    assert not host.was_ended(second)
    assert host.got_404(host.ask()), "a plain GET after an ended body is a 404"
    host.pass_ruled(ZERO_BYTE_CLOSE_EVERY_S - 0.1, WAIT)
    assert not host.was_ended(second)
    host.pass_ruled(0.2, WAIT)
    assert host.was_ended(second)


def test_a_hand_over_ends_no_second_body_without_a_byte(host: SteerHost) -> None:
    requests = [host.ask(), host.ask()]
    host.rule(WAIT)
    for request in requests:
        host.tell(on.Fed(request, 0))
    host.rule_again(GRANTED)
    assert [host.was_ended(request) for request in requests] == [True, False]


def test_what_was_given_up_is_forgotten_in_time(host: SteerHost) -> None:
    handed_over(host)
    host.tell(on.IngestVanished())
    assert host.of(do.Remember404)[-1] == do.Remember404(0.0, at_both=False), "a new pull begins anew"
    retry = host.ask()
    assert not host.got_404(retry)


def test_a_given_up_digest_is_not_fed_at_the_first_host(host: SteerHost) -> None:
    handed_over(host)
    host.progress(2 * MIB, 9 * MIB)
    assert host.got_404(host.ask(start=2 * MIB))
    host.pass_ruled(GIVE_UP_S / 2, GRANTED)
    assert host.got_404(host.ask())


# -- wrong bytes -------------------------------------------------------------------------------------------------------


def test_wrong_bytes_abort_first_and_end_then(host: SteerHost) -> None:
    request = host.ask()
    host.rule(WAIT)
    host.progress(2 * MIB, 2 * MIB)
    host.tell(on.Fed(request, MIB))
    host.tell(on.BytesWrong())
    kinds = [type(one) for one in host.last]
    assert kinds.index(do.AbortIngest) < kinds.index(do.EndByFin)
    assert do.Remember404(WRONG_S, at_both=True) in host.last
    for later in (host.ask(), host.ask(start=MIB), host.ask(fallback=True), host.ask(head=True)):
        assert host.got_404(later)
    host.pass_ruled(WRONG_S, GRANTED)
    assert not host.got_404(host.ask(fallback=True))


def test_a_claimant_with_wrong_bytes_gives_the_claim_back_as_his_fault(host: SteerHost) -> None:
    """A captive portal's page, say."""
    host.ask()
    host.rule(GRANTED)
    host.tell(on.IngestGrew(MIB))
    host.tell(on.BytesWrong())
    released = host.of(do.ReleaseClaim)
    assert released == [do.ReleaseClaim(FENCE, MIB, ReleaseReason.WRONG)]
    assert released[0].reason.wire_value != 0


def test_after_a_hand_over_the_ingest_is_judged(host: SteerHost) -> None:
    handed_over(host)
    assert host.of(do.Tail) == [do.Tail(is_judged=True)]
    host.tell(on.IngestGrew(8 * MIB))
    host.tell(on.BytesWrong())
    assert host.of(do.AbortIngest) == [do.AbortIngest()]


def test_a_steered_ingest_without_our_bytes_is_not_judged(host: SteerHost) -> None:
    host.ask()
    host.rule(GRANTED)
    assert host.of(do.Tail) == [do.Tail(is_judged=False)]


@pytest.mark.parametrize(
    ("unverified", "right", "aborted"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_a_full_ingest_that_is_not_committed_is_aborted_if_it_holds_our_bytes(
    host: SteerHost, unverified: bool, right: bool, aborted: bool
) -> None:
    """A large blob may take long to commit: what came from the origin alone is left in peace."""
    if unverified:
        handed_over(host)
    else:
        host.ask()
        host.tell(on.IngestBorn(8 * MIB))
        host.rule(GRANTED)
    host.tell(on.IngestGrew(8 * MIB))
    if right:
        host.tell(on.IngestRight())
    host.pass_ruled(UNCOMMITTED_MAX_S - 0.1, GRANTED)
    assert host.of(do.AbortIngest) == []
    host.pass_ruled(0.2, GRANTED)
    assert (host.of(do.AbortIngest) == [do.AbortIngest()]) is aborted


def test_an_abort_of_ours_is_no_cancelled_pull(host: SteerHost) -> None:
    handed_over(host)
    host.tell(on.BytesWrong())
    count = len(host.of(do.ReleaseClaim))
    host.tell(on.IngestVanished())
    assert len(host.of(do.ReleaseClaim)) == count
    assert host.got_404(host.ask()), "what was wrong stays remembered"
