"""A peer whose state channel is honest and whose answers are not: a middleware before a real peer server.

Speaks for one blob, whose bytes it is given; what else is asked for is answered as by anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from aiohttp import web

from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import wire

FEW_BYTES = 1024

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Meddle(Enum):
    NONE = auto()
    ABSENT = auto()  # 404 for what it says it holds
    ERROR_500 = auto()
    STALL = auto()  # sends a few bytes, then nothing
    TRUNCATE = auto()  # sends half of what was asked for, then ends
    WRONG_BYTE = auto()  # flips the byte at `at`; None: the last of the first answer
    WRONG_BYTES = auto()  # flips the last byte of each 128 KiB


@dataclass(slots=True)
class Meddling:
    data: bytes
    how: Meddle
    at: int | None = None
    spans: list[ByteSpan] = field(default_factory=list)

    @property
    def lied(self) -> bool:
        """With the byte at `at`."""
        return self.at is not None and any(span.start <= self.at < span.stop for span in self.spans)

    @property
    def middleware(self) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
        @web.middleware
        async def meddle(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = f"{wire.BLOB_PATH}{Digest.of(self.data)}"
            if request.path != path or request.method != "GET" or self.how is Meddle.NONE:
                return await handler(request)
            return await self._answer(request)

        return meddle

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        byte_range = ByteRange.parse(request.headers.get("Range"))
        whole = ByteSpan(0, len(self.data))
        span = whole if byte_range is None else byte_range.resolve(len(self.data))
        self.spans.append(span)
        if self.at is None:
            self.at = span.stop - 1
        if self.how in (Meddle.ABSENT, Meddle.ERROR_500):
            return web.Response(status=404 if self.how is Meddle.ABSENT else 500)
        headers = {"Content-Length": str(span.length_bytes)}
        if byte_range is not None:
            headers["Content-Range"] = span.content_range(len(self.data))
        response = web.StreamResponse(status=200 if byte_range is None else 206, headers=headers)
        await response.prepare(request)
        body = bytearray(self.data[span.start : span.stop])
        if self.how in (Meddle.STALL, Meddle.TRUNCATE):
            count_bytes = len(body) // 2 if self.how is Meddle.TRUNCATE else FEW_BYTES
            with contextlib.suppress(ConnectionError):
                await response.write(body[:count_bytes])
            if self.how is Meddle.STALL:
                await asyncio.Event().wait()
            assert request.transport is not None
            request.transport.close()
            return response
        if self.how is Meddle.WRONG_BYTES:
            body[128 * 1024 - 1 :: 128 * 1024] = bytes(
                byte ^ 1 for byte in body[128 * 1024 - 1 :: 128 * 1024]
            )
        elif span.start <= self.at < span.stop:
            body[self.at - span.start] ^= 0xFF
        with contextlib.suppress(ConnectionError):
            await response.write(body)
        return response
