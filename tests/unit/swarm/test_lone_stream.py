"""When a body goes past the swarm, and when it does not any more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.swarm.lone_stream import (
    COMMIT_MAX_S,
    COMMIT_MIN_S,
    SLOW_BYTES_S,
    SLOW_SAMPLE_S,
    Answer,
    Here,
    Standing,
    choose,
    commit_late_s,
    is_alone,
    is_slow,
)

MIB = 1024 * 1024
HERE = Here(
    size_bytes=50 * MIB,
    left_bytes=50 * MIB,
    readers_count=1,
    is_watched=True,
    is_fed=False,
    is_held=False,
    is_suspect=False,
)
ONE = Standing(completes=("a",), unheard=(), others_count=0)


def chosen(here: Here = HERE, standing: Standing = ONE, failed: tuple[str, ...] = ()) -> Answer | str:
    return choose(here, standing, MIB, failed)


def test_a_warm_pull_is_streamed() -> None:
    assert chosen() == "a"


@pytest.mark.parametrize(
    "here",
    [
        replace(HERE, size_bytes=MIB, left_bytes=MIB),
        replace(HERE, left_bytes=MIB),
        replace(HERE, readers_count=2),
        replace(HERE, is_fed=True),
        replace(HERE, is_held=True),
        replace(HERE, is_suspect=True),
    ],
)
def test_what_the_swarm_does_better_is_the_swarms(here: Here) -> None:
    assert chosen(here) is Answer.SWARM
    assert chosen(replace(here, is_watched=False)) is Answer.SWARM, "nothing to wait for"


@pytest.mark.parametrize("unheard", [(), ("a",)])
def test_a_herd_shares(unheard: tuple[str, ...]) -> None:
    assert chosen(standing=replace(ONE, others_count=1, unheard=unheard)) is Answer.SWARM


def test_nobody_to_stream_from() -> None:
    assert chosen(standing=Standing((), (), 0)) is Answer.SWARM
    assert chosen(failed=("a",)) is Answer.SWARM
    assert chosen(standing=Standing(("a", "b"), (), 0), failed=("a",)) == "b"


def test_who_was_asked_who_else_is_there_is_waited_for() -> None:
    unheard = replace(ONE, unheard=("a",))
    assert chosen(standing=unheard) is Answer.WAIT_FOR_WORD
    assert chosen(replace(HERE, is_watched=False), unheard) is Answer.WAIT_FOR_WORD
    assert chosen(replace(HERE, is_watched=False)) is Answer.WAIT_FOR_INGEST
    assert Answer.WAIT_FOR_WORD.wait_max_s > Answer.WAIT_FOR_INGEST.wait_max_s > 0


def test_one_byte_more_than_is_verified_first() -> None:
    assert chosen(replace(HERE, size_bytes=MIB + 1, left_bytes=MIB + 1)) == "a"


def test_who_holds_it_whole_is_no_reason_to_share() -> None:
    assert chosen(standing=Standing(("a", "b", "c"), (), 0)) == "a"


@given(
    st.builds(
        Here,
        size_bytes=st.integers(1, 1 << 34),
        left_bytes=st.integers(0, 1 << 34),
        readers_count=st.integers(0, 3),
        is_watched=st.booleans(),
        is_fed=st.booleans(),
        is_held=st.booleans(),
        is_suspect=st.booleans(),
    ),
    st.builds(
        Standing,
        completes=st.lists(st.sampled_from("abc"), unique=True),
        unheard=st.lists(st.sampled_from("abc"), unique=True),
        others_count=st.integers(0, 3),
    ),
    st.sets(st.sampled_from("abc")),
)
def test_a_stream_is_of_one_who_is_said_to_have_it_and_goes_on(
    here: Here, standing: Standing, failed: set[str]
) -> None:
    answer = choose(here, standing, MIB, failed)
    if not isinstance(answer, Answer):
        assert answer in standing.completes
        assert answer not in failed
        assert here.is_watched
        assert is_alone(here, standing)


@pytest.mark.parametrize(
    ("rate", "for_s", "completes", "expected"),
    [
        (SLOW_BYTES_S / 2, SLOW_SAMPLE_S, ("a", "b"), True),
        (SLOW_BYTES_S / 2, SLOW_SAMPLE_S / 2, ("a", "b"), False),
        (SLOW_BYTES_S * 2, SLOW_SAMPLE_S, ("a", "b"), False),
        (SLOW_BYTES_S / 2, SLOW_SAMPLE_S, ("a",), False),
        (SLOW_BYTES_S / 2, SLOW_SAMPLE_S, ("b",), True),
    ],
)
def test_a_slow_one_is_left_where_others_could_help(
    rate: float, for_s: float, completes: tuple[str, ...], expected: bool
) -> None:
    assert is_slow(int(rate * for_s), for_s, Standing(completes, (), 0), "a") is expected


def test_a_large_blob_may_take_longer_to_commit() -> None:
    assert COMMIT_MIN_S <= commit_late_s(MIB) < 2 * COMMIT_MIN_S
    assert commit_late_s(200_000_000) == COMMIT_MIN_S + 1
    assert commit_late_s(1 << 40) == COMMIT_MAX_S
