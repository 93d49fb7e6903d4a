"""Two nodes with one id: what shows it, and what an honest network can never look like."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht.endpoints import Endpoint
from dht.members.twins import LIVES_MAX_COUNT, WATCHED_MAX_COUNT, Lives, Watch

A, B, C = (Endpoint(f"10.0.0.{number}", 29021) for number in (1, 2, 3))
NODE = b"n" * 20


def test_whoever_sends_later_what_has_the_earlier_stamp_is_another() -> None:
    watch = Watch()
    assert watch.refused(NODE, 10, 1000) is None
    watch.admitted(NODE, 500, 1001, A)
    assert watch.refused(NODE, 11, 1001) is None
    assert watch.refused(NODE, 12, 1002) == A
    # Said once: it takes another turn of both.
    assert watch.refused(NODE, 13, 1003) is None
    assert watch.refused(NODE, 14, 1004) is None
    watch.admitted(NODE, 501, 1005, B)
    watch.admitted(NODE, 499, 1009, C)
    assert watch.refused(NODE, 15, 1006) == B


def test_who_is_not_refused_is_not_watched() -> None:
    watch = Watch()
    watch.admitted(NODE, 500, 1, A)
    assert not watch
    for number in range(3 * WATCHED_MAX_COUNT):
        watch.refused(number.to_bytes(20, "big"), 1, 1)
    assert len(watch) == WATCHED_MAX_COUNT


@given(
    st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60),
    st.lists(st.integers(0, 50), min_size=21),
)
def test_copies_of_one_nodes_datagrams_show_nothing(
    arriving: list[tuple[int, bool]], steps_ms: list[int]
) -> None:
    """In any order, any number of times, admitted or refused: stamps and times of one node rise together."""
    watch = Watch()
    sent_ms = [sum(steps_ms[: number + 1]) for number in range(21)]
    for stamp, is_admitted in arriving:
        if is_admitted:
            watch.admitted(NODE, stamp, sent_ms[stamp], A)
        else:
            assert watch.refused(NODE, stamp, sent_ms[stamp]) is None


def test_a_life_that_had_ended_goes_on() -> None:
    lives = Lives(60.0)
    assert lives.began(NODE, 3, A, 0.0) is None
    assert lives.began(NODE, 2, B, 1.0) is None
    assert lives.began(NODE, 3, A, 2.0) == B
    assert lives.began(NODE, 2, B, 3.0) == A


def test_one_node_that_is_started_again_and_again() -> None:
    """At the same address, at others, restored from a backup; and after long enough all is forgotten."""
    lives = Lives(60.0)
    for number, (epoch, place) in enumerate([(3, A), (4, A), (5, B), (6, A), (2, A), (3, A), (3, C)]):
        assert lives.began(NODE, epoch, place, float(number)) is None
    assert lives.began(NODE, 3, A, 100.0) is None


def test_the_memory_of_lives_is_bounded() -> None:
    lives = Lives(60.0)
    for number in range(3 * LIVES_MAX_COUNT):
        lives.began(number.to_bytes(20, "big"), 1, A, 0.0)
    assert len(lives._recent) == LIVES_MAX_COUNT
