"""Sees to it that layers which the runtime does not keep are copied into the cache before they are gone.

Every blob is held open from its commit until it is known what becomes of it: the runtime may delete it milliseconds
later (`discard_unpacked_layers`, default on EKS and Talos). What stays is let go, and leaves the cache if it is there:
no blob is stored twice. Refuses to judge: see `fates` and `holds`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.ingest.base import Committed, IngestFile, IngestWatch
from mirror.ingest.open_ingest import OpenIngest
from mirror.keep.fates import FateSource
from mirror.keep.holds import Holds
from mirror.oci.digest import Digest
from mirror.store.cached_store import CachedStore
from mirror.store.content_root import ContentRoot
from mirror.store.file_blob import FileBlob

log = logging.getLogger(__name__)


class LayerKeeper:
    """`ingests` is run by somebody else, who may watch it, too. `content_root` gives the folder in which the runtime
    keeps its blobs, None as long as nobody knows it."""

    def __init__(
        self,
        store: CachedStore,
        ingests: IngestWatch,
        fates: FateSource,
        content_root: Callable[[], Path | None],
        clock: Callable[[], float],
    ) -> None:
        self._store = store
        self._ingests = ingests
        self._fates = fates
        self._content_root = content_root
        self._clock = clock
        self._holds = Holds(store.quota_bytes)
        self._files: dict[Digest, IngestFile] = {}
        self._held = asyncio.Event()
        self._has_kept = False

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen())
                group.create_task(self._judge_when_due())
        finally:
            self._let_go(list(self._files))

    async def _listen(self) -> None:
        async for event in self._ingests.watch(is_patient=lambda _: True):
            if isinstance(event, Committed):
                self._hold(event.digest)

    def _hold(self, digest: Digest) -> None:
        try:
            file = self._opened(digest)
        except (ContentNotFound, StoreUnavailable) as exc:
            log.debug("%s is not held: %s", digest, exc)
            return
        self._let_go([digest])
        self._files[digest] = file
        self._let_go(self._holds.hold(digest, file.size_bytes(), self._clock()))
        self._held.set()

    def _opened(self, digest: Digest) -> IngestFile:
        """Whosesoever it is: only a manifest of a watched namespace makes it one to keep. The store is not asked: a
        blob has its record after its file, and may be gone before the next walk.

        Raises: ContentNotFound, StoreUnavailable."""
        with suppress(ContentNotFound):
            return self._ingests.open(digest)
        # Written too quickly for its ingest to be seen.
        root = self._content_root()
        try:
            blob = None if root is None else ContentRoot(root).open(digest)
        except OSError as exc:
            raise StoreUnavailable(f"its file cannot be opened: {exc.strerror or exc}") from exc
        if not isinstance(blob, FileBlob):
            raise ContentNotFound("there is no such file")
        try:
            return OpenIngest.of(blob)
        finally:
            blob.close()

    async def _judge_when_due(self) -> None:
        while True:
            self._held.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._holds.wait_s(self._clock())):
                    await self._held.wait()
            if due := self._holds.due(self._clock()):
                await self._judge(due)

    async def _judge(self, due: Collection[Digest]) -> None:
        try:
            fates = await self._fates.fates(due)
        except StoreUnavailable as exc:
            log.debug("asked again in a moment: %s", exc)
            fates = {}
        judgement = self._holds.judge(due, fates)
        for digest in judgement.keep:
            file = self._files[digest]
            self._store.keep(digest, file.size_bytes(), file.descriptor)
        self._let_go([*judgement.keep, *judgement.stays, *judgement.let_go])
        if judgement.keep and not self._has_kept:
            self._has_kept = True
            log.info(
                "containerd does not keep the layers that it pulls (discard_unpacked_layers): they are cached"
            )
        for digest in judgement.stays:
            if self._store.is_cached(digest):
                await self._store.forget(digest)

    def _let_go(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if (file := self._files.pop(digest, None)) is not None:
                file.close()
