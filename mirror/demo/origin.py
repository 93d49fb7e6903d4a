"""The registry of the demo, a process of its own: one image, behind one link that all its clients share.

The link is a token bucket over the body bytes of every answer, whoever asks; headers are not counted. Refuses to be
a registry for anything else: no pushes, no other image, no authentication.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence

import msgspec
from aiohttp import web

from mirror.demo.image import DemoBlob, DemoImage, build_image
from mirror.demo.token_bucket import TokenBucket
from mirror.oci.byterange import RangeInvalid
from mirror.oci.errors import ErrorCode
from mirror.web.body import content_headers, error_response, range_error, span_of
from mirror.web.listener import Listener, bind

REPOSITORY = "demo/app"
TAG = "latest"
# Beside the registry API, and past the link: what the demo itself asks.
FACTS_PATH = "/facts"

# A link shares itself out in packets; this is how often one stream is let in per second when it is alone. More
# wake-ups cost CPU time, fewer make the streams unfair.
CHUNKS_PER_S = 200
CHUNK_MIN_BYTES = 4 * 2**10
CHUNK_MAX_BYTES = 2**20
# A wake-up that comes late is made up for, or the link would be slower than it says on a busy machine.
BURST_S = 0.05
# Nobody waits for its answers when it is stopped.
DRAIN_S = 0.1


class Facts(msgspec.Struct, frozen=True):
    """`sent_bytes` and `request_count`: since the start. Bodies only; a HEAD counts as a request."""

    image_bytes: int
    layer_count: int
    sent_bytes: int
    request_count: int


class Origin:
    """`app` serves `image` at `link_bytes_per_s`."""

    def __init__(self, image: DemoImage, link_bytes_per_s: int) -> None:
        self._image = image
        self._bucket = TokenBucket(link_bytes_per_s, BURST_S)
        self._chunk_bytes = min(max(CHUNK_MIN_BYTES, link_bytes_per_s // CHUNKS_PER_S), CHUNK_MAX_BYTES)
        self._sent_bytes = 0
        self._request_count = 0
        base = f"/v2/{REPOSITORY}"
        self._contents: dict[str, DemoBlob] = {f"{base}/manifests/{TAG}": image.manifest}
        for blob in image:
            kind = "manifests" if blob is image.manifest else "blobs"
            self._contents[f"{base}/{kind}/{blob.digest}"] = blob
        self.app = web.Application(client_max_size=0)
        self.app.router.add_get(FACTS_PATH, self._facts)
        self.app.router.add_get("/v2/{rest:.+}", self._content, allow_head=True)

    async def _facts(self, request: web.Request) -> web.Response:
        facts = Facts(self._image.size_bytes, len(self._image.layers), self._sent_bytes, self._request_count)
        return web.Response(body=msgspec.json.encode(facts), content_type="application/json")

    async def _content(self, request: web.Request) -> web.StreamResponse:
        self._request_count += 1
        is_head = request.method == "HEAD"
        blob = self._contents.get(request.path)
        if blob is None:
            return error_response(ErrorCode.NAME_UNKNOWN, "the demo's registry has one image", head=is_head)
        try:
            span, partial = span_of(request, len(blob.content))
        except RangeInvalid as exc:
            return range_error(exc)
        headers = content_headers(blob.digest, blob.media_type, span, len(blob.content), partial)
        response = web.StreamResponse(status=206 if partial else 200, headers=headers)
        await response.prepare(request)
        if not is_head:
            await self._send(response, memoryview(blob.content)[span.start : span.stop])
        return response

    async def _send(self, response: web.StreamResponse, body: memoryview) -> None:
        loop = asyncio.get_running_loop()
        for start in range(0, len(body), self._chunk_bytes):
            chunk = body[start : start + self._chunk_bytes]
            await asyncio.sleep(self._bucket.take(len(chunk), loop.time()))
            # Before the write: whoever has the last byte finds all of them counted.
            self._sent_bytes += len(chunk)
            try:
                await response.write(chunk)
            except ConnectionError:
                return


async def serve(address: str, port: int, image_bytes: int, link_bytes_per_s: int) -> None:
    """Until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    sock = bind("origin", address, port)
    listener = Listener(Origin(build_image(image_bytes), link_bytes_per_s).app, sock, drain_s=DRAIN_S)
    await listener.start()
    try:
        await stopping.wait()
    finally:
        await listener.stop()


def command(address: str, port: int, image_bytes: int, link_bytes_per_s: int) -> list[str]:
    """The module and arguments that start it: for `python -m`."""
    return [__name__, address, str(port), str(image_bytes), str(link_bytes_per_s)]


def main(arguments: Sequence[str]) -> None:
    address, port, image_bytes, link_bytes_per_s = arguments
    asyncio.run(serve(address, int(port), int(image_bytes), int(link_bytes_per_s)))


if __name__ == "__main__":
    main(sys.argv[1:])
