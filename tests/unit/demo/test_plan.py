"""What can be asked of the demo, and that it can end in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.demo.errors import DemoFailed
from mirror.demo.plan import (
    CLEAN_UP_MAX_S,
    DEADLINE_S,
    HOSTS_DEFAULT_COUNT,
    IMAGE_DEFAULT_BYTES,
    LINK_DEFAULT_BYTES_PER_S,
    LINK_TIME_MAX_S,
    DemoPlan,
)
from mirror.demo.run import check_room
from mirror.errors import SettingsError

MIB = 2**20


def test_the_defaults_leave_the_link_busy_for_about_fifteen_seconds() -> None:
    plan = DemoPlan(HOSTS_DEFAULT_COUNT, IMAGE_DEFAULT_BYTES, LINK_DEFAULT_BYTES_PER_S)
    assert 12 < plan.link_time_s < 20


def test_the_longest_run_ends_within_a_minute() -> None:
    assert LINK_TIME_MAX_S < DEADLINE_S
    assert DEADLINE_S + CLEAN_UP_MAX_S < 60


@pytest.mark.parametrize(
    ("hosts_count", "image_bytes", "link_bytes_per_s", "flag", "says"),
    [
        (1, MIB, MIB, "--hosts", "expected 2 to 10"),
        (-5, MIB, MIB, "--hosts", "-5 is out of range"),
        (11, MIB, MIB, "--hosts", "expected 2 to 10"),
        (5, MIB - 1, MIB, "--image-size", "expected 1.0 MiB to 1024.0 MiB"),
        (5, 2**40, 2**40, "--image-size", "1048576.0 MiB is out of range"),
        (5, MIB, 1, "--link-rate", "0.0 Mbit/s is too slow: expected 0.5 Mbit/s or more"),
        (5, 7 * MIB, MIB, "--image-size", "6 copies of 7.0 MiB need 42 s on a link of 8.4 Mbit/s"),
    ],
)
def test_what_cannot_be_is_refused_by_the_flag_that_mends_it(
    hosts_count: int, image_bytes: int, link_bytes_per_s: int, flag: str, says: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        DemoPlan(hosts_count, image_bytes, link_bytes_per_s)
    assert refused.value.setting == flag
    assert says in str(refused.value)


def test_a_disk_without_room_is_named() -> None:
    plan = DemoPlan(2, 10 * MIB, MIB)
    check_room(plan, Path("/tmp"), 56 * MIB)
    with pytest.raises(DemoFailed, match=r"needs 56\.0 MiB in /tmp and 55\.0 MiB are free: .*TMPDIR"):
        check_room(plan, Path("/tmp"), 55 * MIB)
