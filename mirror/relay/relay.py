"""The daemon itself fetching from the origin: one transfer per digest whoever asks. Refuses to know of peers.

The origin is asked with what the daemon was given (its docker config), or anonymously; never with a client's secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator

from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.origin.base import FetchedManifest, Repository
from mirror.relay.errors import RelayGaveUp
from mirror.relay.limits import RelayLimits, RelayPorts
from mirror.relay.reading import Reading
from mirror.relay.transfer import Reader, Transfer

log = logging.getLogger(__name__)

# Often enough that a file is gone soon after its time, and that failed transfers do not gather.
SWEEP_S = 5.0


class Relay:
    """`run` must be running while blobs are asked for: the fetches are its tasks."""

    def __init__(self, ports: RelayPorts, limits: RelayLimits | None = None) -> None:
        self._ports = ports
        self._limits = limits or RelayLimits()
        self._connections = asyncio.Semaphore(self._limits.connections_max_count)
        self._transfers: dict[Digest, Transfer] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                while True:
                    await asyncio.sleep(SWEEP_S)
                    await self.sweep()
            finally:
                self._tasks = None

    async def sweep(self) -> None:
        """Forgets what is of no use by now."""
        for digest, transfer in list(self._transfers.items()):
            if transfer.is_idle and not transfer.is_failed:
                del self._transfers[digest]
        await self._ports.spool.sweep()

    async def manifest(self, repository: Repository, reference: str) -> FetchedManifest:
        """`reference` is a tag or a digest. Raises: OriginError (a TransferError)."""
        fetched = await self._ports.origin.manifest(
            repository, reference, is_anonymous=self._ports.is_anonymous
        )
        self._keep(fetched)
        return fetched

    def _keep(self, fetched: FetchedManifest) -> None:
        """What cannot be kept is answered all the same."""
        if self._ports.keep is None:
            return
        try:
            # In memory: some KiB, written at once.
            with os.fdopen(os.memfd_create("manifest"), "wb") as file:
                file.write(fetched.data)
                file.flush()
                self._ports.keep(fetched.digest, len(fetched.data), file.fileno())
        except OSError as exc:
            log.warning("the manifest %s was not kept: %s", fetched.digest, exc.strerror or exc)

    async def size_bytes(self, repository: Repository, digest: Digest) -> int:
        """For a HEAD. Raises: RelayGaveUp, SpoolFull (both TransferError)."""
        if digest.matches(b""):
            return 0
        with self._joined(repository, digest, None, wants_bytes=False) as (transfer, _):
            return await transfer.size_bytes()

    @contextlib.asynccontextmanager
    async def blob(
        self, repository: Repository, digest: Digest, byte_range: ByteRange | None
    ) -> AsyncIterator[Reading]:
        """As `Download.read`: the first chunk is in hand. Raises, all before the first byte: RelayGaveUp (a NoSources),
        RelayMismatch (a DigestMismatch), SpoolFull, RangeInvalid (416). While the chunks are read: RelayGaveUp,
        RelayMismatch, SpoolBroken; these are all TransferError."""
        if digest.matches(b""):
            # Some registries answer a ranged request for nothing with a 416.
            yield Reading(byte_range.resolve(0) if byte_range else ByteSpan(0, 0), 0, _nothing())
            return
        with self._joined(repository, digest, byte_range, wants_bytes=True) as (transfer, reader):
            async with transfer.read(reader) as reading:
                yield reading

    @contextlib.contextmanager
    def _joined(
        self, repository: Repository, digest: Digest, byte_range: ByteRange | None, *, wants_bytes: bool
    ) -> Iterator[tuple[Transfer, Reader]]:
        """Raises: RelayGaveUp."""
        if self._tasks is None:
            raise RelayGaveUp(digest, "the relay does not run")
        transfer = self._transfers.get(digest)
        if transfer is None:
            transfer = Transfer(digest, self._ports, self._limits, self._connections)
            self._transfers[digest] = transfer
        with transfer.join(repository, byte_range, wants_bytes=wants_bytes) as reader:
            if transfer.is_due():
                transfer.fetch_begins()
                self._tasks.create_task(transfer.fetch(), name=f"transfer {digest}")
            yield transfer, reader


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
