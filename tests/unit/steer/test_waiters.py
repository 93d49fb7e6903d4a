"""Waiters: held, fed, asked for again and let through at their bound; and the arbiter out of reach."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason, ReleaseReason
from mirror.steer.ladder import State
from mirror.steer.rulings import Excluded, Fence, Granted, Participant, Pending, Wait
from mirror.steer.timers import (
    CLAIM_FIRST_BYTE_S,
    CLAIM_HEARD_S,
    COMING_S,
    CUT_OFF_S,
    ESCAPE_BARE_MAX_S,
    ESCAPE_WAITED_MAX_S,
    HELD_LONG_S,
    QUEUED_MAX_S,
    RULING_LATE_ALONE_S,
    RULING_LATE_S,
    SILENT_MAX_S,
)
from tests.support.steer_host import (
    CLAIMANT,
    FENCE,
    GRANTED,
    MIB,
    OTHERS_FENCE,
    PENDING,
    PROVIDER,
    UNRULED,
    WAIT,
    WAITER,
    SteerHost,
)


@pytest.fixture
def host() -> SteerHost:
    return SteerHost()


# -- waiters -------------------------------------------------------------------------------------------------------


def test_a_waiter_is_held_and_fed_from_the_claimant(host: SteerHost) -> None:
    request = host.ask()
    host.rule(WAIT)
    assert host.state() is State.WAITING
    assert host.of(do.StartSwarm) == [do.StartSwarm((CLAIMANT,))]
    assert host.was_fed(request)
    assert not host.got_404(request)


def test_a_waiter_asks_every_second_and_tells_how_far_it_is(host: SteerHost) -> None:
    host.fed_to(2 * MIB)
    host.pass_ruled(3.0, WAIT)
    asked = host.of(do.AskClaim)
    assert len(asked) == 4
    assert (asked[-1].progress_bytes, asked[-1].known) == (2 * MIB, OTHERS_FENCE)


def test_nobody_escapes_while_a_claim_is_alive(host: SteerHost) -> None:
    """The origin's first byte took nine seconds, and then comes in steps of five."""
    request = host.ask()
    host.pass_ruled(9.0, WAIT)
    host.pass_ruled(5.3, WAIT)
    assert not host.got_404(request)
    host.progress(MIB, MIB)
    host.tell(on.Fed(request, MIB))
    host.pass_ruled(3.0, WAIT)
    host.tell(on.Starved(request, MIB))
    host.pass_ruled(5.3, WAIT)
    host.progress(2 * MIB, 2 * MIB)
    host.tell(on.Fed(request, 2 * MIB))
    host.pass_ruled(60.0, WAIT)
    assert not host.was_ended(request), "while bytes flow there is no bound"


def test_held_for_long_it_asks_for_one_claim_more_and_again_every_second(host: SteerHost) -> None:
    host.ask()
    host.pass_ruled(HELD_LONG_S - 0.1, WAIT)
    assert {one.reason for one in host.of(do.AskClaim)} == {AskReason.NEEDED}
    host.pass_ruled(3.0, WAIT)
    assert [one.reason for one in host.of(do.AskClaim)][-3:] == [AskReason.HELD_LONG] * 3


def test_held_for_long_by_providers_that_send_nothing_it_asks_too(host: SteerHost) -> None:
    request = host.ask()
    host.rule(PENDING, (PROVIDER,))
    host.pass_(HELD_LONG_S - 0.1)
    assert host.question is None
    host.pass_(0.2)
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert question.reason is AskReason.HELD_LONG
    assert not question.wants_providers, "a claim is wanted though providers are known"
    host.rule(GRANTED)
    assert host.got_404(request)


@pytest.mark.parametrize(
    "holder_bytes", [0, MIB], ids=["holders that come and go", "a holder that has begun"]
)
def test_a_held_request_is_let_through_at_its_bound(host: SteerHost, holder_bytes: int) -> None:
    first, second = (
        Wait(Fence(b"\x0a" * 20, number), Participant(CLAIMANT, holder_bytes), 1.0) for number in (2, 3)
    )
    request = host.ask()
    host.pass_ruled(CLAIM_FIRST_BYTE_S, first)
    host.pass_ruled(SILENT_MAX_S - CLAIM_FIRST_BYTE_S - 0.1, second)
    assert not host.got_404(request)
    host.pass_ruled(0.2, second)
    assert host.got_404(request)
    assert host.state() is State.GIVEN_UP


def test_behind_a_claimant_that_reads_other_layers_first_it_is_held_for_longer(host: SteerHost) -> None:
    """The arbiter gives nobody else without a byte so much time."""
    request = host.ask()
    host.pass_ruled(QUEUED_MAX_S - 0.1, WAIT)
    assert not host.got_404(request)
    host.pass_ruled(0.2, WAIT)
    assert host.got_404(request)


def test_a_claimant_that_was_to_begin_and_is_not_heard_of_any_more_holds_nobody_up(host: SteerHost) -> None:
    request = host.ask()
    host.pass_ruled(2 * SILENT_MAX_S, WAIT)
    host.pass_ruled(CLAIM_HEARD_S + ESCAPE_WAITED_MAX_S, UNRULED)
    assert host.got_404(request)


def test_a_paused_body_is_ended_at_its_bound_and_its_range_is_a_404(host: SteerHost) -> None:
    request = host.fed_to(2 * MIB)
    host.pass_ruled(SILENT_MAX_S - 0.1, WAIT)
    assert not host.was_ended(request)
    host.pass_ruled(0.2, WAIT)
    assert host.was_ended(request)
    assert do.Remember404(10.0, at_both=False) in host.ordered
    assert host.got_404(host.ask(start=2 * MIB))


def test_a_silent_question_counts_as_unruled(host: SteerHost) -> None:
    request = host.ask()
    host.pass_(RULING_LATE_S + ESCAPE_BARE_MAX_S)
    assert host.got_404(request)


def test_an_answer_that_came_too_late_is_given_back(host: SteerHost) -> None:
    host.ask()
    host.pass_(RULING_LATE_S + ESCAPE_BARE_MAX_S)
    host.tell(on.Ruled(1, GRANTED))
    assert host.of(do.ReleaseClaim) == [do.ReleaseClaim(FENCE, 0, ReleaseReason.UNUSED)]


def test_excluded_is_a_404_at_once(host: SteerHost) -> None:
    """No claim runs, and this host gets none: held it would wait for nobody."""
    request = host.ask()
    host.rule(Excluded(10.0))
    assert host.got_404(request)


def test_providers_that_failed_are_not_asked_for_again(host: SteerHost) -> None:
    request = host.ask()
    host.rule(PENDING, (PROVIDER,))
    host.tell(on.SourcesGone())
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert (question.reason, question.wants_providers) == (AskReason.SOURCES_FAILED, False)
    host.rule(GRANTED)
    assert host.got_404(request)


def test_a_claimant_that_serves_nobody_is_one_claim_more(host: SteerHost) -> None:
    """It has bytes, and is behind a firewall: else all would be held until each goes to the origin by itself."""
    request = host.ask()
    wait = Wait(OTHERS_FENCE, Participant(CLAIMANT, 5 * MIB), 1.0)
    asked_at = host.now
    while isinstance(host.question, do.AskClaim) and host.question.reason is not AskReason.SLOW_CLAIMANT:
        host.rule(wait)
        host.tell(on.SourcesGone())
        while host.question is None:
            assert host.now < asked_at + SILENT_MAX_S
            host.pass_(0.25)
    assert CUT_OFF_S <= host.now - asked_at < 2 * CUT_OFF_S
    host.rule(GRANTED)
    assert host.got_404(request)


def test_a_claimant_without_bytes_is_waited_for(host: SteerHost) -> None:
    """Nobody could have got any."""
    host.ask()
    host.rule(WAIT)
    for _ in range(20):
        host.tell(on.SourcesGone())
        host.pass_ruled(0.5, WAIT)
    reasons = [one.reason for one in host.of(do.AskClaim)]
    assert AskReason.SLOW_CLAIMANT not in reasons


def test_a_chain_that_ends_here_is_no_source(host: SteerHost) -> None:
    """Two that wait for each other; neither has bytes that the other lacks."""
    request = host.ask()
    host.rule(WAIT)
    host.progress(0, 0, rooted=False)
    assert not host.ladder.is_fed_from_origin, "it never says that it has what it only waits for"
    host.rule_again(GRANTED)
    assert host.got_404(request)


def test_sources_that_have_no_more_just_now_have_not_failed(host: SteerHost) -> None:
    """In a swarm that happens several times a second: the arbiter is asked no more often than by others, and a
    provider that it knows is wanted."""
    host.ask()
    host.rule(WAIT)
    for moment in range(1, 10):
        host.progress(moment * MIB, (moment + 1) * MIB, rooted=False)
        host.pass_(0.05)
        host.progress((moment + 1) * MIB, (moment + 1) * MIB, rooted=False)
        host.pass_(0.05)
    assert len(host.of(do.AskClaim)) == 1, "asked again within a second"
    host.pass_(0.2)
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert (question.reason, question.wants_providers) == (AskReason.NEEDED, True)


def test_a_host_says_that_it_is_fed_only_after_its_404(host: SteerHost) -> None:
    host.ask()
    assert not host.ladder.is_fed_from_origin
    host.rule(GRANTED)
    assert host.ladder.is_fed_from_origin


def test_a_question_that_is_under_way_when_all_sources_fail_is_put_anew(host: SteerHost) -> None:
    """Its answer would name them once more."""
    host.ask()
    host.rule(WAIT)
    host.pass_(1.1)
    first = host.question
    assert isinstance(first, do.AskClaim)
    host.tell(on.SourcesGone())
    second = host.question
    assert isinstance(second, do.AskClaim)
    assert (second.reason, second.wants_providers) == (AskReason.SOURCES_FAILED, False)
    host.tell(on.Ruled(first.ask_id, GRANTED, (), is_alone=False))
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [ReleaseReason.UNUSED]
    assert host.question == second


ANOTHERS_GRANT = Granted(Fence(b"\x0b" * 20, 1))


def test_a_grant_is_given_back_while_another_claimant_is_heard_to_grow(host: SteerHost) -> None:
    """His arbiter is busy, and the next one knows nothing of his claim."""
    request = host.ask()
    host.rule(WAIT)
    host.progress(0, MIB, reached=MIB)
    host.rule_again(ANOTHERS_GRANT)
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [ReleaseReason.UNUSED]
    assert not host.got_404(request)
    host.pass_(1.1)
    assert host.question is not None, "and it asks again"


def test_the_arbiter_of_a_claim_knows_that_it_has_ended(host: SteerHost) -> None:
    request = host.ask()
    host.rule(WAIT)
    host.progress(0, MIB, reached=MIB)
    host.rule_again(GRANTED)
    assert host.of(do.ReleaseClaim) == []
    assert host.was_fed(request), "what the others have comes first"


def test_a_grant_is_used_where_nothing_more_was_heard_of_him_for_long(host: SteerHost) -> None:
    request = host.ask()
    host.rule(WAIT)
    host.progress(0, MIB, reached=MIB)
    host.pass_ruled(COMING_S + 0.1, WAIT)
    host.rule_again(ANOTHERS_GRANT)
    assert host.of(do.ReleaseClaim) == []
    assert host.was_fed(request)


def test_a_grant_is_used_where_he_is_not_fed_any_more(host: SteerHost) -> None:
    request = host.ask()
    host.rule(WAIT)
    host.progress(0, MIB, reached=MIB)
    host.progress(0, MIB, reached=MIB, rooted=False)
    host.rule_again(ANOTHERS_GRANT)
    assert host.of(do.ReleaseClaim) == []
    assert host.was_fed(request)


def test_where_a_provider_is_known_whoever_else_is_after_it_is_a_source_to_be(host: SteerHost) -> None:
    """The provider may have no room."""
    host.ask()
    host.rule(Pending(1.0, (Participant(WAITER, 0),)), providers=(PROVIDER,))
    assert [one.sources for one in host.of(do.StartSwarm)] == [(PROVIDER,), (WAITER,)]


def test_where_none_is_known_only_who_has_bytes_is(host: SteerHost) -> None:
    host.ask()
    host.rule(Pending(1.0, (Participant(CLAIMANT, 0), Participant(WAITER, MIB))))
    assert host.of(do.StartSwarm)[-1].sources == (WAITER,)


def test_the_blob_is_fed_from_here_once_it_is_committed(host: SteerHost) -> None:
    request = host.ask()
    host.rule(Pending(1.0))
    host.tell(on.Committed())
    assert host.was_fed(request)
    later = host.ask(start=MIB)
    assert host.was_fed(later)
    assert host.was_fed(host.ask(fallback=True))
    assert host.timer_at is None


# -- the arbiter out of reach ---------------------------------------------------------------------------------------


def test_an_unreached_arbiter_costs_a_quarter_second() -> None:
    waits = set()
    for seed in range(20):
        host = SteerHost(seed=seed)
        request = host.ask()
        began_at = host.now
        host.rule(UNRULED)
        while not host.got_404(request):
            assert host.timer_at is not None
            host.pass_(host.timer_at - host.now)
        waits.add(host.now - began_at)
    assert max(waits) <= ESCAPE_BARE_MAX_S
    assert len(waits) == 20, "by lot: a herd does not go at once"


def test_a_waiter_with_bytes_does_not_escape_while_the_claim_may_live(host: SteerHost) -> None:
    request = host.fed_to(MIB)
    host.tell(on.SourcesGone())
    assert do.Pause(request) in host.ordered
    host.pass_ruled(4.9, UNRULED)
    assert not host.was_ended(request)
    host.pass_ruled(ESCAPE_WAITED_MAX_S + 0.2, UNRULED)
    assert host.was_ended(request)


def test_a_ruling_calls_the_escape_off(host: SteerHost) -> None:
    request = host.fed_to(MIB)
    host.tell(on.SourcesGone())
    host.pass_ruled(4.9, UNRULED)
    host.pass_ruled(9.0, WAIT)
    assert not host.was_ended(request)


def test_who_escaped_asks_for_the_claim_as_soon_as_it_is_fed(host: SteerHost) -> None:
    host.ask()
    host.rule(UNRULED)
    host.pass_(ESCAPE_BARE_MAX_S)
    assert host.state() is State.GIVEN_UP
    host.tell(on.IngestGrew(MIB))
    host.pass_(1.0)
    question = host.question
    assert isinstance(question, do.AskClaim)
    assert question.reason is AskReason.FED_ALREADY
    host.rule(GRANTED)
    assert host.state() is State.CLAIMED


def test_a_joining_daemon_asks_for_a_second(host: SteerHost) -> None:
    host.tell(on.DaemonJoining(True))
    request = host.ask()
    host.pass_ruled(0.9, UNRULED)
    assert not host.got_404(request)
    assert len(host.of(do.AskClaim)) == 4
    host.pass_ruled(0.4, UNRULED)
    assert host.got_404(request)


def test_a_daemon_that_has_joined_asks_at_once(host: SteerHost) -> None:
    host.tell(on.DaemonJoining(True))
    host.ask()
    host.rule(UNRULED)
    host.tell(on.DaemonJoining(False))
    assert host.question is not None


def test_who_found_nobody_of_use_waits_shorter_for_an_arbiter(host: SteerHost) -> None:
    """Parted from everybody: a pull is no second late for that."""
    request = host.ask()
    host.rule(PENDING, (PROVIDER,))
    host.tell(on.SourcesGone())
    assert host.question is not None
    host.pass_(RULING_LATE_ALONE_S + ESCAPE_BARE_MAX_S)
    assert host.got_404(request)
