"""How often more sources are looked for."""

from __future__ import annotations

import pytest

from mirror.swarm.params import SwarmParams
from mirror.swarm.search import Search

PARAMS = SwarmParams()
ENOUGH = PARAMS.sources_wanted_count


def again_s(source_count: int, *, is_hungry: bool) -> float:
    """From one search to the next, in tenths of a second; infinite: none in a minute."""
    search = Search(PARAMS)
    assert search.is_due(0, 0.0, is_hungry=True)
    search.ended()
    tenths = (tenth / 10 for tenth in range(600))
    return next((at for at in tenths if search.is_due(source_count, at, is_hungry=is_hungry)), float("inf"))


@pytest.mark.parametrize(
    ("source_count", "is_hungry", "expected_s"),
    [
        (0, True, PARAMS.find_hungry_s),
        (ENOUGH - 1, True, PARAMS.find_hungry_s),
        (ENOUGH, True, PARAMS.find_interval_s),
        (ENOUGH - 1, False, PARAMS.find_interval_s),
        (ENOUGH, False, float("inf")),
    ],
)
def test_the_fewer_and_the_idler_the_sooner(source_count: int, is_hungry: bool, expected_s: float) -> None:
    assert again_s(source_count, is_hungry=is_hungry) == pytest.approx(expected_s)


def test_one_at_a_time() -> None:
    search = Search(PARAMS)
    assert search.is_due(0, 0.0, is_hungry=True)
    assert not search.is_due(0, 100.0, is_hungry=True)
    search.ended()
    assert search.is_due(0, 100.0, is_hungry=True)
