"""Every watcher hears what there is and then everything, and a slow one costs nobody anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from mirror.ingest.base import Born, Committed, EventsLost, Grew, IngestEvent, Vanished, WatchEvent
from mirror.ingest.feed import IngestFeed
from mirror.oci.digest import Digest

A, B = Digest.of(b"a"), Digest.of(b"b")
BORN_A = Born("one", f"layer-{A}", A, 9)


async def take(events: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
    async with asyncio.timeout(5):
        return [await anext(events) for _ in range(count)]


async def test_unread_growth_becomes_one_and_keeps_its_place() -> None:
    present: list[IngestEvent] = [BORN_A]
    feed = IngestFeed(lambda: present)
    events = feed.watch()
    assert await take(events, 1) == [BORN_A]
    for event in (
        Grew(A, 1),
        Grew(B, 5),
        Grew(A, 2),
        Grew(A, 3),
        Vanished(A),
        BORN_A,
        Grew(A, 1),
        Grew(A, 4),
    ):
        feed.tell(event)
    assert await take(events, 5) == [Grew(A, 3), Grew(B, 5), Vanished(A), BORN_A, Grew(A, 4)]
    feed.tell(Grew(A, 5))
    assert await take(events, 1) == [Grew(A, 5)]


async def test_growth_after_what_was_read_is_told_again() -> None:
    feed = IngestFeed(lambda: [BORN_A])
    events = feed.watch()
    await take(events, 1)
    for size_bytes in (1, 2, 3):
        feed.tell(Grew(A, size_bytes))
        assert await take(events, 1) == [Grew(A, size_bytes)]


async def test_a_watcher_that_falls_behind_begins_again_and_the_others_do_not() -> None:
    present: list[IngestEvent] = []
    feed = IngestFeed(lambda: present, watcher_queue_max_count=3)
    slow, quick = feed.watch(), feed.watch()
    feed_all = asyncio.gather(take(slow, 1), take(quick, 1))
    await asyncio.sleep(0)
    feed.tell(Committed(B))
    await feed_all
    heard: list[WatchEvent] = []
    present.append(BORN_A)
    for number in range(5):
        event = Committed(Digest.of(bytes([number])))
        feed.tell(event)
        heard += await take(quick, 1)
        assert heard[-1] == event
    lost, *rest = await take(slow, 2)
    assert isinstance(lost, EventsLost) and "more than 3" in lost.reason
    assert rest == [BORN_A]
    feed.tell(Grew(A, 1))
    assert await take(slow, 1) == [Grew(A, 1)]


async def test_a_watch_that_ends_is_forgotten() -> None:
    feed = IngestFeed(lambda: [BORN_A])
    for _ in range(3):
        events = feed.watch()
        await take(events, 1)
        await events.aclose()  # type: ignore[attr-defined]
    feed.tell(Grew(A, 1))
    late = feed.watch()
    assert await take(late, 1) == [BORN_A]


async def test_growth_may_be_late_where_each_watch_says_so() -> None:
    feed = IngestFeed(lambda: [BORN_A])
    first, second = feed.watch(lambda digest: digest == A), feed.watch(lambda _: True)
    assert feed.is_patient(B), "nobody watches"
    await asyncio.gather(take(first, 1), take(second, 1))
    assert (feed.is_patient(A), feed.is_patient(B)) == (True, False)
    third = feed.watch()
    await take(third, 1)
    assert not feed.is_patient(A)
