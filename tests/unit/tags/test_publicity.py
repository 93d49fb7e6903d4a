"""Which repositories are known to be public, by whose word, and when that is asked again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.digest import Digest
from mirror.origin.base import Repository, Standing
from mirror.origin.memory import WINDOW_S, OriginMemory
from mirror.tags.base import Attestation
from mirror.tags.publicity import (
    FIRST_MAX_S,
    FIRST_MIN_S,
    FRESH_S,
    LATER_S,
    MANY_COUNT,
    RENEW_BY_S,
    SOON_S,
    STRETCH_MAX,
    Publicity,
)
from mirror.tags.rules import CLOCK_TOLERANCE_S

R, OTHER = Repository("reg.test", "lib/app"), Repository("reg.test", "lib/other")
D = Digest.of(b"manifest")
NOW_S = 1_800_000_000.0


def word(host: str, public_at_s: float | None) -> Attestation:
    return Attestation(host, D, NOW_S, public_at_s)


def publicity(memory: OriginMemory | None = None) -> Publicity:
    return Publicity(memory or OriginMemory(), random.Random(1))


def test_this_hosts_own_finding_is_enough_for_a_window() -> None:
    memory = OriginMemory()
    memory.note(R, "v1", Standing.PUBLIC, NOW_S)
    made = publicity(memory)
    assert made.public_at_s(R, NOW_S) == NOW_S
    for age_s, public, fresh in (
        (0.0, True, True),
        (FRESH_S - 1, True, True),
        (FRESH_S + 1, True, False),
        (WINDOW_S - 1, True, False),
        (WINDOW_S + 1, False, False),
    ):
        assert made.is_public(R, NOW_S + age_s) is public
        assert made.is_fresh(R, NOW_S + age_s) is fresh
    assert not made.is_public(OTHER, NOW_S)


@pytest.mark.parametrize(
    ("words", "public"),
    [
        ([], False),
        ([("a", 0.0)], False),
        ([("a", 0.0), ("a", 0.0)], False),
        ([("a", 0.0), ("b", None)], False),
        ([("a", 0.0), ("b", 0.0)], True),
        ([("a", -WINDOW_S - 1), ("b", 0.0)], False),
        # As old as the second newest: the third word does not harm.
        ([("a", -WINDOW_S - 1), ("b", 0.0), ("c", 0.0)], True),
        # A time to come is none, within what clocks differ it is.
        ([("a", CLOCK_TOLERANCE_S + 1), ("b", 0.0)], False),
        ([("a", CLOCK_TOLERANCE_S - 1), ("b", 0.0)], True),
    ],
)
def test_others_are_believed_two_at_a_time(words: list[tuple[str, float | None]], public: bool) -> None:
    made = publicity()
    made.hear(R, [word(host, None if at_s is None else NOW_S + at_s) for host, at_s in words], NOW_S)
    assert made.is_public(R, NOW_S) is public


def test_hearsay_ends_with_the_window_and_with_this_hosts_finding_of_the_contrary() -> None:
    memory = OriginMemory()
    made = publicity(memory)
    made.hear(R, [word("a", NOW_S), word("b", NOW_S)], NOW_S)
    assert made.is_public(R, NOW_S + WINDOW_S - 1)
    assert not made.is_public(R, NOW_S + WINDOW_S + 1)
    assert made.is_fresh(R, NOW_S + FRESH_S - 1)
    assert not made.is_fresh(R, NOW_S + FRESH_S + 1)
    memory.note(R, "v1", Standing.REFUSED, NOW_S + 1)
    assert not made.is_public(R, NOW_S + 2)
    made.hear(R, [word("a", NOW_S + 9), word("b", NOW_S + 9)], NOW_S + 10)
    assert made.is_public(R, NOW_S + 10), "two hosts found it public after this one had not"


def test_a_word_that_says_less_does_not_undo_hearsay() -> None:
    made = publicity()
    made.hear(R, [word("a", NOW_S), word("b", NOW_S)], NOW_S)
    made.hear(R, [word("a", None)], NOW_S)
    assert made.is_public(R, NOW_S)


def test_a_new_repository_waits_a_moment_and_then_its_turn() -> None:
    made = publicity()
    made.keep([R, OTHER], 100.0)
    assert made.due(100.0 + FIRST_MIN_S - 0.1) is None
    due_at = made.next_due_at()
    assert due_at is not None and 100.0 + FIRST_MIN_S <= due_at <= 100.0 + FIRST_MAX_S
    first = made.due(100.0 + FIRST_MAX_S)
    assert first is not None
    made.asked(first, Standing.PUBLIC, 200.0)
    second = made.due(200.0)
    assert {first, second} == {R, OTHER}
    made.keep([R, OTHER], 201.0)
    assert made.due(201.0) == second, "keeping on does not begin anew"


def test_hosts_that_began_together_ask_at_different_times() -> None:
    times = set()
    for seed in range(50):
        made = Publicity(OriginMemory(), random.Random(seed))
        made.keep([R], 0.0)
        times.add(round(made.next_due_at() or 0.0))
    assert len(times) > 20


@pytest.mark.parametrize(
    ("standing", "pause_s"),
    [
        (Standing.PUBLIC, FRESH_S),
        (Standing.REFUSED, FRESH_S),
        (None, FRESH_S),
        (Standing.ABSENT, LATER_S),
        (Standing.NOT_ASKED, LATER_S),
        (Standing.RATE_LIMITED, SOON_S),
        (Standing.FAILING, SOON_S),
    ],
)
def test_when_it_is_asked_again(standing: Standing | None, pause_s: float) -> None:
    made = publicity()
    made.keep([R], 0.0)
    made.asked(R, standing, 100.0)
    assert made.due(100.0 + pause_s - 1.0) is None
    assert made.due(100.0 + pause_s * (1 + STRETCH_MAX)) == R


def test_what_is_gone_is_forgotten() -> None:
    made = publicity()
    made.keep([R], 0.0)
    made.hear(R, [word("a", NOW_S), word("b", NOW_S)], NOW_S)
    made.keep([], 1.0)
    assert made.next_due_at() is None
    assert not made.is_public(R, NOW_S)
    made.asked(R, Standing.PUBLIC, 2.0)
    assert made.next_due_at() is None, "a question that was under way meanwhile"


@pytest.mark.parametrize(
    ("age_s", "voices_count", "may_be_left"),
    [
        (FRESH_S + 1, MANY_COUNT, True),
        (RENEW_BY_S - 1, MANY_COUNT + 1, True),
        (FRESH_S - 1, MANY_COUNT, False),
        (RENEW_BY_S + 1, MANY_COUNT, False),
        (FRESH_S + 1, MANY_COUNT - 1, False),
    ],
)
def test_what_many_say_is_renewed_by_a_few(age_s: float, voices_count: int, may_be_left: bool) -> None:
    made = publicity()
    # Two spoke first; a host that is heard twice or says nothing of it is no further voice.
    words = [word(str(number), NOW_S) for number in range(voices_count)]
    made.hear(R, words, NOW_S)
    words += [word("0", NOW_S), word("silent", None)]
    left_count = sum(made.leaves_it_to_others(R, words, NOW_S + age_s) for _ in range(800))
    assert (700 - 50 < left_count < 700 + 50) if may_be_left else left_count == 0


def test_what_is_not_public_is_left_to_nobody() -> None:
    words = [word(str(number), NOW_S) for number in range(9)]
    assert not any(publicity().leaves_it_to_others(R, words, NOW_S + FRESH_S + 1) for _ in range(100))


def test_hearsay_is_passed_on_with_its_own_time_and_grows_no_younger() -> None:
    first, second = publicity(), publicity()
    first.hear(R, [word("a", NOW_S - 50.0), word("b", NOW_S - 20.0)], NOW_S)
    assert first.public_at_s(R, NOW_S) == NOW_S - 50.0
    later_s = NOW_S + 1000.0
    for _ in range(3):
        second.hear(R, [word("first", first.public_at_s(R, later_s)), word("b", NOW_S - 20.0)], later_s)
        first.hear(R, [word("second", second.public_at_s(R, later_s)), word("a", NOW_S - 50.0)], later_s)
    assert first.public_at_s(R, later_s) == second.public_at_s(R, later_s) == NOW_S - 50.0


hosts = st.sampled_from(["a", "b", "c", "liar"])
times = st.one_of(st.none(), st.floats(NOW_S - 2 * WINDOW_S, NOW_S + 2 * WINDOW_S))


@given(st.lists(st.lists(st.builds(word, st.just("liar"), times))), st.floats(0.0, WINDOW_S))
def test_one_liar_alone_makes_nothing_public(rounds: list[list[Attestation]], age_s: float) -> None:
    made = publicity()
    for words in rounds:
        made.hear(R, words, NOW_S)
    assert not made.is_public(R, NOW_S + age_s)


@given(st.lists(st.builds(word, hosts, times)), st.floats(0.0, 2 * WINDOW_S))
def test_public_by_hearsay_is_what_two_hosts_said_within_the_window(
    words: list[Attestation], later_s: float
) -> None:
    made = publicity()
    made.hear(R, words, NOW_S)
    now_s = NOW_S + later_s
    if made.is_public(R, now_s):
        said = {
            one.host
            for one in words
            if one.public_at_s is not None and now_s - WINDOW_S < one.public_at_s <= NOW_S + CLOCK_TOLERANCE_S
        }
        assert len(said) >= 2
