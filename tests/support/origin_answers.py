"""What may be asked of a `TokenOrigin`, what may be answered, and how a body leaves it."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Final, Literal, NoReturn

from aiohttp import web

from tests.support.hosts_tls import AUTHORITY_CERTIFICATE, SERVER_CERTIFICATE, SERVER_KEY
from tests.support.recording_mirror import Cut, End, Status, end_connection

Kind = Literal["ping", "head", "manifest", "blob", "token", "cdn", "other"]

_PATH: Final = re.compile(r"/v2/(?P<repository>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_CDN_PATH: Final = re.compile(r"/cdn/(?P<repository>.+)/(?P<reference>[^/]+)")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_WRITE_BYTES: Final = 256 * 1024
# A slow body is written in this many portions a second, or in whole writes.
_PORTIONS_PER_S: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; header names are lower-case. `target` is spelled as it was sent."""

    kind: Kind
    method: str
    authority: str
    target: str
    path: str
    query: Mapping[str, str]
    repository: str
    reference: str
    headers: Mapping[str, str]
    client: str

    @property
    def is_tag(self) -> bool:
        return self.kind in ("head", "manifest") and ":" not in self.reference

    @property
    def range(self) -> str:
        return self.headers.get("range", "")

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def short(self) -> str:
        """For comparing traces: "HEAD head v1", "GET blob sha256:0123 bytes=5-"."""
        reference = self.reference[:11] if ":" in self.reference else self.reference
        return " ".join(filter(None, [self.method, self.kind, reference, self.range]))


@dataclass(slots=True)
class Exchange:
    """status 0: ended before an answer, or not answered yet. Times are `time.monotonic()`; `ended_s` 0: under way."""

    asked: Asked
    begun_s: float
    ended_s: float = 0.0
    status: int = 0
    sent_bytes: int = 0
    client_left: bool = False


@dataclass(frozen=True, slots=True)
class Good:
    """As a good registry does, or nearly. content_type None: the blob's own. `is_corrupt`: the last byte is wrong."""

    first_byte_after_s: float = 0.0
    bytes_per_s: float | None = None
    ignore_range: bool = False
    content_type: str | None = None
    tells_digest: bool = True
    tells_length: bool = True
    is_corrupt: bool = False


@dataclass(frozen=True, slots=True)
class BlackHole:
    """The connection is accepted and nothing is ever answered."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A good answer that says nothing more after `after_bytes` of the asked body."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """location "": to this origin's CDN."""

    location: str = ""
    code: int = 307


Answer = Good | Status | Cut | End | BlackHole | Stall | Redirect

RESET: Final = End("rst")


def rate_limited(retry_after: str | None = None) -> Status:
    """`retry_after` is the header's text: seconds, or `http_date`."""
    headers = (("Retry-After", retry_after),) if retry_after is not None else ()
    return Status(429, headers, '{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}')


def http_date(from_now_s: float) -> str:
    return formatdate(time.time() + from_now_s, usegmt=True)


def server_tls(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A context for 127.0.0.1 and localhost, and the file of the authority that signed its certificate."""
    chain, key, authority = folder / "server.crt", folder / "server.key", folder / "authority.crt"
    chain.write_text(SERVER_CERTIFICATE)
    key.write_text(SERVER_KEY)
    authority.write_text(AUTHORITY_CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    return context, authority


@dataclass(frozen=True, slots=True)
class FileContent:
    """A large blob that is served from a file. `size_bytes` may be less than the file."""

    path: Path
    size_bytes: int

    def read(self, start: int, stop: int) -> bytes:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, stop - start, start)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Held:
    media_type: str
    digest: str
    content: bytes | FileContent

    @property
    def size_bytes(self) -> int:
        return self.content.size_bytes if isinstance(self.content, FileContent) else len(self.content)

    def read(self, start: int, stop: int) -> bytes:
        content = self.content
        return content.read(start, stop) if isinstance(content, FileContent) else content[start:stop]


def asked_of(request: web.BaseRequest) -> Asked:
    found = _PATH.fullmatch(request.path) or _CDN_PATH.fullmatch(request.path)
    kind: Kind = "other"
    if request.path == "/v2/":
        kind = "ping"
    elif request.path == "/token":
        kind = "token"
    elif found is not None:
        if request.path.startswith("/cdn/"):
            kind = "cdn"
        elif found["kind"] == "blobs":
            kind = "blob"
        else:
            kind = "head" if request.method == "HEAD" else "manifest"
    return Asked(
        kind=kind,
        method=request.method,
        authority=request.headers.get("Host", ""),
        target=request.raw_path,
        path=request.path,
        query=dict(request.query),
        repository=found["repository"] if found else "",
        reference=found["reference"] if found else "",
        headers={
            name.lower(): ", ".join(request.headers.getall(name))
            for name in request.headers  # repeated: once
        },
        client=request.remote or "",
    )


async def silence() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError


async def send_body(
    request: web.BaseRequest, held: Held, answer: Good | Cut | Stall, exchange: Exchange
) -> web.StreamResponse:
    good = answer if isinstance(answer, Good) else Good()
    start, end = 0, held.size_bytes
    wanted = None if good.ignore_range else _RANGE.fullmatch(exchange.asked.range)
    if wanted is not None:
        start = int(wanted[1])
        end = min(end, int(wanted[2]) + 1) if wanted[2] else end
        if start >= end:
            return web.Response(status=416, headers={"Content-Range": f"bytes */{held.size_bytes}"})
    response = web.StreamResponse(status=200 if wanted is None else 206)
    response.headers["Content-Type"] = held.media_type if good.content_type is None else good.content_type
    if good.tells_digest:
        response.headers["Docker-Content-Digest"] = held.digest
    if wanted is not None:
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{held.size_bytes}"
    if good.tells_length:
        response.content_length = end - start
    exchange.status = response.status
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    stop = min(end, start + answer.after_bytes) if isinstance(answer, Cut | Stall) else end
    rate = good.bytes_per_s
    write_bytes = _WRITE_BYTES if rate is None else max(1, min(_WRITE_BYTES, int(rate / _PORTIONS_PER_S)))
    for offset in range(start, stop, write_bytes):
        chunk = held.read(offset, min(offset + write_bytes, stop))
        if good.is_corrupt and offset + len(chunk) == held.size_bytes:
            chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
        await response.write(chunk)
        exchange.sent_bytes += len(chunk)
        if rate is not None:
            await asyncio.sleep(len(chunk) / rate)
    if isinstance(answer, Stall):
        await silence()
    if isinstance(answer, Cut):
        await end_connection(request, answer.ending)
    else:
        await response.write_eof()
    return response
