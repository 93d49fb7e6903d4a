"""How a body leaves this daemon: from a file by sendfile, from chunks by write, and how it ends when it must end early.

Rules
1. A body that cannot be finished ends by FIN: the transport is closed after what was written has left. Never RST
   (containerd fails the pull at once), never keep-alive after a short body. Measured on containerd 1.6, 1.7, 2.1.
2. A client that goes away is normal: containerd 2.1 resets a ranged request after each chunk.
3. Nothing is ever compressed: containerd 2.1 would decode it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import IO, cast

from aiohttp import web

from mirror.errors import MirrorError
from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest
from mirror.oci.errors import ErrorCode, error_body
from mirror.store.base import Blob

log = logging.getLogger(__name__)

CountBytes = Callable[[int], None]


class _Descriptor:
    """What `loop.sendfile` asks of a file."""

    mode = "rb"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor


def error_response(
    code: ErrorCode, detail: str, headers: Mapping[str, str] | None = None, *, head: bool = False
) -> web.Response:
    """The answer of the specification's error table. A HEAD answer carries no body."""
    body = b"" if head else error_body(code, detail)
    return web.Response(status=code.status, body=body, content_type="application/json", headers=headers)


def span_of(request: web.Request, size_bytes: int) -> tuple[ByteSpan, bool]:
    """The span that is asked for and whether the answer is a 206. Raises: RangeInvalid."""
    byte_range = ByteRange.parse(request.headers.get("Range"))
    # RFC 9110 §14.2: Range is defined for GET alone.
    if byte_range is None or request.method == "HEAD":
        return ByteSpan(0, size_bytes), False
    return byte_range.resolve(size_bytes), True


def content_headers(
    digest: Digest, media_type: str, span: ByteSpan, size_bytes: int, partial: bool
) -> dict[str, str]:
    """The headers of a manifest or blob answer (distribution-spec, "Pulling blobs")."""
    headers = {
        "Content-Type": media_type,
        "Content-Length": str(span.length_bytes),
        "Docker-Content-Digest": str(digest),
        "Accept-Ranges": "bytes",
        "Etag": f'"{digest}"',
    }
    if partial:
        headers["Content-Range"] = span.content_range(size_bytes)
    return headers


def range_error(exc: RangeInvalid) -> web.Response:
    return error_response(ErrorCode.RANGE_INVALID, str(exc), {"Content-Range": f"bytes */{exc.size_bytes}"})


async def send_blob(
    request: web.Request, blob: Blob, digest: Digest, media_type: str, count_bytes: CountBytes
) -> web.StreamResponse:
    """The answer to GET or HEAD of a local blob, which is closed here. Raises: RangeInvalid."""
    try:
        span, partial = span_of(request, blob.size_bytes)
        headers = content_headers(digest, media_type, span, blob.size_bytes, partial)
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        descriptor = blob.descriptor
        if request.method == "HEAD" or span.length_bytes == 0:
            await response.prepare(request)
        elif descriptor is None:
            await send_chunks(request, response, blob.chunks(span), count_bytes)
        else:
            await _send_file(request, response, descriptor, span, count_bytes)
        return response
    finally:
        # Not at once: a cancelled loop.sendfile may still set the position of this descriptor's number in the
        # present round of the loop, which could by then be another file's.
        asyncio.get_running_loop().call_soon(blob.close)


async def _send_file(
    request: web.Request,
    response: web.StreamResponse,
    descriptor: int,
    span: ByteSpan,
    count_bytes: CountBytes,
) -> None:
    await response.prepare(request)
    transport = request.transport
    if transport is None:
        return
    loop = asyncio.get_running_loop()
    try:
        # fallback=False: a loop without sendfile would copy at seven times the cost, and silently (measured).
        file = cast(IO[bytes], _Descriptor(descriptor))
        sent_bytes = await loop.sendfile(transport, file, span.start, span.length_bytes, fallback=False)
    except (OSError, RuntimeError):
        # The client left, or the disk failed: either way this connection is done.
        sent_bytes = -1
    count_bytes(max(0, sent_bytes))
    if sent_bytes != span.length_bytes:
        cut(request, response)


async def send_chunks(
    request: web.Request, response: web.StreamResponse, chunks: AsyncIterator[bytes], count_bytes: CountBytes
) -> bool:
    """Writes the chunks as the response's body; a MirrorError of their source ends it early. True: all was sent."""
    await response.prepare(request)
    try:
        async for chunk in chunks:
            await response.write(chunk)
            count_bytes(len(chunk))
    except ConnectionError:
        return False
    except MirrorError as exc:
        log.info("a body was ended early: %s", exc)
        cut(request, response)
        return False
    await response.write_eof()
    return True


def cut(request: web.Request, response: web.StreamResponse) -> None:
    """Ends a body before its length (rule 1). What is already written still leaves."""
    response.force_close()
    if request.transport is not None:
        request.transport.close()
