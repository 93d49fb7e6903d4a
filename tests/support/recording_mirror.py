"""Registries that do as they are told: they record every request and fail in the way a test asks for.

Several hosts (mirror, origin, fallback) share one journal, so that the order of requests across them can be
read. They serve images built by `oci_image` from memory, by the read half of the distribution API, over plain
HTTP. What a host answers is decided by one function per host; without one it behaves like a good registry.
"""

from __future__ import annotations

import asyncio
import fcntl
import re
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Self

from aiohttp import web

from tests.support.oci_image import Blob, Image, Index

# A path prefix before /v2, as the fallback host has, is not looked at.
_PATH: Final = re.compile(r".*/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)$")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_WRITE_BYTES: Final = 64 * 1024
_DRAIN_POLL_S: Final = 0.005
# Requests under way when a host is stopped are cut off: tests end them by design.
_SHUTDOWN_S: Final = 0.1

Ending = Literal["fin", "rst"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as it came. `times` counts those of the same host, method, reference and rangedness."""

    host: str
    method: str
    kind: Literal["manifests", "blobs", "other"]
    repository: str
    reference: str
    ns: str | None
    range: str
    accept: str
    user_agent: str
    times: int

    @property
    def is_tag(self) -> bool:
        return self.kind == "manifests" and not self.reference.startswith("sha256:")

    @property
    def short(self) -> str:
        """For comparing traces: "mirror GET blobs sha256:0123 bytes=5-"."""
        reference = self.reference[:11] if self.reference.startswith("sha256:") else self.reference
        return " ".join(filter(None, [self.host, self.method, self.kind, reference, self.range]))


@dataclass(slots=True)
class Exchange:
    """status 0: the connection was ended before an answer. client_left: it closed before the body's end."""

    asked: Asked
    status: int = 0
    sent_bytes: int = 0
    client_left: bool = False


@dataclass(frozen=True, slots=True)
class Serve:
    """As a good registry does, or nearly. content_type None: the blob's own."""

    content_type: str | None = None
    ignore_range: bool = False
    bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Status:
    code: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """Headers for the whole, `after_bytes` of the asked body, then the end of the connection."""

    after_bytes: int
    ending: Ending = "fin"


@dataclass(frozen=True, slots=True)
class End:
    """The connection ends before any header."""

    ending: Ending = "fin"


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is sent until `released`; then `answer`."""

    released: asyncio.Event
    answer: Serve | Status | Cut | End | Pause


@dataclass(frozen=True, slots=True)
class Pause:
    """A good answer that says nothing more after `after_bytes` of the asked body until `released`."""

    after_bytes: int
    released: asyncio.Event


Answer = Serve | Status | Cut | End | Pause | Hold


def serve_everything(_: Asked) -> Answer:
    return Serve()


@dataclass(slots=True)
class Shelf:
    """What the hosts of one test have to offer."""

    blobs: dict[str, Blob] = field(default_factory=dict)
    tags: dict[tuple[str, str], Blob] = field(default_factory=dict)

    def add(self, image: Image | Index, repository: str, tag: str) -> None:
        self.blobs |= {blob.digest: blob for blob in image}
        self.tags[repository, tag] = image.manifest

    def find(self, repository: str, reference: str) -> Blob | None:
        return self.blobs.get(reference) or self.tags.get((repository, reference))


@dataclass(slots=True)
class Journal:
    exchanges: list[Exchange] = field(default_factory=list)

    def of(self, *, host: str | None = None, reference: str | None = None) -> list[Exchange]:
        return [
            exchange
            for exchange in self.exchanges
            if host in (None, exchange.asked.host) and reference in (None, exchange.asked.reference)
        ]

    def trace(self, *, host: str | None = None, reference: str | None = None) -> list[str]:
        return [exchange.asked.short for exchange in self.of(host=host, reference=reference)]


class RecordingHost:
    """`async with RecordingHost("mirror", shelf, journal) as mirror:`; `answer` may be changed any time.

    What is asked below /fallback is recorded as asked of the host "fallback", on the same port.
    """

    def __init__(
        self,
        name: str,
        shelf: Shelf,
        journal: Journal,
        answer: Callable[[Asked], Answer] = serve_everything,
        *,
        address: str = "127.0.0.1",
    ) -> None:
        self.name = name
        self.shelf = shelf
        self.journal = journal
        self.answer = answer
        self.address = address
        self.port = 0
        self._runner: web.ServerRunner | None = None

    @property
    def authority(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    async def start(self) -> None:
        """A stopped host comes back on its old port."""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=_SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(self._asked(request))
        self.journal.exchanges.append(exchange)
        answer = self.answer(exchange.asked)
        if isinstance(answer, Hold):
            await answer.released.wait()
            answer = answer.answer
        blob = self.shelf.find(exchange.asked.repository, exchange.asked.reference)
        if isinstance(answer, End):
            await end_connection(request, answer.ending)
            return web.Response()
        if isinstance(answer, Status) or blob is None:
            status = answer if isinstance(answer, Status) else Status(404)
            exchange.status = status.code
            return web.Response(status=status.code, headers=list(status.headers), text=status.body)
        return await _send(request, blob, answer, exchange)

    def _asked(self, request: web.BaseRequest) -> Asked:
        found = _PATH.match(request.path)
        host = "fallback" if request.path.startswith("/fallback/") else self.name
        range_header = request.headers.get("Range", "")
        reference = found["reference"] if found else request.path
        same = [
            exchange
            for exchange in self.journal.of(host=host, reference=reference)
            if (exchange.asked.method, bool(exchange.asked.range)) == (request.method, bool(range_header))
        ]
        return Asked(
            host=host,
            method=request.method,
            kind="other" if found is None else "manifests" if found["kind"] == "manifests" else "blobs",
            repository=found["repository"] if found else "",
            reference=reference,
            ns=request.query.get("ns"),
            range=range_header,
            accept=", ".join(request.headers.getall("Accept", [])),
            user_agent=request.headers.get("User-Agent", ""),
            times=len(same) + 1,
        )


async def _send(
    request: web.BaseRequest, blob: Blob, answer: Serve | Cut | Pause, exchange: Exchange
) -> web.StreamResponse:
    start, end = 0, len(blob.content)
    asked = _RANGE.fullmatch(exchange.asked.range)
    ranged = asked is not None and not (isinstance(answer, Serve) and answer.ignore_range)
    if asked is not None and ranged:
        start = int(asked[1])
        end = min(end, int(asked[2]) + 1) if asked[2] else end
        if start >= end:
            exchange.status = 416
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(blob.content)}"})
    response = web.StreamResponse(status=206 if ranged else 200)
    content_type = answer.content_type if isinstance(answer, Serve) else None
    response.headers["Content-Type"] = content_type if content_type is not None else blob.media_type
    response.headers["Docker-Content-Digest"] = blob.digest
    response.headers["Accept-Ranges"] = "bytes"
    response.content_length = end - start
    if ranged:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(blob.content)}"
    exchange.status = response.status
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    stop = min(end, start + answer.after_bytes) if isinstance(answer, Cut) else end
    pause_at = start + answer.after_bytes if isinstance(answer, Pause) else end
    pace_s = _WRITE_BYTES / answer.bytes_per_s if isinstance(answer, Serve) and answer.bytes_per_s else 0.0
    try:
        for offset in range(start, stop, _WRITE_BYTES):
            chunk = blob.content[offset : min(offset + _WRITE_BYTES, stop)]
            if isinstance(answer, Pause) and offset >= pause_at:
                await answer.released.wait()
            await response.write(chunk)
            exchange.sent_bytes += len(chunk)
            await asyncio.sleep(pace_s)
        if isinstance(answer, Cut):
            await end_connection(request, answer.ending)
        else:
            await response.write_eof()
    except ConnectionError:
        exchange.client_left = True
    return response


async def end_connection(request: web.BaseRequest, ending: Ending) -> None:
    """What was written before arrives first, also before a reset."""
    transport = request.transport
    if transport is None:
        return
    if ending == "fin":
        transport.close()
        return
    # A reset drops what is not yet delivered, so what was written must have arrived.
    connection: socket.socket = transport.get_extra_info("socket")
    while transport.get_write_buffer_size() or _undelivered_bytes(connection):
        await asyncio.sleep(_DRAIN_POLL_S)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _undelivered_bytes(connection: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


@contextmanager
def refused_address(address: str = "127.0.0.1") -> Iterator[str]:
    """An authority at which every connection is refused for as long as the context lasts."""
    with socket.socket() as bound:
        bound.bind((address, 0))  # and never listens
        yield f"{address}:{bound.getsockname()[1]}"
