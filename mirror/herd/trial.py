"""What becomes of bytes that went to the own containerd past this host's hash: follows its ingest to the end.

Committed is right; full-sized and not committed in time, or gone, is hashed. Decides who is proven to have sent wrong
bytes; what follows from that is ordered elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import closing

from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.herd.ports import TransferPorts
from mirror.herd.runs import Spawn
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.store.disk_work import run_to_the_end
from mirror.store.file_hash import hash_span
from mirror.swarm.events import SourceId
from mirror.swarm.lone_stream import commit_late_s

log = logging.getLogger(__name__)

# About 10 ms of a thread: small enough to stop soon.
PORTION_BYTES = 8 * 1024 * 1024


class Trial:
    """`wrong` is called with who is proven to have sent it, None where others may have."""

    def __init__(
        self, digest: Digest, ports: TransferPorts, *, wrong: Callable[[SourceId | None], None], spawn: Spawn
    ) -> None:
        self._digest = digest
        self._ports = ports
        self._wrong = wrong
        self._spawn = spawn
        # Who sent how much of it in order from the start.
        self._senders: set[SourceId] = set()
        self._sent_bytes = 0
        self._is_open = False
        self._is_full = False
        self._size_bytes = 0
        self._was_wrong = False
        self._judging: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._is_open

    @property
    def is_suspect(self) -> bool:
        """Nothing more is to be sent without a hash."""
        return self._was_wrong or self._is_full

    # -- what happens ----------------------------------------------------------------------------------------------

    def fed(self, source_id: SourceId, span: ByteSpan) -> None:
        """The own containerd was sent these."""
        self._is_open = True
        self._senders.add(source_id)
        if span.start == self._sent_bytes:
            self._sent_bytes = span.stop

    def grew(self, ingest_bytes: int, size_bytes: int | None) -> None:
        if self._is_open and not self._is_full and size_bytes is not None and ingest_bytes >= size_bytes:
            self._is_full = True
            self._size_bytes = size_bytes
            self._begin(commit_late_s(size_bytes), size_bytes)

    def asked_again(self) -> None:
        """By a client that has it all: its pull failed."""
        if self._is_full and self._judging is not None:
            self._begin(0.0, self._size_bytes)

    def vanished(self, size_bytes: int | None) -> None:
        """Its pull was cancelled or has failed; its bytes can still be read. It may be gone before it was seen to be
        full: containerd throws a pull that failed away within some milliseconds."""
        if not self._is_full and self._is_open and size_bytes is not None and self._sent_bytes == size_bytes:
            self._is_full = True
            self._size_bytes = size_bytes
        if self._is_full:
            self._begin(0.0, self._size_bytes)
        else:
            self._end()

    def replaced(self) -> None:
        """Another file counts from now on."""
        self._end()

    def committed(self) -> None:
        """containerd found it right."""
        self._end()

    def _end(self) -> None:
        self._is_open = self._is_full = False
        self._senders.clear()
        self._sent_bytes = 0
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None

    # -- the hash --------------------------------------------------------------------------------------------------

    def _begin(self, after_s: float, size_bytes: int) -> None:
        if self._judging is not None:
            self._judging.cancel()
        self._judging = self._spawn(self._judge(after_s, size_bytes))

    async def _judge(self, after_s: float, size_bytes: int) -> None:
        hasher = self._digest.hasher()
        try:
            # At once: it may be gone later.
            with closing(self._ports.ingests.open(self._digest)) as file:
                await asyncio.sleep(after_s)
                for start in range(0, size_bytes, PORTION_BYTES):
                    span = ByteSpan(start, min(size_bytes, start + PORTION_BYTES))
                    read_bytes = await run_to_the_end(hash_span, hasher, file.descriptor, span)
                    if read_bytes != span.length_bytes:
                        raise OSError(f"it ends at {start + read_bytes}, and should reach {size_bytes}")
        except (ContentNotFound, StoreUnavailable, OSError) as exc:
            log.warning("what containerd has of %s cannot be hashed: %s", self._digest, exc)
            return
        # Not to be cancelled by what follows.
        self._judging = None
        is_proven = len(self._senders) == 1 and self._sent_bytes == size_bytes
        source_id = next(iter(self._senders)) if is_proven else None
        self._end()
        # Else containerd is slow, or was told to stop.
        if hasher.hexdigest() != self._digest.encoded:
            self._was_wrong = True
            self._wrong(source_id)
