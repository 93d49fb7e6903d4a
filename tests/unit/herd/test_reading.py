"""One request from its question to its end: orders in any order, and nothing begun without a byte."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from mirror.herd.errors import EndedEarly, Missed
from mirror.herd.own_bytes import Portion
from mirror.herd.reading import Reading
from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerError
from mirror.steer.events import OriginRefused, RefusalKind

DATA = bytes(range(100))
D = Digest.of(DATA)
T = TypeVar("T")


@dataclass
class Transfer:
    """Has what it is said to have."""

    size: int | None = len(DATA)
    has_bytes: bool = True
    told: list[tuple[str, int]] = field(default_factory=list)
    refusals: list[OriginRefused] = field(default_factory=list)

    def size_bytes(self) -> int | None:
        return self.size

    def portions(self, span: ByteSpan) -> list[Portion] | None:
        return [Portion(0, span)] if self.has_bytes else None

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def read(self, span: ByteSpan) -> bytes:
        return DATA[span.start : span.stop]

    def begun(self, reading: Reading) -> None:
        self.told.append(("begun", reading.position))

    def moved(self, reading: Reading) -> None:
        self.told.append(("moved", reading.position))

    def starved(self, reading: Reading) -> None:
        self.told.append(("starved", reading.position))

    def refused(self, event: OriginRefused) -> None:
        self.refusals.append(event)

    def stretch_stop(self, reading: Reading) -> int:
        return reading.position

    def streamed(self, reading: Reading, span: ByteSpan, waited_s: float) -> None:
        raise AssertionError("nothing is streamed")

    def leave_stream(self, reading: Reading) -> None:
        raise AssertionError("nothing is streamed")

    def broke(self, reading: Reading, exc: PeerError) -> None:
        raise AssertionError("nothing is streamed")


def reading_of(transfer: Transfer, byte_range: ByteRange | None = None, *, is_head: bool = False) -> Reading:
    made = Reading(D, 1, byte_range, is_head=is_head, at_fallback=False, transfer=transfer)
    if transfer.size is not None:
        made.open(transfer.size)
    return made


async def waits(work: Awaitable[T]) -> asyncio.Future[T]:
    """It has run as far as it can, and waits."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def soon(task: asyncio.Future[T]) -> T:
    async with asyncio.timeout(5):
        return await task


# -- the first byte --------------------------------------------------------------------------------------------------


async def test_headers_leave_with_the_first_byte_in_hand() -> None:
    """Four bodies that end without a byte fail a pull."""
    transfer = Transfer()
    reading = reading_of(transfer)
    reading.feed()
    begun = await waits(reading.begin())
    assert not reading.is_begun
    reading.release(1)
    assert await soon(begun) == ByteSpan(0, 100)
    assert reading.is_begun
    assert transfer.told == [("begun", 0)]


async def test_bytes_without_an_order_begin_nothing() -> None:
    reading = reading_of(Transfer())
    reading.release(50)
    begun = await waits(reading.begin())
    reading.feed()
    await soon(begun)


@pytest.mark.parametrize("is_fed", [True, False])
async def test_an_end_before_the_first_byte_is_a_404(is_fed: bool) -> None:
    for is_missed in (True, False):
        reading = reading_of(Transfer())
        if is_fed:
            reading.feed()
        begun = await waits(reading.begin())
        if is_missed:
            reading.miss("nobody has it")
        else:
            reading.end()
        with pytest.raises(Missed):
            await soon(begun)


async def test_a_first_byte_that_was_dropped_is_a_404() -> None:
    transfer = Transfer(has_bytes=False)
    reading = reading_of(transfer)
    reading.feed()
    reading.release(10)
    with pytest.raises(Missed, match="dropped"):
        await reading.begin()
    assert not reading.is_begun


async def test_a_head_begins_when_the_size_is_known() -> None:
    transfer = Transfer(size=None)
    reading = reading_of(transfer, ByteRange.parse("bytes=5-"), is_head=True)
    reading.feed()
    begun = await waits(reading.begin())
    transfer.size = 100
    reading.open(100)
    assert await soon(begun) == ByteSpan(0, 100)
    assert transfer.told == [], "a HEAD has no body"


async def test_a_range_outside_of_the_blob_is_said_when_the_size_is_known() -> None:
    transfer = Transfer(size=None)
    reading = reading_of(transfer, ByteRange.parse("bytes=100-"))
    begun = await waits(reading.begin())
    assert reading.open(100) is None
    with pytest.raises(RangeInvalid):
        await soon(begun)


async def test_a_size_that_was_wrong_is_forgotten_before_the_body_begins() -> None:
    reading = reading_of(Transfer(), ByteRange.parse("bytes=10-"))
    reading.forget_size()
    assert reading.open(50) == ByteSpan(10, 50)
    assert reading.position == 10


# -- the body --------------------------------------------------------------------------------------------------------


async def test_it_gives_what_is_released_and_says_when_it_has_no_more() -> None:
    transfer = Transfer()
    reading = reading_of(transfer, ByteRange.parse("bytes=10-69"))
    reading.feed()
    reading.release(30)
    assert await reading.begin() == ByteSpan(10, 70)
    portions = reading.portions()
    assert (await anext(portions)).span == ByteSpan(10, 30)
    more = await waits(anext(portions))
    assert transfer.told == [("begun", 10), ("moved", 30), ("starved", 30)]
    reading.release(70)
    assert (await soon(more)).span == ByteSpan(30, 70)
    with pytest.raises(StopAsyncIteration):
        await anext(portions)
    assert transfer.told[3:] == [("moved", 70)], "it goes on after it had none"


async def test_a_pause_sends_what_was_in_hand_and_no_more() -> None:
    reading = reading_of(Transfer())
    reading.feed()
    reading.release(30)
    await reading.begin()
    reading.pause()
    reading.release(60)
    portions = reading.portions()
    assert (await anext(portions)).span == ByteSpan(0, 30)
    more = await waits(anext(portions))
    reading.resume()
    assert (await soon(more)).span == ByteSpan(30, 60)


@pytest.mark.parametrize("is_paused", [True, False])
async def test_an_end_in_the_middle_ends_the_body_where_it_is(is_paused: bool) -> None:
    reading = reading_of(Transfer())
    reading.feed()
    reading.release(30)
    await reading.begin()
    portions = reading.portions()
    await anext(portions)
    if is_paused:
        reading.pause()
    more = await waits(anext(portions))
    reading.end()
    with pytest.raises(EndedEarly, match="ended at 30"):
        await soon(more)


async def test_an_end_comes_before_bytes_that_are_in_hand() -> None:
    """They may be wrong."""
    reading = reading_of(Transfer())
    reading.feed()
    reading.release(30)
    await reading.begin()
    portions = reading.portions()
    await anext(portions)
    reading.release(60)
    reading.end()
    with pytest.raises(EndedEarly, match="ended at 30"):
        await anext(portions)


async def test_bytes_that_were_dropped_end_the_body() -> None:
    transfer = Transfer()
    reading = reading_of(transfer)
    reading.feed()
    reading.release(30)
    await reading.begin()
    transfer.has_bytes = False
    with pytest.raises(EndedEarly):
        await anext(reading.portions())


# -- all at once -----------------------------------------------------------------------------------------------------


async def test_the_whole_is_given_when_all_is_released() -> None:
    reading = reading_of(Transfer())
    reading.feed()
    reading.release(99)
    whole = await waits(reading.whole(1000))
    reading.release(100)
    assert await soon(whole) == DATA


async def test_more_than_was_asked_for_is_a_404_before_it_comes() -> None:
    reading = reading_of(Transfer())
    reading.feed()
    with pytest.raises(Missed, match="over the limit"):
        await reading.whole(99)


def test_why_the_origin_failed_is_passed_on() -> None:
    transfer = Transfer()
    reading_of(transfer).origin_refused(RefusalKind.ABSENT)
    assert transfer.refusals == [OriginRefused(1, RefusalKind.ABSENT)]
