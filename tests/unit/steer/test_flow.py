"""What a registry gives is judged by all blobs together: who is busy with others is alive, and no slow claimant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import AskReason, ReleaseReason
from mirror.steer.flow import SLOW_MAX_COUNT, Flow, Flows
from mirror.steer.ladder import State
from mirror.steer.rates import REGISTRIES_MAX_COUNT
from mirror.steer.rulings import Granted, Participant
from mirror.steer.timers import CLAIM_SILENT_MIN_S, FIRST_BYTE_UNTOLD_S, SLOW_KNOWN_S, STEERED_FRESH_S
from tests.support.steer_host import FENCE, GRANTED, MIB, WAIT, WAITER, SteerHost


def claimant(flow: Flow, *, has_fallback: bool = True) -> SteerHost:
    host = SteerHost(flow=flow, has_fallback=has_fallback)
    request = host.ask()
    host.rule(GRANTED)
    assert host.got_404(request)
    return host


def renewals(host: SteerHost, for_s: float) -> list[bool]:
    before = len(host.of(do.RenewClaim))
    host.pass_ruled(for_s, GRANTED)
    return [one.is_queued for one in host.of(do.RenewClaim)[before:]]


def test_a_claim_that_is_not_begun_is_renewed_as_queued_while_the_own_containerd_gets_others() -> None:
    flow = Flow()
    host = claimant(flow)
    assert set(renewals(host, 2.0)) == {False}
    flow.own_grew(host.now)
    assert set(renewals(host, CLAIM_SILENT_MIN_S - 0.5)) == {True}
    assert renewals(host, 2.0)[-1] is False, "it gets nothing any more"


def test_once_begun_it_is_queued_again_only_where_it_stands_while_others_grow() -> None:
    flow = Flow()
    host = claimant(flow)
    for number in range(1, 7):
        host.tell(on.IngestGrew(number * MIB))
        assert set(renewals(host, 1.0)) <= {False}, "it grows"
    flow.own_grew(host.now)
    assert renewals(host, 3.0)[-1] is True
    assert renewals(host, CLAIM_SILENT_MIN_S)[-1] is False, "and the others stand, too"


def test_one_whose_first_step_was_long_in_coming_is_queued_again_before_the_arbiter_ends_its_claim() -> None:
    flow = Flow()
    host = claimant(flow)
    for _ in range(5):
        flow.own_grew(host.now)
        host.pass_ruled(1.0, GRANTED)
    host.tell(on.IngestGrew(MIB))
    flow.own_grew(host.now)
    assert renewals(host, CLAIM_SILENT_MIN_S - 1.5)[-1] is True


def test_who_still_drains_what_others_have_is_not_queued_at_the_origin() -> None:
    flow = Flow()
    host = SteerHost(flow=flow)
    host.fed_to(2 * MIB)
    host.tell(on.SourcesGone())
    host.rule(Granted(FENCE, (Participant(WAITER, 6 * MIB),)))
    assert host.state() is State.HANDING_OVER
    flow.own_grew(host.now)
    assert renewals(host, 1.2) == [False]
    assert host.state() is State.HANDING_OVER


def test_the_growth_of_one_blob_keeps_the_claim_of_another() -> None:
    flow = Flow()
    first, second = claimant(flow), claimant(flow)
    first.tell(on.IngestGrew(MIB))
    assert set(renewals(second, 3.0)) == {True}


@pytest.mark.parametrize(
    ("has_fallback", "patience_s", "reason"),
    [
        (False, FIRST_BYTE_UNTOLD_S, ReleaseReason.SILENT),
        (True, STEERED_FRESH_S, ReleaseReason.UNUSED),
    ],
)
def test_what_waits_for_the_first_byte_waits_from_the_end_of_the_queue_on(
    has_fallback: bool, patience_s: float, reason: ReleaseReason
) -> None:
    flow = Flow()
    host = claimant(flow, has_fallback=has_fallback)
    for _ in range(30):
        flow.own_grew(host.now)
        host.pass_ruled(CLAIM_SILENT_MIN_S - 1.0, GRANTED)
    assert host.of(do.ReleaseClaim) == []
    host.pass_ruled(patience_s + CLAIM_SILENT_MIN_S, GRANTED)
    assert [one.reason for one in host.of(do.ReleaseClaim)] == [reason]


def starved_at_frontier(flow: Flow, reached: list[int], others_bytes_s: int) -> SteerHost:
    """A waiter that was fed all there is in order, one piece, of a registry that gives 10 MiB/s as a rule. Of other
    blobs so much comes; of this one so many bytes are had out of order, by the second."""
    host = SteerHost(flow=flow, expected_bytes_s=10.0 * MIB)
    request = host.ask()
    host.rule(WAIT)
    for number in reached:
        host.progress(MIB, MIB, size=1000 * MIB, reached=number)
        host.tell(on.Fed(request, MIB))
        host.tell(on.Starved(request, MIB))
        flow.reached(others_bytes_s)
        host.pass_ruled(1.0, WAIT)
    return host


def has_asked_beside_a_slow_one(host: SteerHost) -> bool:
    return AskReason.SLOW_CLAIMANT in {one.reason for one in host.of(do.AskClaim)}


def test_a_claimant_that_brings_nothing_of_this_and_enough_of_others_is_not_slow() -> None:
    assert has_asked_beside_a_slow_one(starved_at_frontier(Flow(), [MIB] * 8, 0))
    assert not has_asked_beside_a_slow_one(starved_at_frontier(Flow(), [MIB] * 8, 8 * MIB))


def test_what_is_had_out_of_order_counts() -> None:
    reached = [number * 8 * MIB for number in range(1, 9)]
    assert not has_asked_beside_a_slow_one(starved_at_frontier(Flow(), reached, 0))


def test_behind_a_slow_claimant_also_what_he_has_not_begun_is_asked_for() -> None:
    flow = Flow()
    host = SteerHost(flow=flow, expected_bytes_s=10.0 * MIB)
    host.ask()
    for _ in range(8):
        flow.reached(MIB)
        host.pass_ruled(1.0, WAIT)
    assert has_asked_beside_a_slow_one(host)


def beside_one_found_slow(flow: Flow, size: int, *, holder: bytes | None = None) -> SteerHost:
    """It asks 8 s after its host found the holder of the same claim slow for another blob. By then others help, and
    what is shared comes as it should."""
    slow = SteerHost(flow=flow, expected_bytes_s=10.0 * MIB)
    slow.ask()
    for _ in range(8):
        flow.reached(MIB)
        slow.pass_ruled(1.0, WAIT)
    assert has_asked_beside_a_slow_one(slow)
    host = SteerHost(flow=flow, expected_bytes_s=10.0 * MIB)
    host.now = slow.now
    host.ask()
    word = WAIT if holder is None else replace(WAIT, holder=Participant(holder, 0))
    host.progress(0, 0, size=size)
    for _ in range(5):
        flow.reached(10 * MIB)
        host.pass_ruled(1.0, word)
    return host


def test_who_was_found_slow_for_one_blob_is_slow_for_the_next() -> None:
    assert has_asked_beside_a_slow_one(beside_one_found_slow(Flow(), 100 * MIB))


def test_another_claimant_is_not_slow_for_that() -> None:
    assert not has_asked_beside_a_slow_one(beside_one_found_slow(Flow(), 100 * MIB, holder=b"another"))


def test_no_help_is_asked_for_where_the_slow_one_would_be_done_as_soon() -> None:
    assert not has_asked_beside_a_slow_one(beside_one_found_slow(Flow(), MIB))


def test_who_was_slow_is_believed_to_be_so_for_a_while_and_few_are_remembered() -> None:
    flow = Flow()
    flow.found_slow(b"slow", 5.0, 100.0)
    assert flow.slow_bytes_s(b"slow", 100.0 + SLOW_KNOWN_S - 0.1) == 5.0
    assert flow.slow_bytes_s(b"slow", 100.0 + SLOW_KNOWN_S) is None
    for number in range(SLOW_MAX_COUNT):
        flow.found_slow(b"%d" % number, 5.0, 100.0)
    assert flow.slow_bytes_s(b"slow", 100.0) is None
    assert flow.slow_bytes_s(b"0", 100.0) == 5.0


def test_what_came_into_reach_is_counted_once_though_it_is_asked_for_again() -> None:
    flow = Flow()
    host = SteerHost(flow=flow)
    for _ in range(2):
        request = host.ask()
        if host.question is not None:
            host.rule(WAIT)
        host.progress(MIB, 3 * MIB, size=9 * MIB)
        host.tell(on.Left(request))
    assert flow.reached_bytes == 3 * MIB
    host.progress(0, 0)
    host.progress(MIB, MIB)
    assert flow.reached_bytes == 4 * MIB, "what was lost and came again did come"


def test_each_registry_has_its_own_and_they_are_bounded() -> None:
    flows = Flows()
    first = flows.of("a")
    assert flows.of("a") is first
    assert flows.of("b") is not first
    for number in range(REGISTRIES_MAX_COUNT - 2):
        flows.of(str(number))
    assert flows.of("a") is first
    flows.of("one more")
    flows.of("and another")
    assert flows.of("a") is first, "it was asked for lately"
    for number in range(REGISTRIES_MAX_COUNT):
        flows.of(f"new {number}")
    assert flows.of("a") is not first
