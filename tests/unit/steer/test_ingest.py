"""The own ingest: growth in steps of 1 MiB, and what counts as life."""

from __future__ import annotations

from mirror.steer.ingest import Ingest
from tests.support.steer_host import MIB


def steered() -> Ingest:
    ingest = Ingest()
    ingest.steer(0.0)
    return ingest


def test_before_its_first_byte_it_is_given_ten_seconds() -> None:
    assert steered().alive_until() == 10.0


def test_an_empty_ingest_is_no_progress() -> None:
    """It stands on every host that waits."""
    ingest = steered()
    ingest.born(9 * MIB)
    assert not ingest.grew(0, 1.0)
    assert not ingest.is_growing(1.0)


def test_a_step_of_five_seconds_is_life() -> None:
    """200 KB/s."""
    ingest = steered()
    assert ingest.grew(MIB, 5.35)
    assert ingest.grew(2 * MIB, 10.7)
    assert ingest.is_growing(10.7 + 5.35)
    assert not ingest.is_growing(10.7 + 9.0)
    alive_until = ingest.alive_until()
    assert alive_until is not None
    assert abs(alive_until - (10.7 + 3 * 5.35)) < 1e-6


def test_ever_longer_steps_do_not_keep_it_alive_for_ever() -> None:
    ingest = steered()
    ingest.grew(MIB, 9.0)
    ingest.grew(2 * MIB, 100.0)
    assert ingest.alive_until() == 130.0


def test_a_shrink_is_a_new_beginning() -> None:
    ingest = steered()
    ingest.grew(4 * MIB, 1.0)
    assert not ingest.grew(MIB, 2.0)
    assert ingest.size_bytes == MIB
    assert ingest.grew(2 * MIB, 3.0)


def test_full_size_is_not_committed() -> None:
    ingest = steered()
    ingest.born(2 * MIB)
    ingest.grew(MIB, 1.0)
    assert ingest.stuck_at() is None
    ingest.grew(2 * MIB, 2.0)
    assert ingest.stuck_at() == 7.0


def test_what_grows_without_the_origin_is_not_noted_as_its_doing() -> None:
    ingest = Ingest()
    assert ingest.grew(MIB, 1.0)
    assert not ingest.is_growing(1.0)
    assert ingest.alive_until() is None
