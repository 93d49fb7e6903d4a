"""A watch over downloads for hosts whose downloads are not seen: their commits are heard of from the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from mirror.errors import ContentNotFound
from mirror.ingest.base import IngestFile, WatchEvent
from mirror.oci.digest import Digest


class NoIngests:
    """Implements `IngestWatch`."""

    unavailable: str | None = None

    async def run(self) -> None:
        await asyncio.Event().wait()

    def size_bytes(self, digest: Digest) -> int | None:
        return None

    def total_bytes(self, digest: Digest) -> int | None:
        return None

    def open(self, digest: Digest) -> IngestFile:
        raise ContentNotFound(f"nobody is seen to download {digest}")

    async def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        await asyncio.Event().wait()
        yield  # type: ignore[misc]  # never reached: it makes this a generator
