"""Tags in memory, for tests of what stands on the port. Passes the port's conformance suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from mirror.tags.base import OwnTag, TagName
from mirror.tags.source import OwnTags, TagEvent, TagGone, TagSet, TagsLost


class MemoryTags:
    """`watchers_count`: how many watches have begun and not ended."""

    def __init__(self, *tags: OwnTag) -> None:
        self._tags = {tag.name: tag for tag in tags}
        self._queues: set[asyncio.Queue[TagEvent]] = set()
        self._is_away = False

    @property
    def watchers_count(self) -> int:
        return len(self._queues)

    def put(self, tag: OwnTag) -> None:
        """Known to watchers at once, unless the source is away."""
        if self._tags.get(tag.name) != tag:
            self._tags[tag.name] = tag
            self._say(TagSet(tag))

    def remove(self, name: TagName) -> None:
        if self._tags.pop(name, None) is not None:
            self._say(TagGone(name))

    def go_away(self, reason: str) -> None:
        self._say(TagsLost(reason))
        self._is_away = True

    def come_back(self) -> None:
        self._is_away = False
        self._say(OwnTags(dict(self._tags)))

    async def watch_tags(self) -> AsyncGenerator[TagEvent, None]:
        queue: asyncio.Queue[TagEvent] = asyncio.Queue()
        self._queues.add(queue)
        try:
            if not self._is_away:
                queue.put_nowait(OwnTags(dict(self._tags)))
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    def _say(self, event: TagEvent) -> None:
        if not self._is_away:
            for queue in self._queues:
                queue.put_nowait(event)
