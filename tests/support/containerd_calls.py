"""What tests of the containerd client do over and over, and the types of their fixtures."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from containerd.client import Client
from containerd.content import Content
from containerd.types import Descriptor, Event
from tests.support.fake_containerd import FakeContainerd
from tests.support.oci_image import MEDIA_TYPES, Image, digest_of
from tests.support.real_containerd import RealContainerd

Runtime = FakeContainerd | RealContainerd
Publish = Callable[[str, Image], Awaitable[str]]
"""Makes an image pullable under a name such as "lib/x:v1", and gives the reference to pull."""

MANIFEST: Final = MEDIA_TYPES["oci"].manifest
GC_ROOT: Final = {"containerd.io/gc.root": "test"}
ARRIVES_S: Final = 5.0
"""How long a test waits for what must come."""


async def add_blob(
    content: Content, data: bytes, labels: dict[str, str] | None = None, *, lease_id: str = ""
) -> str:
    digest = digest_of(data)
    ref = f"test-{digest}"
    async with content.writer(ref, digest=digest, size_bytes=len(data), lease_id=lease_id) as writer:
        await writer.write(data)
        await writer.commit(labels)
    return digest


async def digests(content: Content, *conditions: str) -> set[str]:
    return {info.digest async for info in content.list(*conditions)}


async def read(content: Content, digest: str, offset_bytes: int = 0, size_bytes: int | None = None) -> bytes:
    chunks = content.read(digest, offset_bytes=offset_bytes, size_bytes=size_bytes)
    return b"".join([chunk async for chunk in chunks])


async def collect_garbage(client: Client, namespace: str) -> None:
    lease_id = secrets.token_hex(4)
    await client.leases(namespace).create(lease_id, ttl_s=60)
    await client.leases(namespace).delete(lease_id, sync=True)


async def take(stream: AsyncIterator[Event], last: Event) -> list[Event]:
    """The events up to `last`."""
    taken: list[Event] = []
    async with asyncio.timeout(ARRIVES_S):
        async for event in stream:
            taken.append(event)
            if event == last:
                return taken
    raise AssertionError(f"the stream ended before {last}: {taken}")


def image_of(digest: str) -> Descriptor:
    return Descriptor(MANIFEST, digest, 100, {})
