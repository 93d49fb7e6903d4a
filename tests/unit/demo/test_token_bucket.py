"""The link's rate holds for the sum of its streams, whenever they ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.demo.token_bucket import TokenBucket

RATE_BYTES_PER_S = 1000.0


def test_what_follows_waits_until_what_went_before_has_passed() -> None:
    bucket = TokenBucket(RATE_BYTES_PER_S, burst_s=0)
    assert [bucket.take(count, now=7.0) for count in (500, 250, 1, 0)] == pytest.approx([0, 0.5, 0.75, 0.751])


@pytest.mark.parametrize(("idle_s", "waits_s"), [(0.0, 1.0), (0.4, 0.6), (1.0, 0.0), (1.1, 0.0), (99.0, 0.0)])
def test_time_that_has_passed_needs_no_waiting(idle_s: float, waits_s: float) -> None:
    bucket = TokenBucket(RATE_BYTES_PER_S, burst_s=0.1)
    bucket.take(100, now=50.0)  # the burst
    bucket.take(1000, now=50.0)
    assert bucket.take(1, now=50.0 + idle_s) == pytest.approx(waits_s)


def test_no_more_than_the_burst_is_caught_up_on() -> None:
    bucket = TokenBucket(RATE_BYTES_PER_S, burst_s=0.1)
    bucket.take(1, now=0.0)
    assert [bucket.take(50, now=60.0) for _ in range(4)] == pytest.approx([0, 0, 0, 0.05])


@given(
    burst_s=st.floats(0, 1),
    takes=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 5000)), min_size=1, max_size=50),
)
def test_no_stretch_of_time_lets_more_begin_than_the_rate_and_the_burst(
    burst_s: float, takes: list[tuple[float, int]]
) -> None:
    bucket = TokenBucket(RATE_BYTES_PER_S, burst_s)
    now = 0.0
    sent: list[tuple[float, int]] = []
    for pause_s, count in takes:
        now += pause_s
        sent.append((now + bucket.take(count, now), count))
    moments = [moment for moment, _ in sent]
    assert moments == sorted(moments), "they pass in the order in which they ask"
    for first in range(len(sent)):
        passed_before_last = 0
        for moment, count in sent[first:]:
            allowed = RATE_BYTES_PER_S * (moment - sent[first][0] + burst_s)
            assert passed_before_last <= allowed + 1e-6
            passed_before_last += count
