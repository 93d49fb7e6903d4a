"""Pieces from real and from faulty peers into the spool: in order, with an end that may move, and never of two."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mirror.discovery.base import Peer
from mirror.herd.own_bytes import OwnBytes, SpoolSpace
from mirror.herd.runs import PeerRuns
from mirror.oci.digest import Digest
from mirror.peer.client import PeerClient
from mirror.peer.strangers import Strangers
from mirror.relay.errors import SpoolFull
from mirror.swarm.events import Event, Failure, PieceArrived, RequestRun, RunFailed, RunProgress
from mirror.swarm.pieces import PieceLayout
from tests.support.faulty_peer import Fault, FaultyPeer, faulty_peer
from tests.support.mirror_host import subkeys

MIB = 1024 * 1024
DATA = random.Random(9).randbytes(5 * MIB + 3)
D = Digest.of(DATA)
LAYOUT = PieceLayout(len(DATA), MIB)


@dataclass
class Bed:
    own: OwnBytes
    runs: PeerRuns
    events: list[Event]
    failed: list[str]
    disagreed: list[tuple[str, int]]
    no_room: list[str]
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def request(self, run_id: int, first: int, count: int, peer: Peer, source: str = "a") -> None:
        self.runs.request(RequestRun(run_id, source, first, count), peer)

    async def until(self, count: int, kind: type[Event] | tuple[type[Event], ...]) -> list[Event]:
        async with asyncio.timeout(10):
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
                self.came.clear()
                await self.came.wait()
        return found

    @property
    def arrived(self) -> list[tuple[int, int]]:
        return [(event.run_id, event.piece) for event in self.events if isinstance(event, PieceArrived)]

    async def read(self, first: int, stop: int) -> bytes:
        return await self.own.read(LAYOUT.span(first, stop))


@contextlib.asynccontextmanager
async def bed(folder: Path, *, is_full: bool = False) -> AsyncIterator[Bed]:
    async def make_space() -> SpoolSpace:
        if is_full:
            raise SpoolFull("no room")
        descriptor = os.open(folder / "spool", os.O_RDWR | os.O_CREAT)
        return SpoolSpace(descriptor, lambda: os.close(descriptor))

    own = OwnBytes(LAYOUT, make_space)
    events: list[Event] = []
    failed: list[str] = []
    disagreed: list[tuple[str, int]] = []
    no_room: list[str] = []
    made: list[Bed] = []
    tasks: list[asyncio.Task[None]] = []

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        tasks.append(asyncio.ensure_future(work))
        return tasks[-1]

    def tell(event: Event) -> None:
        events.append(event)
        made[0].came.set()

    async with PeerClient(subkeys(), time.time, Strangers()) as client:
        runs = PeerRuns(
            D,
            LAYOUT,
            own,
            client,
            tell=tell,
            failed=failed.append,
            disagreed=lambda source_id, size_bytes: disagreed.append((source_id, size_bytes)),
            no_room=no_room.append,
            count_bytes=lambda _, __: None,
            clock=time.monotonic,
            spawn=spawn,
        )
        made.append(Bed(own, runs, events, failed, disagreed, no_room))
        try:
            yield made[0]
        finally:
            runs.cancel_all()
            await asyncio.gather(*tasks, return_exceptions=True)
            own.close()
            await asyncio.sleep(0)


async def test_pieces_come_in_order_and_say_so(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.NONE) as peer, bed(tmp_path) as it:
        it.request(1, 1, 3, peer.peer)
        await it.until(3, PieceArrived)
        assert it.arrived == [(1, 1), (1, 2), (1, 3)]
        assert it.events[0] == RunProgress(1, MIB), "the answer began"
        assert await it.read(1, 4) == DATA[MIB : 4 * MIB]
        assert peer.gets == [f"bytes={MIB}-{4 * MIB - 1}"]
        assert len(it.runs) == 0


async def test_the_whole_is_asked_for_without_a_range(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.NONE) as peer, bed(tmp_path) as it:
        it.request(1, 0, LAYOUT.count, peer.peer)
        await it.until(LAYOUT.count, PieceArrived)
        assert await it.read(0, LAYOUT.count) == DATA
        assert peer.gets == [""]


async def test_a_run_that_breaks_keeps_the_pieces_that_came(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.FIN, 2 * MIB + 9) as peer, bed(tmp_path) as it:
        it.request(1, 0, 4, peer.peer, "breaker")
        assert await it.until(1, RunFailed) == [RunFailed(1, Failure.BROKE)]
        assert it.arrived == [(1, 0), (1, 1)]
        assert it.own.mask == 0b11
        assert it.failed == ["breaker"]


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault.ABSENT, Failure.ABSENT),
        (Fault.ERROR_500, Failure.REFUSED),
        (Fault.WRONG_RANGE, Failure.REFUSED),
        (Fault.IGNORE_RANGE, Failure.REFUSED),
        (Fault.NOT_HTTP, Failure.REFUSED),
        (Fault.STALL, Failure.SILENT),
    ],
)
async def test_what_its_failure_is(tmp_path: Path, fault: Fault, failure: Failure) -> None:
    async with faulty_peer(DATA, fault, MIB + 1) as peer, bed(tmp_path) as it:
        it.request(1, 1, 2, peer.peer, "bad")
        assert await it.until(1, RunFailed) == [RunFailed(1, failure)]
        assert it.failed == ["bad"]
        assert it.own.mask == 0


async def test_a_busy_peer_has_not_failed(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.BUSY) as peer, bed(tmp_path) as it:
        it.request(1, 1, 2, peer.peer)
        assert await it.until(1, RunFailed) == [RunFailed(1, Failure.BUSY)]
        assert it.failed == []


async def test_who_names_another_size_disagrees_and_has_not_failed(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.LONG_LENGTH, 100) as peer, bed(tmp_path) as it:
        it.request(1, 1, 2, peer.peer, "longer")
        assert await it.until(1, RunFailed) == [RunFailed(1, Failure.WRONG_SIZE)]
        assert (it.disagreed, it.failed) == ([("longer", len(DATA) + 100)], [])


async def test_a_full_disk_is_said(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.NONE) as peer, bed(tmp_path, is_full=True) as it:
        it.request(1, 0, 2, peer.peer)
        await it.until(1, RunFailed)
        assert it.no_room == ["no room"]
        assert it.own.mask == 0


async def test_a_run_that_is_trimmed_ends_earlier(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.STALL, 3 * MIB + 1) as peer, bed(tmp_path) as it:
        it.request(1, 0, 5, peer.peer)
        it.runs.trim(1, 3)
        await it.until(3, PieceArrived)
        assert len(it.runs) == 0
        assert it.arrived == [(1, 0), (1, 1), (1, 2)]
        assert not [event for event in it.events if isinstance(event, RunFailed)]


async def test_a_run_that_is_cancelled_says_and_writes_nothing_more(tmp_path: Path) -> None:
    async with faulty_peer(DATA, Fault.STALL, MIB + 100_000) as peer, bed(tmp_path) as it:
        it.request(1, 0, 3, peer.peer)
        await it.until(1, PieceArrived)
        it.runs.cancel(1)
        count = len(it.events)
        async with asyncio.timeout(5):
            while not peer.sent_spans:
                await asyncio.sleep(0)
        assert it.own.mask == 0b1
        assert len(it.events) == count
        assert len(it.runs) == 0


async def test_a_piece_is_never_of_two_sources(tmp_path: Path) -> None:
    """One brings half of it and stalls, another, which sends other bytes, brings all: all are the second's."""
    other = bytes(byte ^ 0xFF for byte in DATA)
    async with (
        faulty_peer(DATA, Fault.STALL, MIB // 2) as first,
        liar(other) as second,
        bed(tmp_path) as it,
    ):
        it.request(1, 0, 1, first.peer, "first")
        await it.until(1, RunProgress)
        it.request(2, 0, 1, second.peer, "second")
        await it.until(1, PieceArrived)
        assert it.arrived == [(2, 0)]
        assert await it.read(0, 1) == other[:MIB]
        it.runs.cancel(1)
        assert await it.read(0, 1) == other[:MIB]


async def test_the_first_of_two_runs_that_are_whole_counts(tmp_path: Path) -> None:
    other = bytes(byte ^ 0xFF for byte in DATA)
    async with faulty_peer(DATA, Fault.NONE) as first, liar(other) as second, bed(tmp_path) as it:
        it.request(1, 0, 1, first.peer, "first")
        it.request(2, 0, 1, second.peer, "second")
        await it.until(2, PieceArrived)
        winner = DATA if it.arrived[0][0] == 1 else other
        assert await it.read(0, 1) == winner[:MIB]


@contextlib.asynccontextmanager
async def liar(sent: bytes) -> AsyncIterator[FaultyPeer]:
    """Says that these are the bytes of D."""
    async with faulty_peer(DATA, Fault.NONE) as peer:
        peer.sent_instead = sent
        yield peer
