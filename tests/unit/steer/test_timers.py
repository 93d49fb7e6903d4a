"""The rungs in their order, and for a host whose containerd has less patience."""

from __future__ import annotations

import pytest

from mirror.steer import timers
from mirror.steer.timers import Rungs
from tests.support.steer_host import WAIT, SteerHost

# containerd 2.3 gives a host up that sent no headers for so long.
HEADERS_MAX_S = 30.0


def test_each_rung_is_longer_than_the_one_below() -> None:
    rungs = [
        timers.SOURCE_SILENT_S,
        timers.CLAIM_SILENT_MIN_S,
        timers.CLAIM_FIRST_BYTE_S,
        timers.HELD_LONG_S,
        timers.SILENT_MAX_S,
        timers.FALLBACK_MAX_S,
        HEADERS_MAX_S,
    ]
    assert rungs == [1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]


def test_the_numbers_of_the_arbiter_are_the_same() -> None:
    from dht.params import Params

    params = Params()
    assert params.claim_progress_min_s == timers.CLAIM_SILENT_MIN_S
    assert params.claim_step_factor == timers.CLAIM_STEP_FACTOR
    assert params.claim_first_progress_s == timers.CLAIM_FIRST_BYTE_S
    assert params.claim_queued_max_s + timers.CLAIM_FIRST_BYTE_S < timers.QUEUED_MAX_S
    assert params.claim_wait_retry_s == timers.RENEW_EVERY_S == timers.ASK_AGAIN_S


@pytest.mark.parametrize("progress_timeout_s", [10.0, 20.0, 60.0, 300.0, 0.0])
def test_the_holds_at_both_hosts_stay_below_half_of_the_progress_timeout(progress_timeout_s: float) -> None:
    rungs = Rungs.under(progress_timeout_s)
    assert rungs.held_long_s < rungs.silent_max_s < rungs.fallback_max_s <= timers.FALLBACK_MAX_S
    assert rungs.silent_max_s <= rungs.queued_max_s <= timers.QUEUED_MAX_S
    if progress_timeout_s:
        assert rungs.silent_max_s + rungs.fallback_max_s <= progress_timeout_s / 2 + 1e-9
        assert rungs.queued_max_s <= progress_timeout_s / 2


def test_a_default_timeout_changes_nothing() -> None:
    assert Rungs.under(300.0) == Rungs()


@pytest.mark.parametrize("fallback", [False, True])
def test_a_shorter_ladder_is_kept(fallback: bool) -> None:
    rungs = Rungs.under(20.0)
    host = SteerHost(rungs=rungs)
    request = host.ask(fallback=fallback)
    host.pass_ruled(rungs.fallback_max_s if fallback else rungs.silent_max_s, WAIT)
    assert host.got_404(request)
