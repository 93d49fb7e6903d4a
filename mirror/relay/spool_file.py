"""One blob on its way: a preallocated file of which some spans are there. Refuses to know who fetches or reads it.

Blocking work is done in threads, and a call that is cancelled ends when its thread has ended, so that the descriptor
is never closed under one. Bytes that are there are never written again, whoever sends them.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.relay.errors import SpoolBroken
from mirror.relay.spans import SpanSet
from mirror.store.disk_work import run_to_the_end
from mirror.store.file_hash import hash_span

if TYPE_CHECKING:
    from hashlib import _Hash


class Changes:
    """Wakes everybody who waits. Look at the state first, then wait: there must be no other await between."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def notify(self) -> None:
        self._event.set()
        self._event = asyncio.Event()


class SpoolFile:
    """Made by `Spool`, which owns its life. `is_verified`: all bytes are there and were found to be the digest's; set
    by whoever hashed them."""

    def __init__(self, digest: Digest, size_bytes: int, descriptor: int) -> None:
        self.digest = digest
        self.size_bytes = size_bytes
        self.is_verified = False
        self._descriptor = descriptor
        self._have = SpanSet()
        # What is there or being written.
        self._taken = SpanSet()
        self._changes = Changes()

    @property
    def descriptor(self) -> int:
        """For sendfile, while the file is held."""
        return self._descriptor

    def have(self) -> list[ByteSpan]:
        return list(self._have)

    def missing(self, span: ByteSpan) -> list[ByteSpan]:
        return self._have.missing(span.start, span.stop)

    def stop_from(self, offset: int) -> int:
        """The first byte at or behind `offset` that is not there."""
        return self._have.stop_from(offset)

    @property
    def is_whole(self) -> bool:
        return self._have.covers(0, self.size_bytes)

    async def has(self, offset: int) -> int:
        """Waits until the byte at `offset` is there; gives the first one behind it that is not."""
        while (stop := self._have.stop_from(offset)) == offset:
            await self._changes.wait()
        return stop

    async def write(self, offset: int, data: bytes) -> None:
        """Raises: SpoolBroken."""
        assert offset + len(data) <= self.size_bytes, (offset, len(data), self.size_bytes)
        gaps = self._taken.missing(offset, offset + len(data))
        self._taken.add(offset, offset + len(data))
        try:
            for gap in gaps:
                await self._write_gap(gap, memoryview(data)[gap.start - offset : gap.stop - offset])
        finally:
            for gap in gaps:
                for hole in self._have.missing(gap.start, gap.stop):
                    self._taken.remove(hole.start, hole.stop)

    async def read(self, span: ByteSpan) -> bytes:
        """All of it must be there. Raises: SpoolBroken."""
        assert self._have.covers(span.start, span.stop), span
        try:
            data = await run_to_the_end(os.pread, self._descriptor, span.length_bytes, span.start)
        except OSError as exc:
            raise self._broken("read", span.start, exc) from exc
        if len(data) != span.length_bytes:
            raise SpoolBroken(f"{self.digest}: its spool file ends at {span.start + len(data)}")
        return data

    async def hash_into(self, hasher: _Hash, span: ByteSpan) -> None:
        """All of it must be there. Raises: SpoolBroken."""
        assert self._have.covers(span.start, span.stop), span
        try:
            read_bytes = await run_to_the_end(hash_span, hasher, self._descriptor, span)
        except OSError as exc:
            raise self._broken("read", span.start, exc) from exc
        if read_bytes != span.length_bytes:
            raise SpoolBroken(f"{self.digest}: its spool file ends at {span.start + read_bytes}")

    async def _write_gap(self, gap: ByteSpan, data: memoryview) -> None:
        written: list[ByteSpan] = []
        try:
            await run_to_the_end(self._pwrite, gap, data, written)
        except OSError as exc:
            raise self._broken("written", gap.start, exc) from exc
        finally:
            if written:  # also when the call was cancelled
                self._have.add(gap.start, gap.stop)
                self._changes.notify()

    def _pwrite(self, gap: ByteSpan, data: memoryview, written: list[ByteSpan]) -> None:
        done_bytes = 0
        while done_bytes < len(data):
            done_bytes += os.pwrite(self._descriptor, data[done_bytes:], gap.start + done_bytes)
        written.append(gap)

    def _broken(self, verb: str, offset: int, exc: OSError) -> SpoolBroken:
        return SpoolBroken(
            f"{self.digest}: its spool file cannot be {verb} at {offset}: {exc.strerror or exc}"
        )
