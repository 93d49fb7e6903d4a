from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht.wire.limits import RateLimits


def test_a_burst_and_then_the_rate() -> None:
    limits = RateLimits(rate_per_s=10.0, burst_count=5, max_count=10)
    assert [limits.allow("a", 0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limits.allow("b", 0.0)
    assert not limits.allow("a", 0.04)
    assert limits.allow("a", 0.11)
    assert not limits.allow("a", 0.11)


def test_a_rest_fills_the_bucket_and_no_more() -> None:
    limits = RateLimits(rate_per_s=10.0, burst_count=5, max_count=10)
    for _ in range(5):
        limits.allow("a", 0.0)
    assert [limits.allow("a", 1000.0) for _ in range(6)] == [True] * 5 + [False]


def test_the_least_active_is_forgotten() -> None:
    limits = RateLimits(rate_per_s=0.001, burst_count=1, max_count=2)
    assert limits.allow("a", 0.0)
    assert limits.allow("b", 0.0)
    assert limits.allow("c", 0.0)
    assert len(limits) == 2
    assert not limits.allow("c", 0.0)
    assert not limits.allow("b", 0.0)
    assert limits.allow("a", 0.0)


def test_who_was_allowed_lately_is_remembered() -> None:
    limits = RateLimits(rate_per_s=0.001, burst_count=2, max_count=2)
    for sender in ("a", "b", "a", "c"):
        assert limits.allow(sender, 0.0)
    assert not limits.allow("a", 0.0)


@given(
    st.lists(st.floats(0.0, 0.5), min_size=1, max_size=200),
    st.floats(1.0, 100.0),
    st.integers(1, 20),
)
def test_no_stretch_of_time_sees_more_than_burst_and_rate(
    gaps: list[float], rate_per_s: float, burst_count: int
) -> None:
    limits = RateLimits(rate_per_s, burst_count, 4)
    now, allowed = 0.0, []
    for gap in gaps:
        now += gap
        if limits.allow("a", now):
            allowed.append(now)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            stretch_s = allowed[last] - allowed[first]
            assert last - first + 1 <= burst_count + rate_per_s * stretch_s + 0.5 + 1e-6


@given(st.lists(st.integers(0, 50), max_size=200))
def test_a_memory_of_bounded_size(senders: list[int]) -> None:
    limits = RateLimits(1.0, 2, 8)
    for sender in senders:
        limits.allow(sender, 0.0)
        assert len(limits) <= 8
