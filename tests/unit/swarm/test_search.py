"""How often more sources are looked for."""

from __future__ import annotations

import math

import pytest

from mirror.swarm.params import SwarmParams
from mirror.swarm.search import Search

PARAMS = SwarmParams()
ENOUGH = PARAMS.sources_wanted_count


def again_s(source_count: int, *, is_idle: bool, heard_every_s: float = math.inf) -> float:
    """From one search to the next, in tenths of a second; infinite: none in a minute."""
    search = Search(PARAMS)
    assert search.is_due(0, 0.0, 0.0, is_idle=True)
    search.ended()
    for at in (tenth / 10 for tenth in range(600)):
        heard_at = at - at % heard_every_s
        if search.is_due(source_count, heard_at, at, is_idle=is_idle):
            return at
    return math.inf


@pytest.mark.parametrize(
    ("source_count", "is_idle", "expected_s"),
    [
        (0, True, PARAMS.find_hungry_s),
        (ENOUGH - 1, True, PARAMS.find_hungry_s),
        (ENOUGH, True, PARAMS.find_interval_s),
        (ENOUGH - 1, False, PARAMS.find_interval_s),
        (ENOUGH, False, math.inf),
    ],
)
def test_the_fewer_and_the_idler_the_sooner(source_count: int, is_idle: bool, expected_s: float) -> None:
    assert again_s(source_count, is_idle=is_idle) == pytest.approx(expected_s)


def test_between_pieces_that_come_one_by_one_is_no_hunger() -> None:
    assert again_s(1, is_idle=True, heard_every_s=0.5) == pytest.approx(PARAMS.find_interval_s)
    assert again_s(0, is_idle=True, heard_every_s=0.5) == pytest.approx(PARAMS.find_hungry_s), "they went"


def test_one_at_a_time() -> None:
    search = Search(PARAMS)
    assert search.is_due(0, 0.0, 0.0, is_idle=True)
    assert not search.is_due(0, 0.0, 100.0, is_idle=True)
    search.ended()
    assert search.is_due(0, 0.0, 100.0, is_idle=True)
