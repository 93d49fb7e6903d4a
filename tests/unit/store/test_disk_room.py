"""When a disk has room for more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mirror.store.disk_room import DISK_FULL_RATIO, DiskRoom


@pytest.mark.parametrize(
    ("used", "wanted", "excess"), [(0, 850, 0), (0, 851, 1), (850, 0, 0), (850, 7, 7), (900, 0, 50)]
)
def test_what_must_go(used: int, wanted: int, excess: int) -> None:
    assert DISK_FULL_RATIO == 0.85
    assert DiskRoom(used, 1000).excess_bytes(wanted) == excess


def test_a_real_disk_is_read_as_df_reads_it(tmp_path: Path) -> None:
    room = DiskRoom.of(tmp_path)
    disk = os.statvfs(tmp_path)
    assert 0 < room.used_bytes < room.usable_bytes <= disk.f_blocks * disk.f_frsize
    assert room.excess_bytes(room.usable_bytes, 1.0) == room.used_bytes
