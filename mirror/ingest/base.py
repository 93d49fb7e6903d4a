"""The port to what this host's runtime is downloading: which blobs, how far, and their bytes so far.

Refuses to know why something is downloaded, and whether it is right: an ingest is an exact prefix of what the
runtime was sent, and nobody has verified it. Complete is only what was committed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from mirror.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Born:
    """The runtime has begun to write a blob. That is no progress yet: containerd makes the file before it
    sends the first request, also on a host that waits for its mirror.

    For a digest that is already known this says that another file counts from now on, or the same one from
    its start: what was read before is void, and `open` is due again.

    `ref` is the client's name for it, such as ``layer-sha256:…``; `digest` is None where the name holds none,
    and then nothing more is told of it. `total_bytes` is None where the runtime does not know it.
    """

    namespace: str
    ref: str
    digest: Digest | None
    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class Grew:
    """`size_bytes` can be read now. containerd writes in steps of 1 MiB, and at the end what is left."""

    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Committed:
    """The blob stands in the store: whole and verified by the runtime. Also told, and then without a `Born`,
    of one that was written too quickly to be seen, and of one of another namespace: the content store knows
    whether it may be shared. Rarely told twice."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class Vanished:
    """No ingest of this digest is left, and it was not committed: the pull was cancelled. Its bytes can be
    read by whoever opened it."""

    digest: Digest


@dataclass(frozen=True, slots=True)
class EventsLost:
    """The consumer was too slow, and everything it heard is void. What is downloaded now follows as `Born`
    and `Grew`; what was committed meanwhile, only the content store knows."""

    reason: str


IngestEvent = Born | Grew | Committed | Vanished
WatchEvent = IngestEvent | EventsLost


class IngestFile(Protocol):
    """An open ingest. Readable to the end that it had, whatever becomes of it: commit, deletion, a cancelled
    pull."""

    @property
    def descriptor(self) -> int:
        """Owned by this object, without a position that matters: use pread or an explicit offset. Must not be
        asked for after `close`."""
        ...

    def size_bytes(self) -> int:
        """How much can be read now. Less than before only where the runtime began again in the same file,
        which `Born` tells."""
        ...

    def close(self) -> None:
        """Idempotent."""
        ...


class IngestWatch(Protocol):
    """Construction does no I/O."""

    async def run(self) -> None:
        """Watches until cancelled. Retries by itself where there is nothing to watch."""
        ...

    @property
    def unavailable(self) -> str | None:
        """Why nothing can be seen now, in words for an operator; None when it can."""
        ...

    def size_bytes(self, digest: Digest) -> int | None:
        """How far the runtime is with this digest, from memory: no I/O. None: it downloads no such thing."""
        ...

    def total_bytes(self, digest: Digest) -> int | None:
        """The size that the runtime expects, from memory. None: it downloads no such thing, or does not know."""
        ...

    def open(self, digest: Digest) -> IngestFile:
        """Possible from `Born` until some seconds after `Committed` or `Vanished`. Does not wait for
        anything. Raises: ContentNotFound, StoreUnavailable (no descriptor is left)."""
        ...

    def watch(self, is_patient: Callable[[Digest], bool] | None = None) -> AsyncIterator[WatchEvent]:
        """What is downloaded now, as `Born` and, where it was seen to grow, `Grew`; then every event. `Grew`
        of one digest that were not read yet become one. Several watches may run at once. Ends only by
        cancellation.

        `is_patient`: whether this watch may hear a quarter of a second late how a digest grows, as it stands now; asked
        again and again. None: of no digest. What is born, committed and gone is told at once all the same."""
        ...
