"""What readers may be handed, and whose wants count."""

from __future__ import annotations

import math

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import Bitfield, pieces_of
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.window import Window

COUNT = 20
LAYOUT = PieceLayout(COUNT * 10 - 5, 10)
PARAMS = SwarmParams(window_pieces_count=3, window_readers_count=2, urgent_s=0.5)


def held(*pieces: int) -> int:
    return Bitfield.holding(COUNT, pieces).mask


def window(*spans: tuple[int, int], is_whole_first: bool = False) -> Window:
    made = Window(LAYOUT, PARAMS, is_whole_first)
    for number, (start, stop) in enumerate(spans):
        made.open(number, ByteSpan(start, stop), 100.0)
    return made


def wants(of: Window, mask: int, now: float = 100.0) -> tuple[list[int], list[int]]:
    window_mask, urgent = of.wanted(mask, now)
    return list(pieces_of(window_mask)), list(pieces_of(urgent))


def test_a_window_begins_at_the_first_gap_and_ends_with_the_reader() -> None:
    assert wants(window((0, 195)), held()) == ([0, 1, 2], [])
    assert wants(window((0, 195)), held(0, 1, 3)) == ([2, 4], [])
    assert wants(window((25, 45)), held(2)) == ([3, 4], [])
    assert wants(window((25, 45)), held(2, 3, 4)) == ([], [])
    assert wants(window((40, 40)), held()) == ([], [])


def test_the_first_readers_that_lack_anything_count() -> None:
    three = window((0, 10), (50, 195), (100, 195))
    assert wants(three, held()) == ([0, 5, 6, 7], [])
    assert wants(three, held(0)) == ([5, 6, 7, 10, 11, 12], [])


def test_it_is_urgent_when_a_reader_has_waited() -> None:
    one = window((0, 195))
    assert wants(one, held(), 100.4)[1] == []
    assert wants(one, held(), 100.5)[1] == [0]
    assert one.releases(held(0, 1)) == [(0, 20)]
    assert wants(one, held(0, 1), 200.0)[1] == [], "he has bytes to take"
    one.move(0, 15, 200.0)
    assert one.waits_since() == math.inf
    one.move(0, 20, 201.0)
    assert one.waits_since() == 201.0
    assert wants(one, held(0, 1), 201.5)[1] == [2]


def test_released_is_what_is_held_without_a_gap_but_for_the_end() -> None:
    two = window((0, 195), (15, 32))
    assert two.releases(held(1, 2)) == [(1, 30)]
    assert two.releases(held(0, 1, 2), 0) == [(0, 30)]
    assert two.releases(held(0, 1, 2)) == []
    assert two.releases(held(0, 1, 2, 3), 3) == [(0, 40), (1, 32)]
    full = held(*range(COUNT))
    assert two.releases(full) == [(0, 190)]
    two.verified()
    assert two.releases(full) == [(0, 195)]
    two.check(full)


def test_with_whole_first_nothing_leaves_before() -> None:
    one = window((0, 195), is_whole_first=True)
    full = held(*range(COUNT))
    assert one.releases(full) == []
    one.verified()
    assert one.releases(full) == [(0, 195)]


def test_who_may_have_been_handed_a_piece() -> None:
    three = window((0, 195), (50, 195), (0, 15))
    three.releases(held(0, 1, 2, 5, 6))
    assert three.spoiled_by(held(3, 4)) == []
    assert three.spoiled_by(held(2)) == [0]
    assert three.spoiled_by(held(1, 6)) == [1, 2]
    assert len(three) == 0
