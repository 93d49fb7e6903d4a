"""A claimant is lost: everybody pauses, one takes over at the frontier."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import ReleaseReason
from mirror.steer.ladder import State
from mirror.steer.rulings import Granted, Participant
from tests.support.steer_host import (
    FENCE,
    GRANTED,
    MIB,
    PENDING,
    WAIT,
    WAITER,
    SteerHost,
)


@pytest.fixture
def host() -> SteerHost:
    return SteerHost()


# -- hand-over ------------------------------------------------------------------------------------------------------


def test_waiters_are_paused_and_one_takes_over(host: SteerHost) -> None:
    request = host.fed_to(8 * MIB)
    host.tell(on.SourcesGone())
    assert host.last[0] == do.Pause(request)
    host.rule(PENDING)
    host.pass_ruled(4.0, PENDING)
    assert not host.was_ended(request)
    host.pass_(1.0)
    host.rule(GRANTED)
    kinds = [type(one) for one in host.last if not isinstance(one, do.SetTimer)]
    assert kinds == [do.Tail, do.Remember404, do.EndByFin], (
        "the ingest is watched before its containerd goes on"
    )
    assert host.got_404(host.ask(start=8 * MIB))
    assert host.state() is State.CLAIMED


def test_a_waiter_that_is_not_granted_goes_on_when_there_are_bytes_again(host: SteerHost) -> None:
    request = host.fed_to(8 * MIB)
    host.tell(on.SourcesGone())
    host.rule(WAIT)
    host.progress(8 * MIB, 9 * MIB)
    assert host.ordered.count(do.Pause(request)) == host.ordered.count(do.Resume(request)) == 1
    assert not host.was_ended(request)


def test_who_is_granted_drains_what_the_others_have_first(host: SteerHost) -> None:
    request = host.fed_to(2 * MIB)
    host.tell(on.SourcesGone())
    host.rule(Granted(FENCE, (Participant(WAITER, 6 * MIB),)))
    assert host.state() is State.HANDING_OVER
    assert do.StartSwarm((WAITER,)) in host.last
    host.pass_ruled(1.0, GRANTED)
    host.progress(6 * MIB, 6 * MIB)
    host.tell(on.Fed(request, 3 * MIB))
    assert not host.was_ended(request)
    host.tell(on.Starved(request, 6 * MIB))
    assert host.was_ended(request), "at the frontier, not before"
    assert host.state() is State.CLAIMED


def test_a_request_without_a_byte_drains_too(host: SteerHost) -> None:
    request = host.ask()
    host.rule(Granted(FENCE, (Participant(WAITER, 6 * MIB),)))
    assert host.was_fed(request)
    host.tell(on.Fed(request, MIB))
    host.progress(6 * MIB, 6 * MIB)
    host.tell(on.Starved(request, 6 * MIB))
    assert host.was_ended(request)


@pytest.mark.parametrize(("moves", "over_s"), [(False, 1.5), (True, 6.0)])
def test_draining_has_its_bound(host: SteerHost, moves: bool, over_s: float) -> None:
    request = host.fed_to(2 * MIB)
    host.rule_again(Granted(FENCE, (Participant(WAITER, 600 * MIB),)))
    began_at = host.now
    host.tell(on.Fed(request, 2 * MIB + 1))
    while not host.was_ended(request):
        assert host.now - began_at <= over_s
        host.pass_ruled(0.1, GRANTED)
        if moves:
            host.progress(3 * MIB + int(host.now * 1000), 600 * MIB)
    assert host.now - began_at == pytest.approx(over_s, abs=0.11)


def test_a_claim_is_given_back_if_its_reader_left_while_draining(host: SteerHost) -> None:
    request = host.fed_to(2 * MIB)
    host.rule_again(Granted(FENCE, (Participant(WAITER, 6 * MIB),)))
    host.tell(on.Left(request))
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [ReleaseReason.UNUSED]
    assert host.of(do.StopSwarm) == [do.StopSwarm()]
    assert host.state() is State.IDLE


def test_draining_ends_at_once_when_there_is_nobody_to_take_from(host: SteerHost) -> None:
    """The arbiter named who is farther, and none of them is to be reached."""
    request = host.ask()
    host.rule(Granted(FENCE, (Participant(WAITER, 9 * MIB),)))
    assert host.state() is State.HANDING_OVER
    host.tell(on.SourcesGone())
    assert host.got_404(request)
    assert host.state() is State.CLAIMED
