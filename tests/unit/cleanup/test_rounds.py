"""When many hosts are clean, and what is said when they are not."""

from __future__ import annotations

import pytest

from mirror.cleanup.rounds import NAMED_MAX_COUNT, SETTLED_ROUNDS_COUNT, SETTLED_S, Round, Rounds

CLEAN = Round({"10.0.0.1": None, "10.0.0.2": None})
ONE_IS_NOT = Round({"10.0.0.1": None, "10.0.0.2": "port 29021 is not open: Connection refused"})
NOBODY = Round({}, "Name or service not known")


def when(rounds: list[tuple[float, Round]]) -> float | None:
    """The time of the round after which all are clean."""
    decided = Rounds("peili-cleanup")
    for now_s, round_ in rounds:
        if decided.heard(round_, now_s):
            return now_s
    return None


def every_second(round_: Round, begin_s: int, end_s: int) -> list[tuple[float, Round]]:
    return [(float(now_s), round_) for now_s in range(begin_s, end_s)]


def test_clean_for_long_enough() -> None:
    assert when(every_second(CLEAN, 10, 100)) == 10 + SETTLED_S


def test_a_name_without_hosts_is_never_clean() -> None:
    assert when(every_second(NOBODY, 0, 1000)) is None


def test_one_that_is_not_clean_is_waited_for() -> None:
    assert when(every_second(ONE_IS_NOT, 0, 1000)) is None
    assert when(
        every_second(CLEAN, 0, 30) + every_second(ONE_IS_NOT, 30, 31) + every_second(CLEAN, 31, 99)
    ) == (31 + SETTLED_S)


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["10.0.0.1", "10.0.0.2", "10.0.0.3"]])
def test_a_list_that_changes_begins_the_time_anew(addresses: list[str]) -> None:
    """A name server's cache may hold the list of a moment ago."""
    changed = Round(dict.fromkeys(addresses))
    assert when(every_second(CLEAN, 0, 30) + every_second(changed, 30, 99)) == 30 + SETTLED_S


def test_time_that_passes_without_rounds_does_not_count() -> None:
    assert when([(0.0, CLEAN), (500.0, CLEAN)]) is None
    assert when([(0.0, CLEAN), (500.0, CLEAN), (501.0, CLEAN)]) == 501.0
    assert SETTLED_ROUNDS_COUNT == 3


def test_what_is_said() -> None:
    rounds = Rounds("peili-cleanup")
    assert rounds.standing == "peili-cleanup leads to no host yet: it was not asked for yet"
    rounds.heard(NOBODY, 0.0)
    assert rounds.standing == "peili-cleanup leads to no host yet: Name or service not known"
    rounds.heard(ONE_IS_NOT, 1.0)
    assert rounds.standing == "1 of 2 hosts are clean"
    first, named, todo = rounds.failure(240.2).splitlines()
    assert first == "gave up after 240 s: 1 of 2 hosts are clean"
    assert named == "  10.0.0.2: port 29021 is not open: Connection refused"
    assert "docs/kubernetes.md" in todo


def test_a_long_list_is_cut() -> None:
    rounds = Rounds("x")
    rounds.heard(Round({f"10.0.0.{number}": "no answer" for number in range(100)}), 0.0)
    lines = rounds.failure(1).splitlines()
    assert len(lines) == NAMED_MAX_COUNT + 3 and lines[-2] == "  and 80 more"


def test_all_answer_but_not_for_long_enough() -> None:
    rounds = Rounds("x")
    rounds.heard(CLEAN, 0.0)
    assert "all of them answer, but not for long enough" in rounds.failure(1)
