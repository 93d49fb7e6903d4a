"""A real daemon whose answers to peers are wicked: `python -m tests.support.wicked_daemon HOW serve ...`.

To its own containerd it is as good as any, so that it comes to hold images, and says so.

stall: nothing follows the first bytes, and the connection stays. truncate: it ends after half of what was asked for.
lie: a 404 for what it says it holds. corrupt: one byte of each piece is another. corrupt-layers: the same, but what
is smaller than a piece, as manifests are, is right.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Final

from aiohttp import web

from mirror.cli.main import main
from mirror.oci.byterange import ByteSpan
from mirror.oci.errors import ErrorCode
from mirror.peer import wire
from mirror.peer.server import PeerServer
from mirror.web import body

HOWS: Final = ("stall", "truncate", "lie", "corrupt")
FIRST_BYTES: Final = 16 * 1024
CORRUPT_LAYERS: Final = "corrupt-layers"
# Below the smallest piece: none is whole.
CORRUPT_EVERY_BYTES: Final = 128 * 1024

_send = body._sendfile


async def _stall(request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan) -> int:
    await _send(request, response, descriptor, _first(span, FIRST_BYTES))
    await asyncio.Event().wait()
    raise AssertionError


async def _truncate(
    request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
) -> int:
    sent_bytes = await _send(request, response, descriptor, _first(span, span.length_bytes // 2))
    body.cut(request, response)
    return sent_bytes


async def _corrupt(
    request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
) -> int:
    for start in range(span.start, span.stop, CORRUPT_EVERY_BYTES):
        data = bytearray(os.pread(descriptor, min(CORRUPT_EVERY_BYTES, span.stop - start), start))
        # The last one, so that a layer still looks like a gzip file.
        data[-1] ^= 1
        await response.write(data)
    return span.length_bytes


async def _corrupt_layers(
    request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
) -> int:
    is_large = os.fstat(descriptor).st_size >= CORRUPT_EVERY_BYTES
    return await (_corrupt if is_large else _send)(request, response, descriptor, span)


async def _absent(server: PeerServer, request: web.Request) -> web.StreamResponse:
    return body.error_response(ErrorCode.BLOB_UNKNOWN, "not here", head=request.method == "HEAD")


def _first(span: ByteSpan, count_bytes: int) -> ByteSpan:
    return ByteSpan(span.start, min(span.stop, span.start + count_bytes))


def turn(how: str) -> None:
    """From now on this process answers so."""
    if how == "lie":
        setattr(PeerServer, "_blob", _absent)  # noqa: B010
        return
    wicked = {
        "stall": _stall,
        "truncate": _truncate,
        "corrupt": _corrupt,
        CORRUPT_LAYERS: _corrupt_layers,
    }[how]

    async def send(
        request: web.Request, response: web.StreamResponse, descriptor: int, span: ByteSpan
    ) -> int:
        is_peer = request.path.startswith(wire.BLOB_PATH)
        return await (wicked if is_peer else _send)(request, response, descriptor, span)

    body._sendfile = send


if __name__ == "__main__":
    turn(sys.argv.pop(1))
    sys.exit(main(sys.argv[1:]))
