from __future__ import annotations

import pytest

from mirror.web.pulse import Pulse


@pytest.mark.parametrize(
    ("after_s", "late"), [(0.0, False), (1.9, False), (2.0, False), (2.1, True), (3600.0, True)]
)
def test_it_is_late_when_there_was_no_beat_for_longer_than_may_be(after_s: float, late: bool) -> None:
    pulse = Pulse(2.0, 100.0)
    assert pulse.is_late(100.0 + after_s) is late
    assert pulse.beat(100.0 + after_s) == (pytest.approx(after_s) if late else None)


def test_a_beat_makes_up_for_what_was() -> None:
    pulse = Pulse(2.0, 0.0)
    assert pulse.beat(50.0) == 50.0
    assert not pulse.is_late(52.0)
    assert pulse.beat(52.0) is None
    assert pulse.is_late(54.5)


def test_looking_is_no_beat() -> None:
    pulse = Pulse(2.0, 0.0)
    assert [pulse.is_late(now) for now in (1.0, 2.0, 3.0, 4.0)] == [False, False, True, True]
    assert pulse.beat(5.0) == 5.0
