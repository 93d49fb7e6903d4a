"""How a body leaves this daemon: from a file by sendfile, from chunks by write, and how it ends when it must end early.

Rules
1. A body that cannot be finished ends by FIN, after what was written has left (`mirror.web.ending`). Never RST
   (containerd fails the pull at once), never keep-alive after a short body. Measured on containerd 1.6, 1.7, 2.1.
2. A client that goes away is normal: containerd 2.1 resets a ranged request after each chunk.
3. Nothing is ever compressed: containerd 2.1 would decode it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import IO, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from mirror.errors import MirrorError
from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest
from mirror.oci.errors import ErrorCode, error_body
from mirror.store.base import Blob
from mirror.web.ending import hang_up

log = logging.getLogger(__name__)

CountBytes = Callable[[int], None]

# So much of a body is sent on end before the loop's other work has its turn: 2 to 8 ms. What own clients are sent by
# portions is not larger, nor are the pieces of blobs below 1 GiB; of more the kernel takes a part at a time anyway.
TURN_MAX_BYTES = 4 * 1024 * 1024


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
            count_bytes(await _sendfile(request, response, descriptor, span))
        return response
    finally:
        blob.close()


async def send_span(
    request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
) -> bool:
    """Sends a part of the body from a file, by sendfile; may be called again for the next part. A response that was not
    prepared is, and leaves with the first bytes. The descriptor is the caller's, and may be closed as soon as this has
    ended.

    True: all was handed to the kernel. False: the client is gone, or the file ends before the span; then the body has
    been cut. Raises what the preparing does, and may be cancelled; then the body is for the caller to cut."""
    return await _sendfile(request, response, descriptor, span) == span.length_bytes


async def _sendfile(
    request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
) -> int:
    """The number of bytes that were sent; where it is not the whole span, the body has been cut."""
    transport = request.transport
    length_bytes = span.length_bytes
    if transport is None or length_bytes == 0:
        await response.prepare(request)
        return 0
    writer = request.writer
    if response.prepared:
        sent_bytes = _send_at_once(transport, descriptor, span.start, length_bytes)
    else:
        # Headers that leave alone wake the client for nothing: a piece costs the client twice the CPU then (measured).
        sock = transport.get_extra_info("socket")
        _hold_back(sock, True)
        try:
            await response.prepare(request)
            sent_bytes = _send_at_once(transport, descriptor, span.start, length_bytes)
        finally:
            _hold_back(sock, False)
    _account(writer, sent_bytes)
    if sent_bytes != length_bytes:
        rest_bytes = await _send_in_turn(
            transport, descriptor, span.start + sent_bytes, length_bytes - sent_bytes
        )
        _account(writer, rest_bytes)
        sent_bytes += rest_bytes
        if sent_bytes != length_bytes:
            cut(request, response)
    elif writer.length != 0 and writer.output_size % TURN_MAX_BYTES < sent_bytes:
        await asyncio.sleep(0)
    return sent_bytes


def _send_at_once(transport: asyncio.Transport, descriptor: int, start: int, length_bytes: int) -> int:
    """What the kernel takes now: of a piece, as a rule all. 0 says nothing of why: who waits learns it."""
    if (
        length_bytes > TURN_MAX_BYTES
        or transport.is_closing()
        or transport.get_write_buffer_size()  # it stands before ours
        or transport.get_extra_info("sslcontext") is not None
    ):
        return 0
    try:
        return os.sendfile(transport.get_extra_info("socket").fileno(), descriptor, start, length_bytes)
    except OSError:
        return 0


def _hold_back(sock: socket.socket, is_held: bool) -> None:
    """What is written, until a segment is full."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, is_held)
    except OSError as exc:  # it knows no segments, or is closed
        log.debug("headers leave for themselves: %s", exc)


async def _send_in_turn(transport: asyncio.Transport, descriptor: int, start: int, length_bytes: int) -> int:
    """As the client takes it. Fewer bytes: it left, or the file ends, or the disk failed; this connection is done."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError, RuntimeError):
        # A cancelled loop.sendfile may still set the position of the descriptor's number in the present round of the
        # loop; were it the caller's, who may close it at once, it could by then be another file's.
        own = os.dup(descriptor)
        try:
            # fallback=False: a loop without sendfile would copy at seven times the cost, and silently (measured).
            file = cast(IO[bytes], _Descriptor(own))
            return await loop.sendfile(transport, file, start, length_bytes, fallback=False)
        finally:
            loop.call_soon(os.close, own)
    return 0


def _account(writer: AbstractStreamWriter, sent_bytes: int) -> None:
    """aiohttp has not seen these bytes."""
    writer.output_size += sent_bytes
    if writer.length is not None:
        writer.length -= sent_bytes


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
    if request.writer.length:
        log.warning("a body was ended early: its source gave %d bytes too few", request.writer.length)
        cut(request, response)
        return False
    await response.write_eof()
    return True


def cut(request: web.Request, response: web.StreamResponse) -> None:
    """Ends a body before its length (rule 1): at once for the caller, who may return the response; what is already
    written still leaves. Idempotent."""
    response.force_close()
    hang_up(request)
