"""The port to content on this host: what blobs are here, open one, hear of changes.

Refuses to know where blobs come from, and tags: a store answers by digest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the store holds. The first event of every watch, and the first after `StreamLost`."""

    sizes_bytes: Mapping[Digest, int]


@dataclass(frozen=True, slots=True)
class ContentAdded:
    """A blob was committed: whole and verified by whoever wrote it."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ContentRemoved:
    digest: Digest


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The store went away (containerd restarts). What was announced stays announced until the next
    `Snapshot`."""

    reason: str


ContentEvent = Snapshot | ContentAdded | ContentRemoved | StreamLost


class Blob(Protocol):
    """An open blob. Readable to its end even if it is deleted from the store meanwhile."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def descriptor(self) -> int | None:
        """A file descriptor for sendfile, owned by the blob and without a position that matters (use pread or
        an explicit offset). None where the bytes cannot be had as a file: use `chunks`."""
        ...

    def chunks(self, span: ByteSpan) -> AsyncIterator[bytes]:
        """The bytes of `span` in order, in chunks of at most 1 MiB. Raises: StoreUnavailable."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class ContentStore(Protocol):
    """Construction does no I/O."""

    async def run(self) -> None:
        """Keeps what the store knows true until cancelled. Retries by itself when the backend is away."""
        ...

    @property
    def unavailable(self) -> str | None:
        """Why the store cannot answer now, in words for an operator; None when it can."""
        ...

    def size_bytes(self, digest: Digest) -> int | None:
        """The size of a blob that is here, from memory: no I/O. None: not known to be here (`open` may still
        find a blob that was committed a moment ago)."""
        ...

    async def open(self, digest: Digest) -> Blob:
        """Raises: ContentNotFound, StoreUnavailable."""
        ...

    def watch(self) -> AsyncIterator[ContentEvent]:
        """One `Snapshot`, then every change, nothing lost between: a consumer that is too slow for the
        bounded queue gets `StreamLost` and a new `Snapshot`. Several watches may run at once. Ends only by
        cancellation."""
        ...

    async def discard_ingest(self, digest: Digest) -> None:
        """Throws away what the host's runtime has so far received of this digest, because it was wrong.
        Nothing to throw away is not an error. containerd 1.7 and 2.1 else refuse every later pull of the
        image (measured).
        Raises: StoreUnavailable."""
        ...
