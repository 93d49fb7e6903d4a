"""When a disk has room for more."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mirror.store.disk_room import DISK_FULL_RATIO, DiskRoom


@pytest.mark.parametrize(
    ("free", "wanted", "excess"), [(1000, 840, 0), (1000, 841, 1), (160, 0, 0), (160, 7, 7), (100, 0, 60)]
)
def test_what_must_go(free: int, wanted: int, excess: int) -> None:
    assert DiskRoom(1000, free).excess_bytes(wanted) == excess


def test_as_full_as_we_make_it_a_disk_is_below_kubelet_s_threshold() -> None:
    capacity = 100_000_003
    free = capacity - int(capacity * DISK_FULL_RATIO)
    assert DiskRoom(capacity, free).excess_bytes(0) == 0
    assert 100 - free * 100 // capacity < 85
    assert DiskRoom(capacity, free - 1).excess_bytes(0) == 1


def test_a_real_disk_is_read(tmp_path: Path) -> None:
    room, disk = DiskRoom.of(tmp_path), shutil.disk_usage(tmp_path)
    assert room.capacity_bytes == disk.total
    assert 0 < room.free_bytes < disk.total
    assert room.excess_bytes(room.free_bytes, 1.0) == 0
    assert room.excess_bytes(room.free_bytes + 1, 1.0) == 1
