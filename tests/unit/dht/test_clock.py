from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht.params import Params
from dht.wire.clock import Clock
from tests.support.examples import examples

PARAMS = Params()
WALL_S = 1_800_000_000.0
FRESH_MS = int(PARAMS.freshness_s * 1000)


def sent_ms(ahead_s: float, wall_s: float = WALL_S) -> int:
    return int((wall_s + ahead_s) * 1000)


@pytest.mark.parametrize(
    ("ahead_s", "is_fresh"), [(0, True), (120, True), (-120, True), (120.1, False), (-120.1, False)]
)
def test_fresh_is_two_minutes_to_both_sides(ahead_s: float, is_fresh: bool) -> None:
    assert Clock(PARAMS).is_fresh(sent_ms(ahead_s), WALL_S) is is_fresh


@pytest.mark.parametrize("ahead_s", [-86_400, -200, -31, 31, 200, 86_400])
def test_a_newcomer_believes_the_first(ahead_s: float) -> None:
    clock = Clock(PARAMS)
    assert clock.corrected(b"a", sent_ms(ahead_s), WALL_S)
    assert clock.now_ms(WALL_S) == sent_ms(ahead_s)
    assert clock.is_fresh(sent_ms(ahead_s), WALL_S)


@pytest.mark.parametrize("ahead_s", [-30, -1, 0, 1, 30])
def test_small_differences_are_left(ahead_s: float) -> None:
    clock = Clock(PARAMS)
    assert not clock.corrected(b"a", sent_ms(ahead_s), WALL_S)
    assert clock.offset_ms == 0


def test_one_wrong_node_moves_nobody() -> None:
    """However often it says so."""
    clock = Clock(PARAMS)
    for second in range(4):
        clock.agreed(bytes([second]), sent_ms(0, WALL_S + second), WALL_S + second)
    for again in range(5):
        assert not clock.corrected(b"wrong", sent_ms(5000), WALL_S + 4 + again)
    assert clock.offset_ms == 0


def test_many_move_one() -> None:
    clock = Clock(PARAMS)
    for second in range(4):
        clock.agreed(bytes([second]), sent_ms(0, WALL_S + second), WALL_S + second)
    moved = [clock.corrected(bytes([100 + number]), sent_ms(5000), WALL_S + 4) for number in range(12)]
    assert True in moved
    assert abs(clock.offset_ms - 5_000_000) < 10_000


def test_a_busy_second_is_four_votes() -> None:
    """And one is our own."""
    clock = Clock(PARAMS)
    for number in range(100):
        clock.agreed(bytes([number]), sent_ms(0), WALL_S + number / 200)
    moved = [clock.corrected(bytes([200 + number]), sent_ms(-5000), WALL_S + 1) for number in range(6)]
    assert moved == [False] * 5 + [True]


@pytest.mark.parametrize("ahead_s", [-5000, 5000])
@pytest.mark.parametrize("others", [[b"b"], [b"b", b"c"]])
def test_who_has_just_met_the_others_is_not_moved_by_one(others: list[bytes], ahead_s: float) -> None:
    clock = Clock(PARAMS)
    for other in others * 2:
        clock.agreed(other, sent_ms(0), WALL_S)
    for again in range(5):
        assert not clock.corrected(b"wrong", sent_ms(ahead_s), WALL_S + again)


def test_our_own_clock_is_set_right_while_we_run() -> None:
    """What was heard by the old time no longer counts."""
    clock = Clock(PARAMS)
    clock.corrected(b"a", sent_ms(1000), WALL_S)
    for second in range(1, 20):
        clock.agreed(bytes([second]), sent_ms(1000, WALL_S + second), WALL_S + second)
    leapt_s = WALL_S + 1020
    assert clock.corrected(b"b", sent_ms(0, leapt_s), leapt_s)
    assert clock.offset_ms == 0


def test_of_two_that_disagree_one_gives_in() -> None:
    """Even when their challenges cross every time."""
    behind, ahead = Clock(PARAMS), Clock(PARAMS)
    walls = (WALL_S, WALL_S + 1000)
    for second in range(10):
        times = behind.now_ms(walls[0] + second), ahead.now_ms(walls[1] + second)
        if behind.is_fresh(times[1], walls[0] + second):
            assert second <= 2
            return
        behind.corrected(b"ahead", times[1], walls[0] + second)
        ahead.corrected(b"behind", times[0], walls[1] + second)
    raise AssertionError("they never agreed")


@settings(deadline=None, max_examples=examples(60))
@given(
    st.lists(st.sampled_from([0, 0, 0, 10, -100, 150, 1000, -1000, 40_000]), min_size=2, max_size=12),
    st.integers(0, 1 << 32),
)
def test_a_cluster_comes_to_one_time(errors_s: list[int], seed: int) -> None:
    """Whatever the clocks show at the start: within 80 requests of each, everybody serves everybody."""
    rng = random.Random(seed)
    clocks = [Clock(PARAMS) for _ in errors_s]

    def now_ms(node: int, wall_s: float) -> int:
        return clocks[node].now_ms(wall_s + errors_s[node])

    def request(asker: int, asked: int, wall_s: float) -> None:
        theirs_s, ours_s = wall_s + errors_s[asker], wall_s + errors_s[asked]
        told_ms = now_ms(asker, wall_s)
        if clocks[asked].is_fresh(told_ms, ours_s):
            clocks[asked].agreed(bytes([asker]), told_ms, ours_s)
            clocks[asker].agreed(bytes([asked]), now_ms(asked, wall_s), theirs_s)
        else:
            clocks[asker].corrected(bytes([asked]), now_ms(asked, wall_s), theirs_s)

    wall_s = WALL_S
    for _ in range(80):
        for asker in range(len(clocks)):
            wall_s += 2.0 / len(clocks)
            asked = rng.randrange(len(clocks) - 1)
            request(asker, asked + (asked >= asker), wall_s)
    times = [now_ms(node, wall_s) for node in range(len(clocks))]
    assert max(times) - min(times) <= FRESH_MS


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-(10**9), 10**9)), max_size=50))
def test_the_offset_is_one_that_somebody_told(told: list[tuple[int, int]]) -> None:
    clock = Clock(PARAMS)
    for node, ahead_ms in told:
        clock.corrected(bytes([node]), sent_ms(0) + ahead_ms, WALL_S)
    assert clock.offset_ms in {0} | {ahead_ms for _, ahead_ms in told}


@pytest.mark.parametrize("ahead_s", [-90.0, -6.0, 6.0, 90.0, 3600.0])
def test_what_is_borne_is_seen_as_well_as_what_is_corrected(ahead_s: float) -> None:
    clock = Clock(PARAMS)
    assert clock.seen_ms(WALL_S) == 0
    if clock.is_fresh(sent_ms(ahead_s), WALL_S):
        clock.agreed(b"a", sent_ms(ahead_s), WALL_S)
        clock.agreed(b"b", sent_ms(ahead_s), WALL_S)
        assert clock.offset_ms == 0
    else:
        assert clock.corrected(b"a", sent_ms(ahead_s), WALL_S)
        assert clock.corrected(b"b", sent_ms(ahead_s), WALL_S) is False
    assert clock.seen_ms(WALL_S) == ahead_s * 1000
    # Once the host's clock is right, what was heard by the wrong one is of no use for long.
    later_s = WALL_S + PARAMS.freshness_s + 1
    assert clock.seen_ms(later_s) == clock.offset_ms


def test_one_wrong_member_of_three_is_not_ours() -> None:
    clock = Clock(PARAMS)
    for second in range(2):
        clock.agreed(b"right", sent_ms(0, WALL_S + second), WALL_S + second)
        clock.agreed(b"wrong", sent_ms(90, WALL_S + second), WALL_S + second)
    assert clock.seen_ms(WALL_S + 1) == 0
