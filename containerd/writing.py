"""One ingest being written: containerd's Write stream, one step at a time.

It sends what it is given, in order, and waits for containerd's word after each message. It neither hashes nor
buffers, and it does not decide whether to resume, commit or throw away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import grpc.aio

from containerd import errors
from containerd.api.services.content.v1 import content_pb2

if TYPE_CHECKING:
    from containerd.connection import Connection

CHUNK_BYTES: Final = 1 << 20
"""containerd reads in chunks of this size itself; its server refuses messages over 16 MiB."""

STEP_LIMIT_S: Final = 30.0
"""For each message."""

SLOWEST_SYNC_BYTES_PER_S: Final = 10_000_000
"""A commit waits for fsync of the whole blob, too. A third of the slowest disk seen."""

CLOSE_LIMIT_S: Final = 1.0
"""For containerd to notice the end of the stream, which takes it about a millisecond."""


class Writer:
    """`offset_bytes` is how much containerd has; the next `write` goes there. Made by `Content.writer`."""

    def __init__(
        self,
        connection: Connection,
        call: grpc.aio.StreamStreamCall[content_pb2.WriteContentRequest, content_pb2.WriteContentResponse],
        about: str,
    ) -> None:
        self._connection = connection
        self._call = call
        self._about = about
        self._digest = ""
        self._size_bytes = 0
        self.offset_bytes = 0

    async def open(self, ref: str, digest: str, size_bytes: int) -> None:
        """`Content.writer` calls this."""
        self._digest, self._size_bytes = digest, size_bytes
        await self._step(
            content_pb2.WriteContentRequest(
                action=content_pb2.STAT, ref=ref, expected=digest, total=size_bytes
            )
        )

    async def write(self, data: bytes) -> None:
        """Raises: FailedPrecondition and others; nothing of a failed chunk can be relied on."""
        for start in range(0, len(data), CHUNK_BYTES):
            await self._step(
                content_pb2.WriteContentRequest(
                    action=content_pb2.WRITE,
                    offset=self.offset_bytes,
                    data=data[start : start + CHUNK_BYTES],
                )
            )

    async def commit(self, labels: Mapping[str, str] | None = None) -> None:
        """Makes the ingest a blob with these labels.

        Raises: FailedPrecondition when the bytes have another size or digest. The ingest stays then; abort
        it, or nothing can be written under its ref again.
        """
        await self._step(
            content_pb2.WriteContentRequest(
                action=content_pb2.COMMIT,
                offset=self.offset_bytes,
                total=self._size_bytes,
                expected=self._digest,
                labels=labels or {},
            ),
            STEP_LIMIT_S + self._size_bytes / SLOWEST_SYNC_BYTES_PER_S,
        )

    async def close(self) -> None:
        """`Content.writer` calls this. When it returns, the ingest is free for another writer."""
        if not self._call.done():
            # Best effort: where it fails, the cancellation that follows frees the ingest a little later.
            with suppress(grpc.aio.AioRpcError, TimeoutError):
                async with asyncio.timeout(CLOSE_LIMIT_S):
                    await self._call.done_writing()
                    while await self._call.read() is not grpc.aio.EOF:
                        pass

    async def _step(self, request: content_pb2.WriteContentRequest, limit_s: float = STEP_LIMIT_S) -> None:
        with self._connection.translated(self._about):
            async with asyncio.timeout(limit_s):
                await self._call.write(request)
                answer = await self._call.read()
        if answer is grpc.aio.EOF:
            raise errors.CallFailed(f"containerd {self._about}: the stream ended before its answer")
        assert isinstance(answer, content_pb2.WriteContentResponse)
        self.offset_bytes = answer.offset
