"""The ladder hears of a body that lacks bytes when that lasts, and of all before it decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

import mirror.steer.events as on
from mirror.herd.reading import Answering, Reading
from mirror.herd.silences import TOLD_AFTER_S, Silences
from mirror.oci.digest import Digest
from mirror.steer.timers import CUT_OFF_S, DRAIN_STALL_S
from tests.support.virtual_time import run_virtual

D = Digest.of(b"any")


class Bed:
    def __init__(self, request_id: int = 1) -> None:
        self.told: list[on.Event] = []
        self.is_keen = False
        self.clock = asyncio.get_running_loop().time
        self.start = self.clock()
        self.silences = Silences(self.clock, tell=self.told.append, is_keen=lambda: self.is_keen)
        self.reading = self.begin(request_id)

    def begin(self, request_id: int) -> Reading:
        reading = Reading(
            D, request_id, None, is_head=False, at_fallback=False, transfer=cast(Answering, None)
        )
        self.note(self.silences.begun(reading))
        return reading

    def note(self, event: on.Event | None) -> None:
        if event is not None:
            self.told.append(event)

    def moves(self, offset: int) -> None:
        self.reading.position = offset
        self.note(self.silences.moved(self.reading))

    def lacks(self) -> None:
        self.note(self.silences.lacks(self.reading))

    def flows(self) -> None:
        """The ladder knows that it does."""
        self.moves(10)
        self.told.clear()


def bed(test: Callable[[Bed], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def made() -> None:
            await test(Bed())

        run_virtual(lambda _: made())

    run.__name__ = test.__name__
    return run


def test_what_is_told_late_is_told_in_time() -> None:
    assert min(DRAIN_STALL_S, CUT_OFF_S) >= 6 * TOLD_AFTER_S


@bed
async def test_headers_and_the_first_bytes_are_told_at_once(bed: Bed) -> None:
    bed.moves(10)
    bed.moves(20)
    assert bed.told == [on.Fed(1, 0), on.Fed(1, 10)]


@bed
async def test_a_moment_without_bytes_is_not_told(bed: Bed) -> None:
    bed.flows()
    for number in range(20):
        bed.lacks()
        await asyncio.sleep(0.8 * TOLD_AFTER_S)
        bed.moves(11 + number)
    await asyncio.sleep(10.0)
    assert bed.told == []


@bed
async def test_what_lasts_is_told_with_the_time_at_which_it_began(bed: Bed) -> None:
    bed.flows()
    await asyncio.sleep(1.0)
    bed.lacks()
    await asyncio.sleep(TOLD_AFTER_S - 0.01)
    assert bed.told == []
    await asyncio.sleep(0.02)
    assert bed.told == [on.Starved(1, 10, bed.start + 1.0)]
    bed.lacks()
    await asyncio.sleep(10.0)
    assert len(bed.told) == 1, "the ladder knows"
    bed.moves(20)
    assert bed.told[1:] == [on.Fed(1, 20)], "it goes on after it had none"


@bed
async def test_a_second_silence_counts_from_its_own_beginning(bed: Bed) -> None:
    bed.flows()
    bed.lacks()
    await asyncio.sleep(0.8 * TOLD_AFTER_S)
    bed.moves(20)
    bed.lacks()
    since = bed.clock()
    await asyncio.sleep(0.8 * TOLD_AFTER_S)
    assert bed.told == []
    await asyncio.sleep(0.4 * TOLD_AFTER_S)
    assert bed.told == [on.Starved(1, 20, since)]


@bed
async def test_all_is_told_before_the_ladder_decides(bed: Bed) -> None:
    bed.flows()
    bed.moves(30)
    assert bed.silences.owed() == [on.Fed(1, 30)]
    assert bed.silences.owed() == []
    bed.lacks()
    since = bed.clock()
    await asyncio.sleep(0.1)
    assert bed.silences.owed() == [on.Starved(1, 30, since)]
    await asyncio.sleep(1.0)
    assert bed.silences.owed() == bed.told == [], "it knows, and is told no second time"


@bed
async def test_a_ladder_that_drains_hears_at_once(bed: Bed) -> None:
    bed.flows()
    bed.is_keen = True
    bed.lacks()
    assert bed.told == [on.Starved(1, 10, bed.clock())]
    bed.moves(20)
    assert bed.told[1:] == [on.Fed(1, 20)]


@bed
async def test_of_who_left_nothing_is_told(bed: Bed) -> None:
    bed.flows()
    bed.lacks()
    bed.silences.left(bed.reading)
    await asyncio.sleep(1.0)
    assert bed.told == bed.silences.owed() == []
    bed.moves(20)
    bed.lacks()
    assert bed.told == []


@bed
async def test_each_of_several_is_told_in_its_time(bed: Bed) -> None:
    first, second = bed.reading, bed.begin(2)
    for reading in (second, first):
        bed.reading = reading
        bed.flows()
    bed.lacks()
    await asyncio.sleep(0.1)
    bed.reading = second
    bed.lacks()
    await asyncio.sleep(10.0)
    assert bed.told == [on.Starved(1, 10, bed.start), on.Starved(2, 10, bed.start + 0.1)]
    bed.silences.close()


@bed
async def test_nothing_is_told_after_the_end(bed: Bed) -> None:
    bed.flows()
    bed.lacks()
    bed.silences.close()
    await asyncio.sleep(1.0)
    assert bed.told == []
