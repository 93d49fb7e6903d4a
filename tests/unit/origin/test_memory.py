"""What is remembered of origins: for how long, how much, and what a clock that goes back does to it."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mirror.origin.base import Repository, Standing
from mirror.origin.memory import (
    PRIVATE_MAX_COUNT,
    PUBLIC_MAX_COUNT,
    REFERENCES_MAX_COUNT,
    REGISTRIES_MAX_COUNT,
    WINDOW_S,
    OriginMemory,
    Remembered,
)

NOW_S = 1_800_000_000.0
NGINX = Repository("docker.io", "library/nginx")
OURS = Repository("registry.corp:5000", "team/app")


def seen(*standings: Standing, reference: str = "1") -> OriginMemory:
    memory = OriginMemory()
    for standing in standings:
        memory.note(NGINX, reference, standing, NOW_S)
    return memory


@pytest.mark.parametrize(
    ("standing", "is_reached"),
    [
        (Standing.PUBLIC, True),
        (Standing.REFUSED, True),
        (Standing.ABSENT, True),
        (Standing.RATE_LIMITED, True),
        (Standing.FAILING, False),
        (Standing.NOT_ASKED, False),
    ],
)
def test_a_registry_that_answered_at_all_was_reached(standing: Standing, is_reached: bool) -> None:
    memory = seen(standing)
    assert memory.was_reached_lately("docker.io", NOW_S) is is_reached
    assert not memory.was_reached_lately("ghcr.io", NOW_S)
    assert memory.is_public_lately(NGINX, NOW_S) is (standing is Standing.PUBLIC)


def test_what_others_saw_of_a_registry_counts() -> None:
    memory = OriginMemory()
    memory.reached("ghcr.io", NOW_S)
    assert memory.was_reached_lately("ghcr.io", NOW_S + 1)


def test_the_window() -> None:
    memory = seen(Standing.PUBLIC)
    before, after = NOW_S + WINDOW_S - 1, NOW_S + WINDOW_S
    assert memory.recall(NGINX, before) == Remembered(True, True, None)
    assert memory.public_at_s(NGINX, before) == NOW_S
    assert memory.recall(NGINX, after) == Remembered(False, False, None)
    refused = seen(Standing.REFUSED)
    assert refused.recall(NGINX, before) == Remembered(True, False, NOW_S)
    assert refused.recall(NGINX, after) == Remembered(False, False, None)


@pytest.mark.parametrize(
    ("standing", "is_still_public"),
    [
        (Standing.REFUSED, False),
        (Standing.ABSENT, False),
        (Standing.RATE_LIMITED, True),
        (Standing.FAILING, True),
        (Standing.NOT_ASKED, True),
    ],
)
def test_what_ends_being_public(standing: Standing, is_still_public: bool) -> None:
    memory = seen(Standing.PUBLIC, standing)
    assert memory.is_public_lately(NGINX, NOW_S) is is_still_public
    assert (memory.recall(NGINX, NOW_S).private_at_s is None) is is_still_public
    memory.note(NGINX, "1", Standing.PUBLIC, NOW_S)
    assert memory.recall(NGINX, NOW_S) == Remembered(True, True, None)


def test_a_tag_that_never_was_ends_nothing() -> None:
    memory = seen(Standing.PUBLIC)
    memory.note(NGINX, "lates", Standing.ABSENT, NOW_S)
    assert memory.is_public_lately(NGINX, NOW_S)
    memory.note(OURS, "1", Standing.ABSENT, NOW_S)
    assert memory.recall(OURS, NOW_S) == Remembered(True, False, None)


def test_the_last_references_that_were_public_are_known() -> None:
    memory = OriginMemory()
    for tag in range(REFERENCES_MAX_COUNT):
        memory.note(NGINX, str(tag), Standing.PUBLIC, NOW_S)
    memory.note(NGINX, "0", Standing.PUBLIC, NOW_S)
    memory.note(NGINX, "new", Standing.PUBLIC, NOW_S)
    (found,) = memory.findings(NOW_S).public.values()
    assert found.references == ("2", "3", "0", "new")


def test_it_is_bounded_and_the_oldest_goes() -> None:
    memory = OriginMemory()
    for number in range(PUBLIC_MAX_COUNT + 1):
        memory.note(Repository("docker.io", f"public/{number}"), "1", Standing.PUBLIC, NOW_S + number)
    for number in range(PRIVATE_MAX_COUNT + 1):
        memory.note(Repository("docker.io", f"private/{number}"), "1", Standing.REFUSED, NOW_S + number)
    for number in range(REGISTRIES_MAX_COUNT + 1):
        memory.reached(f"r{number}.example", NOW_S + PUBLIC_MAX_COUNT)
    later_s = NOW_S + PUBLIC_MAX_COUNT
    assert not memory.is_public_lately(Repository("docker.io", "public/0"), later_s)
    assert memory.is_public_lately(Repository("docker.io", "public/1"), later_s)
    assert memory.recall(Repository("docker.io", "private/0"), later_s).private_at_s is None
    assert memory.recall(Repository("docker.io", "private/1"), later_s).private_at_s is not None
    assert not memory.was_reached_lately("r0.example", later_s)
    assert memory.was_reached_lately("r1.example", later_s)
    findings = memory.findings(later_s)
    assert (len(findings.public), len(findings.private_at_s), len(findings.reached_at_s)) == (
        PUBLIC_MAX_COUNT,
        PRIVATE_MAX_COUNT,
        REGISTRIES_MAX_COUNT,
    )


def test_what_was_seen_again_is_not_the_oldest() -> None:
    memory = OriginMemory()
    for number in (*range(PUBLIC_MAX_COUNT), 0, PUBLIC_MAX_COUNT):
        memory.note(Repository("docker.io", f"public/{number}"), "1", Standing.PUBLIC, NOW_S)
    assert memory.is_public_lately(Repository("docker.io", "public/0"), NOW_S)
    assert not memory.is_public_lately(Repository("docker.io", "public/1"), NOW_S)


def test_strangers_names_do_not_push_out_what_is_public() -> None:
    memory = seen(Standing.PUBLIC)
    for number in range(PUBLIC_MAX_COUNT + 1):
        memory.note(Repository("docker.io", f"invented/{number}"), "1", Standing.REFUSED, NOW_S)
    assert memory.is_public_lately(NGINX, NOW_S)


def test_a_clock_that_goes_back_prolongs_nothing() -> None:
    memory = seen(Standing.PUBLIC)
    day_s = 24 * 3600.0
    assert memory.is_public_lately(NGINX, NOW_S + 6 * day_s)
    # Three days back: six of the seven days are over still.
    assert memory.is_public_lately(NGINX, NOW_S + 3 * day_s)
    assert memory.public_at_s(NGINX, NOW_S + 3 * day_s) == NOW_S - 3 * day_s
    assert memory.is_public_lately(NGINX, NOW_S + 3.9 * day_s)
    assert not memory.is_public_lately(NGINX, NOW_S + 4 * day_s)


def test_what_is_found_after_the_clock_went_back_is_as_new_as_ever() -> None:
    memory = seen(Standing.PUBLIC)
    early_s = NOW_S - 1e9
    memory.note(OURS, "1", Standing.PUBLIC, early_s)
    assert memory.public_at_s(OURS, early_s) == early_s
    assert memory.is_public_lately(OURS, early_s + WINDOW_S - 1)
    assert not memory.is_public_lately(OURS, early_s + WINDOW_S)


def test_a_restart_keeps_ages_too() -> None:
    memory = seen(Standing.PUBLIC)
    memory.note(OURS, "1", Standing.REFUSED, NOW_S + 50)
    day_s = 24 * 3600.0
    saved = memory.findings(NOW_S + 2 * day_s)
    assert saved.saved_at_s == NOW_S + 2 * day_s
    later = OriginMemory(saved, NOW_S + 3 * day_s)
    assert later.recall(NGINX, NOW_S + 3 * day_s) == Remembered(True, True, None)
    assert later.recall(OURS, NOW_S + 3 * day_s) == Remembered(True, False, NOW_S + 50)
    assert later.changes_count == 0
    # A day less on the clock than when it was saved: it is two days old all the same.
    back = OriginMemory(saved, NOW_S + day_s)
    assert back.public_at_s(NGINX, NOW_S + day_s) == NOW_S - day_s
    again = OriginMemory(back.findings(NOW_S + day_s), NOW_S + day_s)
    assert again.public_at_s(NGINX, NOW_S + day_s) == NOW_S - day_s
    assert not back.is_public_lately(NGINX, NOW_S + 6 * day_s)
    assert OriginMemory(saved, NOW_S + 30 * day_s).findings(NOW_S + 30 * day_s).public == {}


REPOSITORIES = (NGINX, Repository("docker.io", "library/redis"), OURS)


class Remembering(RuleBasedStateMachine):
    """The model knows the true time, and counts ages by all steps of the clock that went forward."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = OriginMemory()
        self.wall_s = NOW_S
        self.passed_s = 0.0
        self.public: dict[Repository, float] = {}

    @rule(seconds=st.floats(0, WINDOW_S * 0.6))
    def wait(self, seconds: float) -> None:
        self.wall_s += seconds
        self.passed_s += seconds
        self.memory.was_reached_lately("docker.io", self.wall_s)

    @rule(seconds=st.floats(0, WINDOW_S))
    def set_back(self, seconds: float) -> None:
        self.wall_s -= seconds
        self.memory.was_reached_lately("docker.io", self.wall_s)

    @rule(repository=st.sampled_from(REPOSITORIES), standing=st.sampled_from(Standing))
    def note(self, repository: Repository, standing: Standing) -> None:
        self.memory.note(repository, "1", standing, self.wall_s)
        if standing is Standing.PUBLIC:
            self.public[repository] = self.passed_s
        elif standing in (Standing.REFUSED, Standing.ABSENT):
            self.public.pop(repository, None)

    @rule(is_clock_back=st.booleans())
    def restart(self, is_clock_back: bool) -> None:
        findings = self.memory.findings(self.wall_s)
        assert all(found.at_s <= findings.saved_at_s for found in findings.public.values())
        if is_clock_back:
            self.wall_s -= 1000.0
        self.memory = OriginMemory(findings, self.wall_s)

    @invariant()
    def nothing_lives_longer_than_the_window(self) -> None:
        for repository in REPOSITORIES:
            at_s = self.public.get(repository)
            age_s = None if at_s is None else self.passed_s - at_s
            if age_s is not None and abs(age_s - WINDOW_S) < 1e-3:
                continue  # sums of floats differ in their last digits
            is_public = age_s is not None and age_s < WINDOW_S
            assert self.memory.is_public_lately(repository, self.wall_s) is is_public
            recalled = self.memory.recall(repository, self.wall_s)
            assert not (recalled.is_public_lately and recalled.private_at_s is not None)


TestRemembering = Remembering.TestCase
