"""The running downloads of this host, one per digest. Refuses to know what a request looks like."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict
from collections.abc import AsyncIterator

from mirror.download.download import Download, DownloadPorts
from mirror.download.sources import Bans, Sources
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest

# What was learned of a digest's sources outlives the last reader this long: containerd comes back with a Range
# after a cut body, and asks for the layers of an image one after another.
LINGER_S = 30.0
# Idle downloads are small; more than this many digests within LINGER_S is a scan of the registry port.
IDLE_MAX_COUNT = 2048
# Sizes named by manifests that passed through: 64 images of 64 layers.
SIZES_MAX_COUNT = 4096


class Downloads:
    """`run` must be running while downloads are joined: searches are its tasks."""

    def __init__(self, ports: DownloadPorts, rng: random.Random) -> None:
        self._ports = ports
        self._rng = rng
        self._bans = Bans()
        self._downloads: OrderedDict[Digest, Download] = OrderedDict()
        self._sizes_bytes: OrderedDict[Digest, int] = OrderedDict()
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await asyncio.Event().wait()
            finally:
                self._tasks = None

    def learn_sizes(self, manifest: Manifest) -> None:
        """Remembers what a verified manifest says of its children, so that a source that lies of a size is found."""
        for child in manifest.children:
            self._sizes_bytes[child.digest] = child.size_bytes
            self._sizes_bytes.move_to_end(child.digest)
        while len(self._sizes_bytes) > SIZES_MAX_COUNT:
            self._sizes_bytes.popitem(last=False)

    @contextlib.asynccontextmanager
    async def join(self, digest: Digest) -> AsyncIterator[Download]:
        """The download of this digest, with a search for providers under way or fresh."""
        self._forget_idle()
        download = self._downloads.get(digest)
        if download is None:
            download = Download(digest, Sources(self._bans, self._rng), self._ports)
            self._downloads[digest] = download
        size_bytes = self._sizes_bytes.get(digest)
        if size_bytes is not None:
            download.vouch(size_bytes)
        if self._tasks is not None and download.search_due():
            download.search_begins()
            self._tasks.create_task(download.search(), name=f"search {digest}")
        download.reader_count += 1
        try:
            yield download
        finally:
            download.reader_count -= 1
            if download.reader_count == 0:
                download.forget_small()
            download.idle_since = self._ports.clock()
            self._downloads.move_to_end(digest)

    def _forget_idle(self) -> None:
        oldest_kept = self._ports.clock() - LINGER_S
        for digest, download in list(self._downloads.items()):
            crowded = len(self._downloads) > IDLE_MAX_COUNT
            if download.reader_count:
                continue
            if download.idle_since > oldest_kept and not crowded:
                break
            del self._downloads[digest]
