"""The tags of this host's containerd: images of the watched namespaces whose content came from where their name points,
and those that were imported under their name.

Rules
1. The subscription is open before the list is read, and the list is read again whenever the stream was lost.
2. An event names an image and says no more (source: containerd's event payloads): the image is looked up, and so is
   the content that it points to, whose label tells where it came from.
3. A name in two namespaces is the one that was written last.

Writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from containerd.client import Client
from containerd.errors import ContainerdError, NotFound
from containerd.filters import all_of, equals, matches
from containerd.types import Image, ImageCreated, ImageDeleted, ImageUpdated
from mirror.oci.digest import Digest, DigestInvalid
from mirror.tags.base import OwnTag, TagName
from mirror.tags.image_name import came_from, parse_tag_name, was_imported
from mirror.tags.source import OwnTags, TagEvent, TagGone, TagSet, TagsLost

# How long to wait before containerd is tried again; it restarts in about a second.
RETRY_S = 1.0


class ContainerdTags:
    """Implements `TagSource`, with a connection of its own for each watch."""

    def __init__(self, socket_path: Path, *, namespaces: Sequence[str]) -> None:
        self._socket_path = socket_path
        self._namespaces = tuple(dict.fromkeys(namespaces))
        self._signs = [
            all_of(equals("namespace", value=namespace), matches("topic", regex="^/images/"))
            for namespace in self._namespaces
        ]

    async def watch_tags(self) -> AsyncGenerator[TagEvent, None]:
        """As `TagSource.watch_tags`. Says nothing until containerd has answered."""
        is_known = False
        while True:
            try:
                async with (
                    Client(self._socket_path) as client,
                    client.events.subscribe(*self._signs) as events,
                ):
                    records = await self._list(client)
                    is_known = True
                    yield OwnTags(records.newest())
                    async for event in events:
                        if isinstance(event, ImageCreated | ImageUpdated | ImageDeleted):
                            change = await _look(client, records, event.namespace, event.name)
                            if change is not None:
                                yield change
            except ContainerdError as exc:
                if is_known:
                    is_known = False
                    yield TagsLost(str(exc))
            await asyncio.sleep(RETRY_S)

    async def _list(self, client: Client) -> _Records:
        records = _Records()
        for namespace in self._namespaces:
            for image in await client.images(namespace).list():
                name = parse_tag_name(image.name)
                if name is not None:
                    records.put(namespace, name, await _own_tag(client, namespace, name, image))
        return records


class _Records:
    """What each namespace has under a name."""

    def __init__(self) -> None:
        self._by_namespace: dict[TagName, dict[str, OwnTag]] = {}

    def newest(self) -> dict[TagName, OwnTag]:
        return {name: _newest(tags) for name, tags in self._by_namespace.items()}

    def put(self, namespace: str, name: TagName, tag: OwnTag | None) -> TagSet | TagGone | None:
        """`tag` None: the namespace has none. The change, if there is one."""
        tags = self._by_namespace.setdefault(name, {})
        before = _newest(tags) if tags else None
        tags.pop(namespace, None)
        if tag is not None:
            tags[namespace] = tag
        if not tags:
            del self._by_namespace[name]
            return None if before is None else TagGone(name)
        after = _newest(tags)
        return None if after == before else TagSet(after)


def _newest(tags: dict[str, OwnTag]) -> OwnTag:
    return max(tags.values(), key=lambda tag: tag.pulled_at_s)


async def _look(client: Client, records: _Records, namespace: str, text: str) -> TagEvent | None:
    name = parse_tag_name(text)
    if name is None:
        return None
    try:
        image = await client.images(namespace).get(text)
    except NotFound:
        return records.put(namespace, name, None)
    return records.put(namespace, name, await _own_tag(client, namespace, name, image))


async def _own_tag(client: Client, namespace: str, name: TagName, image: Image) -> OwnTag | None:
    try:
        digest = Digest.parse(image.target.digest)
        content = await client.content(namespace).info(image.target.digest)
    except (DigestInvalid, NotFound):
        return None
    is_pulled = came_from(content.labels, name.repository)
    if not (is_pulled or was_imported(image.labels, digest)):
        return None
    return OwnTag(name, digest, image.updated_at.timestamp(), is_imported=not is_pulled)
