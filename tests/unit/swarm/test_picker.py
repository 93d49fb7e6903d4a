"""Which pieces one source is asked for: a row per rule."""

from __future__ import annotations

import random

import pytest

from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import SourceKind
from mirror.swarm.params import SwarmParams
from mirror.swarm.picker import Picker, Wanted
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.rarity import Rarity
from mirror.swarm.sources import Source

COUNT = 12
LAYOUT = PieceLayout(COUNT * 10, 10)
ALL = range(COUNT)
DRAWS_COUNT = 200


def mask(*pieces: int) -> int:
    return Bitfield.holding(COUNT, pieces).mask


def wanted(
    free: int = mask(*ALL),
    window: int = 0,
    urgent: int = 0,
    is_sole: bool = False,
    is_warm: bool = False,
    room_count: int = COUNT,
    peers_count: int = 1,
) -> Wanted:
    return Wanted(free, window, urgent, 0, peers_count, is_sole, is_warm, room_count)


def source(
    *pieces: int, kind: SourceKind = SourceKind.PEER, rate: float = 0.0, distrusted: int = 0
) -> Source:
    made = Source("a")
    made.mask, made.kind, made.rate_bytes_per_s, made.distrusted = mask(*pieces), kind, rate, distrusted
    return made


def picks(
    asked: Source,
    of: Wanted,
    *,
    spared: int = 0,
    held_by: tuple[int, ...] = (),
    params: SwarmParams | None = None,
) -> set[tuple[int, int] | None]:
    """All that it may choose."""
    params = params or SwarmParams(window_ratio=1.0, run_first_bytes=30)
    rarity = Rarity()
    for held in held_by:
        rarity.add(held)
    picker = Picker(LAYOUT, params, random.Random(7))
    found = [picker.pick(asked, of, spared, rarity) for _ in range(DRAWS_COUNT)]
    return {(pieces.start, pieces.stop) if pieces is not None else None for pieces in found}


@pytest.mark.parametrize(
    ("name", "found", "expected"),
    [
        ("it holds nothing", picks(source(), wanted()), {None}),
        ("nothing of it is free", picks(source(1, 2), wanted(free=mask(3))), {None}),
        ("only what is free", picks(source(1, 2), wanted(free=mask(1, 5))), {(1, 2)}),
        ("only what it is trusted with", picks(source(1, 2, distrusted=mask(1)), wanted()), {(2, 3)}),
        ("by lot among equals", picks(source(1, 4, 9), wanted()), {(1, 2), (4, 5), (9, 10)}),
        (
            "the rarest",
            picks(source(1, 4, 9), wanted(), held_by=(mask(1, 4, 9), mask(1, 9), mask(9))),
            {(4, 5)},
        ),
        ("the window first", picks(source(1, 4, 9), wanted(window=mask(4, 5))), {(4, 5)}),
        (
            "the rarest of the window",
            picks(source(1, 4, 5), wanted(window=mask(4, 5)), held_by=(mask(4),)),
            {(5, 6)},
        ),
        (
            "a window that it cannot serve",
            picks(source(1), wanted(window=mask(4, 5))),
            {(1, 2)},
        ),
        (
            "what was waited for before all",
            picks(source(1, 4, 5), wanted(window=mask(4, 5), urgent=mask(5)), held_by=(mask(5),)),
            {(5, 6)},
        ),
        (
            "spared pieces are left to others",
            picks(source(1, 2, 3), wanted(), spared=mask(1, 2)),
            {(3, 4)},
        ),
        ("all is spared, nobody reads", picks(source(1, 2), wanted(), spared=mask(1, 2)), {None}),
        (
            "all is spared, but somebody reads it",
            picks(source(1, 2), wanted(window=mask(2)), spared=mask(1, 2)),
            {(2, 3)},
        ),
        (
            "the registry is not asked even then",
            picks(
                source(1, 2, kind=SourceKind.ORIGIN),
                wanted(window=mask(2), urgent=mask(2)),
                spared=mask(1, 2),
            ),
            {None},
        ),
        (
            "the registry, for what nobody has",
            picks(source(*ALL, kind=SourceKind.ORIGIN), wanted(), spared=mask(*range(11))),
            {(11, 12)},
        ),
        (
            "alone, its rate unknown: a short stream",
            picks(source(*ALL), wanted(is_sole=True)),
            {(0, 3)},
        ),
        (
            "alone: all in a row",
            picks(source(*ALL, rate=1.0), wanted(is_sole=True, free=mask(2, 3, 4, 5, 6, 9))),
            {(2, 7)},
        ),
        (
            "alone: from the reader on",
            picks(source(*ALL, rate=1.0), wanted(is_sole=True, window=mask(8, 9))),
            {(8, 12)},
        ),
        (
            "alone: as much as the spool takes",
            picks(source(*ALL, rate=1.0), wanted(is_sole=True, room_count=4)),
            {(0, 4)},
        ),
        (
            "our own ingest: all that is there",
            picks(source(0, 1, 2, kind=SourceKind.OWN_INGEST, rate=1.0), wanted()),
            {(0, 3)},
        ),
        ("all complete: in order", picks(source(*ALL), wanted(is_warm=True)), {(0, 1)}),
        ("all complete: half a second", picks(source(*ALL, rate=80.0), wanted(is_warm=True)), {(0, 4)}),
        (
            "all complete: the window first",
            picks(source(*ALL, rate=80.0), wanted(is_warm=True, window=mask(5, 6))),
            {(5, 7)},
        ),
    ],
)
def test_what_is_picked(
    name: str, found: set[tuple[int, int] | None], expected: set[tuple[int, int] | None]
) -> None:
    assert found == expected, name


def test_the_window_is_looked_at_first_for_its_share() -> None:
    picker = Picker(LAYOUT, SwarmParams(), random.Random(3))
    asked, of = source(0, 11), wanted(window=mask(0))
    rarity = Rarity()
    rarity.add(mask(0))
    first = [picker.pick(asked, of, 0, rarity) == range(1) for _ in range(1000)]
    assert 150 < sum(first) < 250


def test_a_run_has_its_bounds() -> None:
    params = SwarmParams(window_ratio=1.0, run_max_bytes=30)
    assert picks(source(*ALL, rate=1e9), wanted(is_warm=True), params=params) == {(0, 3)}


def test_runs_at_complete_sources_get_shorter_towards_the_end() -> None:
    """Or the last one is taken over in parts, and its source has sent them already."""
    fast = source(*ALL, rate=1e9)
    assert picks(fast, wanted(is_warm=True, peers_count=2)) == {(0, COUNT // 4)}
    assert picks(fast, wanted(free=mask(8, 9, 10, 11), is_warm=True, peers_count=2)) == {(8, 9)}
    assert picks(fast, wanted(free=mask(10, 11), is_warm=True, peers_count=2)) == {(10, 11)}
