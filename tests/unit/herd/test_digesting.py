"""The hash follows the pieces in order, begins again where one was wrong, and says what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from mirror.herd.digesting import Digesting
from mirror.herd.own_bytes import OwnBytes, SpoolSpace
from mirror.oci.digest import Digest
from mirror.swarm.events import DigestMatched, DigestMismatched, Event, PrefixHashed
from mirror.swarm.pieces import PieceLayout

DATA = bytes(range(35))
LAYOUT = PieceLayout(len(DATA), 10)


async def no_space() -> SpoolSpace:
    raise AssertionError("a small blob needs none")


@dataclass
class Bed:
    own: OwnBytes
    digesting: Digesting
    told: list[Event]
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def bring(self, *pieces: int, flipped: int | None = None) -> None:
        for piece in pieces:
            span = LAYOUT.span(piece, piece + 1)
            data = bytearray(DATA[span.start : span.stop])
            if piece == flipped:
                data[0] ^= 1
            await self.own.write(span.start, data)
            self.own.spooled(piece)
        self.digesting.look(is_wanted=True)

    async def until(self, kind: type[Event]) -> Event:
        async with asyncio.timeout(5):
            while not any(isinstance(event, kind) for event in self.told):
                self.came.clear()
                await self.came.wait()
        return next(event for event in self.told if isinstance(event, kind))

    @property
    def hashed(self) -> list[int]:
        return [event.piece_count for event in self.told if isinstance(event, PrefixHashed)]


@contextlib.asynccontextmanager
async def bed() -> AsyncIterator[Bed]:
    told: list[Event] = []
    own = OwnBytes(LAYOUT, no_space)
    made: list[Bed] = []

    def tell(event: Event) -> None:
        told.append(event)
        made[0].came.set()

    digesting = Digesting(Digest.of(DATA), LAYOUT, own, tell, portion_bytes=20)
    made.append(Bed(own, digesting, told))
    task = asyncio.ensure_future(digesting.run())
    try:
        yield made[0]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        own.close()


async def test_it_follows_the_order_and_not_the_arrival() -> None:
    async with bed() as it:
        await it.bring(3, 1)
        await it.bring(0)
        await it.until(PrefixHashed)
        assert it.hashed == [2]
        await it.bring(2)
        assert await it.until(DigestMatched) == DigestMatched({})
        assert it.hashed == [2, 4]


async def test_it_does_not_hash_what_nobody_wants() -> None:
    async with bed() as it:
        await it.bring(0, 1, 2)
        await it.until(PrefixHashed)
        it.digesting.look(is_wanted=False)
        span = LAYOUT.span(3, 4)
        await it.own.write(span.start, DATA[span.start :])
        it.own.spooled(3)
        it.digesting.look(is_wanted=False)
        await asyncio.sleep(0)
        assert it.hashed == [2]
        it.digesting.look(is_wanted=True)
        await it.until(DigestMatched)


async def test_a_mismatch_names_the_digests_of_all_pieces() -> None:
    async with bed() as it:
        await it.bring(0, 1, 2, 3, flipped=2)
        found = await it.until(DigestMismatched)
        assert isinstance(found, DigestMismatched)
        right = [hashlib.sha256(DATA[start : start + 10]).digest() for start in range(0, 35, 10)]
        assert [mine == its for mine, its in zip(found.piece_digests, right, strict=True)] == [
            True,
            True,
            False,
            True,
        ]


async def test_after_a_wrong_piece_it_begins_again_and_says_what_the_right_one_is() -> None:
    async with bed() as it:
        await it.bring(0, 1, 2, 3, flipped=2)
        await it.until(DigestMismatched)
        it.own.forget(1 << 2)
        it.digesting.dropped((2,))
        await it.bring(2)
        assert await it.until(DigestMatched) == DigestMatched({2: hashlib.sha256(DATA[20:30]).digest()})


async def test_a_piece_that_is_dropped_while_it_is_hashed_is_hashed_again() -> None:
    async with bed() as it:
        for _ in range(20):
            it.told.clear()
            await it.bring(0, 1, 2, flipped=2)
            await asyncio.sleep(0)  # the thread has them now, or will have them
            it.own.forget(1 << 2)
            it.digesting.dropped((2,))
            await it.bring(2)
            await it.bring(3)
            await it.until(DigestMatched)
            it.own.forget(0b1111)
            it.digesting.dropped((0, 1, 2, 3))


async def test_all_is_hashed_anew_on_demand() -> None:
    async with bed() as it:
        await it.bring(0, 1, 2, 3)
        await it.until(DigestMatched)
        assert await it.digesting.is_right()
        await it.own.write(0, b"\xff")
        assert not await it.digesting.is_right()
