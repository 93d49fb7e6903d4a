"""A slow claimant: when one claim more is asked for, and when it was in vain."""

from __future__ import annotations

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason, ReleaseReason
from mirror.steer.pace import Pace, is_claim_worth
from mirror.steer.rulings import Participant, Ruling, Wait
from mirror.steer.timers import ASK_AGAIN_S, PACE_MIN_S
from tests.support.steer_host import CLAIMANT, FENCE, GRANTED, MIB, OTHERS_FENCE, SteerHost

WAIT = Wait(OTHERS_FENCE, Participant(CLAIMANT, MIB), 1.0)


def paced(bytes_s: int, for_s: float, step_s: float = 0.5) -> Pace:
    pace = Pace()
    for step in range(int(for_s / step_s) + 1):
        pace.seen(int(step * step_s * bytes_s) + 1, step * step_s)
    return pace


@pytest.mark.parametrize(
    ("rate", "expected", "size", "worth"),
    [
        (1 * MIB, 10 * MIB, 1000 * MIB, True),
        # Not below half.
        (6 * MIB, 10 * MIB, 1000 * MIB, False),
        # The rest is so small that the setup eats the gain: 4 s against 0.4 + 1 s times 1.5 is worth it, 2 s is not.
        (1 * MIB, 10 * MIB, 14 * MIB, True),
        (1 * MIB, 10 * MIB, 11 * MIB, False),
        # Nobody knows what the registry could give.
        (1 * MIB, None, 1000 * MIB, False),
        # The size is not known.
        (1 * MIB, 10 * MIB, None, True),
    ],
)
def test_what_a_second_claim_is_worth(
    rate: int, expected: float | None, size: int | None, worth: bool
) -> None:
    pace = paced(rate, 10.0)
    left_bytes = None if size is None else size - pace.bytes
    assert is_claim_worth(pace, expected, left_bytes, 10.0) is worth


def test_a_pace_in_steps_of_five_seconds_is_not_judged_after_one_of_them() -> None:
    pace = Pace()
    for number in range(3):
        pace.seen(number * MIB, number * 5.0)
    assert pace.rate_bytes_s(10.0) is None
    pace.seen(3 * MIB, 15.0)
    rate = pace.rate_bytes_s(15.0)
    assert rate is not None
    assert rate == pytest.approx(MIB / 5.0)


@pytest.mark.parametrize(("rate", "worth"), [(1 * MIB, True), (3 * MIB, False)])
def test_far_below_is_known_sooner(rate: int, worth: bool) -> None:
    """Of 10 MiB/s a quarter is 2.5: 3 MiB/s waits for certainty, and is then below half."""
    assert is_claim_worth(paced(rate, 2.0), 10 * MIB, 1000 * MIB, 2.0) is worth
    assert not is_claim_worth(paced(rate, 1.5), 10 * MIB, 1000 * MIB, 1.5)
    assert is_claim_worth(paced(rate, 10.0), 10 * MIB, 1000 * MIB, 10.0)


def test_a_frontier_that_stands_still_is_worth_a_claim_whatever_was_expected() -> None:
    pace = paced(MIB, 10.0)
    assert not is_claim_worth(pace, None, None, 19.9)
    assert is_claim_worth(pace, None, None, 20.0)
    assert not is_claim_worth(Pace(), None, None, 100.0), "before the first byte it is the arbiter's"


def slow_herd(expected_bytes_s: float, ruling: Ruling = WAIT) -> tuple[SteerHost, int]:
    """A waiter at the frontier of a claimant of 1 MiB/s, for ten seconds, or until it asked for one claim more, which
    is answered by `ruling`."""
    host = SteerHost(expected_bytes_s=expected_bytes_s)
    request = host.ask()
    host.rule(WAIT)
    for number in range(1, 21):
        offset = number * MIB // 2
        host.progress(offset, offset, size=1000 * MIB)
        host.tell(on.Fed(request, offset))
        host.tell(on.Starved(request, offset))
        host.pass_(0.5)
        question = host.question
        if question is None:
            continue
        if isinstance(question, do.AskClaim) and question.reason is AskReason.SLOW_CLAIMANT:
            host.rule(ruling)
            if ruling is not WAIT:
                break
        else:
            host.rule(WAIT)
    return host, request


def reasons(host: SteerHost) -> list[AskReason]:
    return [one.reason for one in host.of(do.AskClaim)]


def test_one_claim_more_is_asked_for_a_slow_claimant_as_often_as_is_asked_at_all() -> None:
    host, request = slow_herd(10 * MIB)
    why = reasons(host)
    first = why.index(AskReason.SLOW_CLAIMANT)
    assert first * ASK_AGAIN_S < PACE_MIN_S, "far below the usual it is known early"
    assert set(why[first:]) == {AskReason.SLOW_CLAIMANT}, "the arbiter may not know enough of the claim yet"
    assert len(why) <= 10.0 / ASK_AGAIN_S + 1
    assert not host.was_ended(request), "it was not granted"


def test_a_claimant_at_the_usual_rate_is_left_alone() -> None:
    host, _ = slow_herd(1.9 * MIB)
    assert AskReason.SLOW_CLAIMANT not in reasons(host)


def second(own_bytes_s: int) -> SteerHost:
    """Granted beside a claimant of 1 MiB/s."""
    host, request = slow_herd(10 * MIB, GRANTED)
    assert host.was_ended(request), "at the frontier"
    for number in range(1, 9):
        host.tell(on.IngestGrew(10 * MIB + number * own_bytes_s))
        host.pass_ruled(1.0, GRANTED)
    return host


def test_a_second_claim_that_is_no_faster_is_given_back_so_that_there_is_no_third() -> None:
    host = second(MIB)
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [ReleaseReason.NO_GAIN]
    assert host.of(do.ReleaseClaim)[0].fence == FENCE
    asked_count = len(reasons(host))
    host.tell(on.IngestGrew(90 * MIB))
    host.pass_(3.0)
    assert len(reasons(host)) == asked_count


def test_a_second_claim_that_is_faster_stays() -> None:
    host = second(8 * MIB)
    assert host.of(do.ReleaseClaim) == []
    assert len(host.of(do.RenewClaim)) >= 5
