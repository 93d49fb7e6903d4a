"""A real listener around one handler, and bodies larger than what the kernel takes while nobody reads."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from aiohttp import web

from mirror.web.listener import Listener, bind

BODY = random.Random(3).randbytes(16 * 2**20)
# For clients who make the server wait.
SMALL_BUFFER_BYTES = 4096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listening(handler: Handler, drain_s: float) -> Listener:
    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    return Listener(app, bind("test", "127.0.0.1", 0), drain_s=drain_s)


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[str, int]]:
    listener = listening(handler, 0.1)
    await listener.start()
    try:
        yield listener.address
    finally:
        await listener.stop()


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("body")
    try:
        os.write(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


async def prepared(request: web.Request, length_bytes: int = len(BODY)) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(length_bytes)})
    await response.prepare(request)
    return response
