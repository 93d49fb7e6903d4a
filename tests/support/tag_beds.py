"""A tag source with something behind it that images come into and go from, for each kind of source."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from containerd.client import Client
from containerd.errors import AlreadyExists
from containerd.types import Descriptor
from mirror.oci.digest import Digest
from mirror.store.containerd_tags import ContainerdTags
from mirror.tags.base import OwnTag, TagName
from mirror.tags.image_name import IMPORTED_LABEL, parse_tag_name
from mirror.tags.source import OwnTags, TagGone, TagSet, TagsLost, TagSource
from tests.support.containerd_calls import GC_ROOT, Runtime, add_blob
from tests.support.fake_containerd import FakeContainerd
from tests.support.memory_tags import MemoryTags
from tests.support.oci_image import Image
from tests.support.recording_mirror import Journal, RecordingHost, Shelf

# Everything must be seen by then; far above what it takes, for a loaded machine.
DEADLINE_S = 15.0
NAMESPACE = "k8s.io"


class TagBed(Protocol):
    @property
    def source(self) -> TagSource: ...

    @property
    def registry(self) -> str:
        """Has a port."""
        ...

    async def pull(self, name: str, image: Image) -> None:
        """`name` is repository:tag; the registry has this image under it now."""
        ...

    async def build(self, name: str, image: Image) -> None:
        """As a local build or an import by others leaves it."""
        ...

    async def bring(self, name: str, image: Image) -> None:
        """As `peili import` leaves it."""
        ...

    async def rename(self, name: str, to: str) -> None:
        """`to` is a whole image name, of this or another registry."""
        ...

    async def remove(self, name: str) -> None: ...

    async def restart(self) -> None: ...


@dataclass(frozen=True, slots=True)
class MemoryTagBed:
    source: MemoryTags
    registry: str = "reg.test:5000"

    async def pull(self, name: str, image: Image) -> None:
        self.source.put(OwnTag(tag_of(self, name), Digest.parse(image.manifest.digest), time.time()))

    async def build(self, name: str, image: Image) -> None:
        del name, image  # no source tells of these

    async def bring(self, name: str, image: Image) -> None:
        digest = Digest.parse(image.manifest.digest)
        self.source.put(OwnTag(tag_of(self, name), digest, time.time(), is_imported=True))

    async def rename(self, name: str, to: str) -> None:
        del name, to

    async def remove(self, name: str) -> None:
        self.source.remove(tag_of(self, name))

    async def restart(self) -> None:
        self.source.go_away("restarts")
        self.source.come_back()


@dataclass(frozen=True, slots=True)
class ContainerdTagBed:
    source: ContainerdTags
    runtime: Runtime
    client: Client
    host: RecordingHost

    @property
    def registry(self) -> str:
        return "reg.test:5000" if isinstance(self.runtime, FakeContainerd) else self.host.authority

    async def pull(self, name: str, image: Image) -> None:
        reference = f"{self.registry}/{name}"
        if isinstance(self.runtime, FakeContainerd):
            self.runtime.state.remote[reference] = image
        else:
            repository, _, tag = name.rpartition(":")
            self.host.shelf.add(image, repository, tag)
        await self.client.cri.pull_image(reference, deadline_s=DEADLINE_S)

    async def build(self, name: str, image: Image) -> None:
        await self._put(name, image, {})

    async def bring(self, name: str, image: Image) -> None:
        await self._put(name, image, {IMPORTED_LABEL: image.manifest.digest})

    async def _put(self, name: str, image: Image, labels: dict[str, str]) -> None:
        """A name that is there keeps its labels, as it does when others than we move it."""
        content, images = self.client.content(NAMESPACE), self.client.images(NAMESPACE)
        for blob in image:
            with suppress(AlreadyExists):
                await add_blob(content, blob.content, GC_ROOT)
        manifest = image.manifest
        target = Descriptor(manifest.media_type, manifest.digest, len(manifest.content), {})
        try:
            await images.create(f"{self.registry}/{name}", target, labels)
        except AlreadyExists:
            await images.update(f"{self.registry}/{name}", target, labels)

    async def rename(self, name: str, to: str) -> None:
        images = self.client.images(NAMESPACE)
        await images.create(to, (await images.get(f"{self.registry}/{name}")).target)

    async def remove(self, name: str) -> None:
        await self.client.images(NAMESPACE).delete(f"{self.registry}/{name}")

    async def restart(self) -> None:
        await self.runtime.kill()
        await self.runtime.start()
        await self.client.wait_ready(timeout_s=DEADLINE_S)


@asynccontextmanager
async def containerd_tag_bed(runtime: Runtime) -> AsyncIterator[ContainerdTagBed]:
    source = ContainerdTags(runtime.socket, namespaces=[NAMESPACE, f"other-{secrets.token_hex(4)}"])
    async with RecordingHost("origin", Shelf(), Journal()) as host, Client(runtime.socket) as client:
        yield ContainerdTagBed(source, runtime, client, host)


def tag_of(bed: TagBed, name: str) -> TagName:
    made = parse_tag_name(f"{bed.registry}/{name}")
    assert made is not None
    return made


class TagFollower:
    """What somebody knows who hears the events and nothing else. Checks their order on the way."""

    def __init__(self) -> None:
        self.tags: dict[TagName, OwnTag] = {}
        self.lost_count = 0
        self._is_told = False
        self._changed = asyncio.Event()

    async def follow(self, source: TagSource) -> None:
        async with aclosing(source.watch_tags()) as events:
            async for event in events:
                match event:
                    case OwnTags(tags):
                        assert not self._is_told, "a list that nothing announced"
                        self._is_told, self.tags = True, dict(tags)
                    case TagSet(tag):
                        assert self._is_told, "the first event is the list"
                        assert self.tags.get(tag.name) != tag, "nothing changed"
                        self.tags[tag.name] = tag
                    case TagGone(name):
                        del self.tags[name]
                    case TagsLost():
                        assert self._is_told, "lost twice"
                        self._is_told = False
                        self.lost_count += 1
                self._changed.set()

    async def until_lost(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self._is_told:
                self._changed.clear()
                await self._changed.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not (self._is_told and condition()):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"not heard in {DEADLINE_S} s; known: {self.tags}") from None


@asynccontextmanager
async def following(source: TagSource) -> AsyncIterator[TagFollower]:
    """Has heard the list when it is entered."""
    follower = TagFollower()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follower.follow(source))
        await follower.until(lambda: True)
        yield follower
        task.cancel()
