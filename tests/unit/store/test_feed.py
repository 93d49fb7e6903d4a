"""The feed: snapshot first, every change in order, a slow watcher told and caught up, the others left
alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost
from mirror.store.feed import ContentFeed

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))


async def ended(events: AsyncIterator[ContentEvent]) -> ContentEvent:
    async with asyncio.timeout(5):
        return await anext(events)


async def is_silent(events: AsyncIterator[ContentEvent]) -> bool:
    """Nothing is to be had now. Ends the watch."""
    waiting = asyncio.ensure_future(anext(events))
    for _ in range(5):
        await asyncio.sleep(0)
    silent = not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return silent


async def test_the_first_event_is_a_snapshot_and_changes_follow_in_order() -> None:
    feed = ContentFeed()
    feed.replace({A: 1})
    events = feed.watch()
    assert await ended(events) == Snapshot({A: 1})
    feed.add(B, 2)
    feed.remove(A)
    feed.replace({C: 3, B: 2})
    assert [await ended(events) for _ in range(3)] == [
        ContentAdded(B, 2),
        ContentRemoved(A),
        ContentAdded(C, 3),
    ]
    assert await is_silent(events)
    assert feed.sizes_bytes == {B: 2, C: 3}


async def test_what_is_known_already_is_no_event() -> None:
    feed = ContentFeed()
    feed.replace({A: 1})
    events = feed.watch()
    await ended(events)
    feed.add(A, 1)
    feed.remove(B)
    feed.replace({A: 1})
    assert await is_silent(events)


async def test_no_snapshot_before_the_index_is_true() -> None:
    feed = ContentFeed()
    feed.add(A, 1)
    early = feed.watch()
    assert await is_silent(early)
    waiting = asyncio.ensure_future(anext(feed.watch()))
    await asyncio.sleep(0)
    feed.replace({A: 1, B: 2})
    async with asyncio.timeout(5):
        assert await waiting == Snapshot({A: 1, B: 2})


async def test_a_snapshot_does_not_change_later() -> None:
    feed = ContentFeed()
    feed.replace({A: 1})
    events = feed.watch()
    snapshot = await ended(events)
    feed.remove(A)
    assert snapshot == Snapshot({A: 1})


async def test_loss_is_told_once_and_ended_by_a_snapshot() -> None:
    feed = ContentFeed()
    feed.replace({A: 1})
    events = feed.watch()
    await ended(events)
    feed.add(B, 2)
    feed.lost("stopped")
    feed.lost("still stopped")
    feed.add(C, 3)
    assert await ended(events) == ContentAdded(B, 2)
    assert await ended(events) == StreamLost("stopped")
    assert feed.size_bytes(A) == 1, "what is known stays known"
    feed.replace({A: 1})
    assert await ended(events) == Snapshot({A: 1})
    feed.lost("again")
    assert await ended(events) == StreamLost("again")


async def test_a_watch_begun_while_lost_waits_for_the_truth() -> None:
    feed = ContentFeed()
    feed.replace({A: 1})
    feed.lost("stopped")
    waiting = asyncio.ensure_future(anext(feed.watch()))
    await asyncio.sleep(0)
    feed.replace({B: 2})
    async with asyncio.timeout(5):
        assert await waiting == Snapshot({B: 2})


async def test_a_slow_watcher_gets_a_snapshot_and_the_other_every_change() -> None:
    feed = ContentFeed(watcher_queue_max_count=2)
    feed.replace({})
    slow, quick = feed.watch(), feed.watch()
    await ended(slow)
    await ended(quick)
    for digest in (A, B, C):
        feed.add(digest, 1)
        assert await ended(quick) == ContentAdded(digest, 1)
    lost = await ended(slow)
    assert isinstance(lost, StreamLost)
    assert "2" in lost.reason
    feed.remove(A)
    assert await ended(slow) == Snapshot({B: 1, C: 1})
    assert await is_silent(slow)


async def test_a_full_queue_is_not_yet_a_loss() -> None:
    feed = ContentFeed(watcher_queue_max_count=2)
    feed.replace({})
    events = feed.watch()
    await ended(events)
    feed.add(A, 1)
    feed.add(B, 1)
    assert [await ended(events), await ended(events)] == [ContentAdded(A, 1), ContentAdded(B, 1)]


async def test_a_watch_that_ended_is_forgotten() -> None:
    feed = ContentFeed()
    feed.replace({})
    events = feed.watch()
    await ended(events)
    assert await is_silent(events)
    assert not feed._watchers


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([A, B, C])),
        st.tuples(st.just("remove"), st.sampled_from([A, B, C])),
        st.tuples(st.just("replace"), st.sets(st.sampled_from([A, B, C]))),
        st.just(("lost", None)),
        st.just(("read", None)),
    )
)


@given(STEPS)
def test_whoever_follows_the_events_knows_what_the_feed_knows(steps: list[tuple[str, object]]) -> None:
    async def follow() -> None:
        feed = ContentFeed(watcher_queue_max_count=2)
        events = feed.watch()
        known: dict[Digest, int] | None = None
        reading: asyncio.Future[ContentEvent] = asyncio.ensure_future(anext(events))

        async def read_all() -> None:
            nonlocal known, reading
            for _ in range(3):
                await asyncio.sleep(0)
            while reading.done():
                match reading.result():
                    case Snapshot(sizes_bytes):
                        assert known is None
                        known = dict(sizes_bytes)
                    case ContentAdded(digest, size_bytes):
                        assert known is not None
                        known[digest] = size_bytes
                    case ContentRemoved(digest):
                        assert known is not None
                        del known[digest]
                    case StreamLost():
                        assert known is not None
                        known = None
                reading = asyncio.ensure_future(anext(events))
                for _ in range(3):
                    await asyncio.sleep(0)

        for action, argument in steps:
            match action, argument:
                case "add", Digest() as digest:
                    feed.add(digest, 1)
                case "remove", Digest() as digest:
                    feed.remove(digest)
                case "replace", set() as digests:
                    feed.replace(dict.fromkeys(digests, 1))
                case "lost", _:
                    feed.lost("gone")
                case _:
                    await read_all()
        feed.replace({A: 1})
        await read_all()
        assert known == {A: 1}
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(follow())
