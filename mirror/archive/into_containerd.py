"""An import into containerd: blobs under a lease, then names, then the lease's end.

Rules
1. Everything hangs on one lease from the first byte on, also what was there already. It expires: what a killed import
   leaves is taken by the garbage collection that follows.
2. Documents carry the labels that lead the collector to their parts before a name refers to them.
3. No name is written before all blobs are. containerd checks each digest itself, at its commit.
4. A name says by a label that it was imported, and as what: see docs/adr/0022.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Final

from containerd.client import Client
from containerd.content import Content
from containerd.errors import AlreadyExists, ContainerdError, FailedPrecondition, NotFound, Unavailable
from containerd.leases import Leases
from containerd.types import Descriptor
from mirror.archive.errors import ImportFailed
from mirror.archive.import_plan import BlobToWrite, ImageToImport, ImportPlan
from mirror.archive.results import Done, Report, imported
from mirror.store.disk_work import run_to_the_end
from mirror.tags.image_name import IMPORTED_LABEL

# For containerd's answers and fsync of many small blobs.
LEASE_BASE_S: Final = 15 * 60.0
# A tenth of what the slowest stick reads. A lease cannot be made longer later, and what a killed import has left stays
# for so long.
LEASE_BYTES_PER_S: Final = 1_000_000
_LEASE_PREFIX: Final = "peili-import-"


async def import_into_containerd(sock: Path, namespace: str, plan: ImportPlan, report: Report) -> list[Done]:
    """`plan`: every image has a name. Raises: ImportFailed, ArchiveInvalid; ContainerdError where containerd is away.
    No name is written then."""
    lease_id = f"{_LEASE_PREFIX}{secrets.token_hex(8)}"
    async with Client(sock) as client:
        leases = client.leases(namespace)
        await leases.create(lease_id, ttl_s=LEASE_BASE_S + plan.size_bytes / LEASE_BYTES_PER_S)
        try:
            already_there = set()
            writing = _Writing(client.content(namespace), leases, lease_id, report)
            for blob in plan.in_order():
                if await writing.write(blob):
                    already_there.add(blob.digest)
            for image in plan.images:
                await _name(client, namespace, image)
        finally:
            # Where it cannot be deleted, it expires.
            with suppress(ContainerdError):
                await leases.delete(lease_id)
    return imported(plan, already_there)


class _Writing:
    def __init__(self, content: Content, leases: Leases, lease_id: str, report: Report) -> None:
        self._content = content
        self._leases = leases
        self._lease_id = lease_id
        self._report = report

    async def write(self, blob: BlobToWrite) -> bool:
        """Whether it was there already. Raises: ImportFailed, ArchiveInvalid, ContainerdError."""
        digest = str(blob.digest)
        # The digest is not at the end: what ends so is a pull's, to whoever looks at ingests.
        ref = f"{_LEASE_PREFIX}{digest}-{self._lease_id.removeprefix(_LEASE_PREFIX)}"
        try:
            async with self._content.writer(
                ref, digest=digest, size_bytes=blob.size_bytes, lease_id=self._lease_id
            ) as writer:
                # At the end already: another namespace has the bytes.
                if writer.offset_bytes != blob.size_bytes:
                    async with aclosing(_chunks(blob)) as chunks:
                        async for chunk in chunks:
                            await writer.write(chunk)
                            self._report(len(chunk))
                await writer.commit(blob.labels)
            return False
        except AlreadyExists:
            await self._keep(blob)
            return True
        except FailedPrecondition as exc:
            with suppress(ContainerdError):
                await self._content.abort(ref)
            raise ImportFailed(
                f"{blob.container.title}: {digest} has other bytes than its digest says: the archive is damaged"
            ) from exc
        except Unavailable:
            raise
        except ContainerdError as exc:
            raise ImportFailed(f"containerd did not take {digest}: {exc}") from exc

    async def _keep(self, blob: BlobToWrite) -> None:
        """What is there may have no labels, and nothing that holds it. containerd puts under the lease what it finds
        when the writer is opened, and not what somebody else has committed since."""
        try:
            await self._leases.add_resource(self._lease_id, str(blob.digest))
            if blob.labels:
                await self._content.set_labels(str(blob.digest), blob.labels)
        except NotFound as exc:
            raise ImportFailed(
                f"{blob.digest} was there and is gone: containerd has collected it; import again"
            ) from exc


async def _name(client: Client, namespace: str, image: ImageToImport) -> None:
    images = client.images(namespace)
    target = Descriptor(image.target.media_type, str(image.target.digest), image.target.size_bytes, {})
    labels = {IMPORTED_LABEL: str(image.target.digest)}
    for name in image.names:
        try:
            await images.create(name, target, labels)
        except AlreadyExists:
            await images.update(name, target, labels)


async def _chunks(blob: BlobToWrite) -> AsyncGenerator[bytes, None]:
    chunks = blob.chunks()
    while chunk := await run_to_the_end(next, chunks, b""):
        yield chunk
