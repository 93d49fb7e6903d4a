"""A request for a blob of which the swarm fetched something before it was asked for."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason
from mirror.steer.rulings import Participant, Pending
from mirror.steer.timers import ESCAPE_BARE_MAX_S, SILENT_MAX_S
from tests.support.steer_host import CLAIMANT, GRANTED, MIB, UNRULED, WAIT, SteerHost

SIZE = 26 * MIB


@pytest.fixture
def host() -> SteerHost:
    """Fetched in turns with other layers, each of which the ladder is told."""
    host = SteerHost()
    host.progress(0, 2 * MIB, size=SIZE, reached=3 * MIB)
    host.progress(20 * MIB, 25 * MIB, size=SIZE, reached=25 * MIB)
    return host


def test_it_is_fed_at_once_from_what_is_here(host: SteerHost) -> None:
    request = host.ask()
    assert host.was_fed(request)


def test_the_arbiter_is_asked_beside(host: SteerHost) -> None:
    """It is to know who waits, and how far; and to name others."""
    host.ask()
    assert isinstance(host.question, do.AskClaim)
    assert host.question.reason is AskReason.NEEDED
    assert host.question.progress_bytes == 20 * MIB
    host.rule(Pending(1.0, (Participant(CLAIMANT, SIZE),)))
    assert do.StartSwarm((CLAIMANT,)) in host.last


def test_an_arbiter_that_is_not_reached_sends_nobody_to_the_origin(host: SteerHost) -> None:
    request = host.ask()
    host.rule(UNRULED)
    host.pass_(ESCAPE_BARE_MAX_S + 0.1)
    host.pass_ruled(5.0, UNRULED)
    assert not host.got_404(request)
    host.progress(SIZE, SIZE, size=SIZE, reached=SIZE)
    host.tell(on.Fed(request, SIZE))
    host.pass_ruled(SILENT_MAX_S + 1.0, UNRULED)
    assert not host.got_404(request)


def test_a_head_is_answered_at_once(host: SteerHost) -> None:
    assert host.was_fed(host.ask(head=True))


def test_what_was_dropped_again_is_asked_for_as_any_other(host: SteerHost) -> None:
    host.progress(0, 0, rooted=False)
    host.tell(on.SourcesGone())
    request = host.ask()
    assert not host.was_fed(request)
    assert isinstance(host.question, do.AskClaim)
    assert host.question.wants_providers, "that others failed before anybody waited is forgotten"
    host.rule(GRANTED)
    assert host.got_404(request)


def test_once_more_after_the_request_left(host: SteerHost) -> None:
    """Its swarm was told to rest: who has more is not known any more, and asked for."""
    request = host.ask()
    host.rule(WAIT)
    host.tell(on.Left(request))
    assert do.StopSwarm() in host.last
    again = host.ask()
    assert isinstance(host.question, do.AskClaim)
    host.rule(WAIT)
    assert host.was_fed(again)
