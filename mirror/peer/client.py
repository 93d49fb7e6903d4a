"""Asks one peer for one blob or part of it, or for its record of a tag, once.

Which peer, and what to do when it fails, is for others to decide.

Every failure is one of `mirror.peer.errors`; nothing that a peer sends escapes as another exception.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan, ContentRange
from mirror.oci.digest import Digest
from mirror.peer import busy, wire
from mirror.peer.contacts import Contacts
from mirror.peer.errors import (
    PeerAbsent,
    PeerBroke,
    PeerBusy,
    PeerError,
    PeerIncompatible,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.strangers import Strangers
from mirror.peer.tag_answer import TAG_ANSWER_MAX_BYTES, TagAnswerInvalid, decode, tag_target
from mirror.secret import Subkey
from mirror.tags.base import Attestation, TagName

# A peer that does not complete a handshake within a second is slower than going to the origin.
CONNECT_TIMEOUT_S = 1.0
# A source silent for this long is left for another; containerd itself would wait for ever.
STALL_TIMEOUT_S = 2.0
# What one connection may hold in user memory before reading pauses (aiohttp pauses at twice this).
READ_BUFFER_BYTES = 256 * 1024
# All peers together: the daemon of a host with a few dozen layers in flight stays far below.
CONNECTIONS_MAX_COUNT = 512
# An error body of a peer is read this far, for its reason.
ERROR_BODY_MAX_BYTES = 2048


class PeerBody:
    """An answer whose headers were checked. `span` is what it carries of a blob of `size_bytes`."""

    def __init__(self, peer: Peer, span: ByteSpan, size_bytes: int, response: aiohttp.ClientResponse) -> None:
        self.span = span
        self.size_bytes = size_bytes
        self._peer = str(peer)
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in order. Raises: PeerStalled, PeerBroke. A reader that pauses is no stall."""
        content = self._response.content
        try:
            async for chunk in content.iter_any():
                yield chunk
            return
        except aiohttp.SocketTimeoutError as exc:
            error: PeerError = PeerStalled(self._peer, f"sent no byte for {STALL_TIMEOUT_S:g} s")
            error.__cause__ = exc
        except (aiohttp.ClientError, OSError) as exc:
            error = PeerBroke(self._peer, f"ended the body early: {_reason(exc)}")
            error.__cause__ = exc
        # aiohttp raises before it gives what had arrived by then; without this it would be fetched twice.
        arrived = content._read_nowait(-1)
        if arrived:
            yield arrived
        raise error


class PeerClient:
    """Use as an async context manager. `keys` signs with its first; empty means a cluster without a secret."""

    def __init__(self, keys: Sequence[Subkey], unix_clock: Callable[[], float], strangers: Strangers) -> None:
        self.contacts = Contacts(keys, unix_clock)
        self._strangers = strangers
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> PeerClient:
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=2 * CONNECT_TIMEOUT_S,
            sock_connect=CONNECT_TIMEOUT_S,
            sock_read=STALL_TIMEOUT_S,
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX_COUNT, ttl_dns_cache=30),
            timeout=timeout,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={wire.HOP_HEADER: "1", "Accept-Encoding": "identity", "User-Agent": "peili"},
            trust_env=False,  # a proxy is for the origin, never for peers
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def size_bytes(self, peer: Peer, digest: Digest) -> int:
        """The size of a blob that the peer holds. Raises: PeerError; PeerAbsent where it does not hold it."""
        async with self._request(peer, "HEAD", f"{wire.BLOB_PATH}{digest}", "") as response:
            self._check_status(peer, response, None)
            return _content_length(peer, response.headers)

    @contextlib.asynccontextmanager
    async def fetch(
        self, peer: Peer, digest: Digest, start: int, stop: int | None
    ) -> AsyncIterator[PeerBody]:
        """Opens bytes `start` to `stop` (None: the end). Raises: PeerError. Leaving the block early closes the
        connection; leaving it after the last byte keeps it for the next request."""
        whole = start == 0 and stop is None
        range_header = "" if whole else f"bytes={start}-{'' if stop is None else stop - 1}"
        async with self._request(peer, "GET", f"{wire.BLOB_PATH}{digest}", range_header) as response:
            self._check_status(peer, response, await self._error_text(response))
            yield self._checked_body(peer, response, start, stop, whole)

    async def attestation(self, peer: Peer, name: TagName) -> Attestation:
        """What the peer says of its own record. Raises: PeerError; PeerAbsent where it tells none."""
        async with self._request(peer, "GET", tag_target(name), "") as response:
            self._check_status(peer, response, await self._error_text(response))
            length_bytes = _content_length(peer, response.headers)
            if response.status != 200 or length_bytes > TAG_ANSWER_MAX_BYTES:
                told = f"{response.status} with {length_bytes} bytes"
                raise PeerNonsense(str(peer), f"answered {told} when asked for a tag")
            try:
                told_tag = decode(await response.content.readexactly(length_bytes))
            except aiohttp.SocketTimeoutError as exc:
                raise PeerStalled(str(peer), f"sent no byte for {STALL_TIMEOUT_S:g} s") from exc
            except (aiohttp.ClientError, asyncio.IncompleteReadError, OSError) as exc:
                raise PeerBroke(str(peer), f"ended the body early: {_reason(exc)}") from exc
            except TagAnswerInvalid as exc:
                raise PeerNonsense(str(peer), str(exc)) from exc
        return Attestation(peer.address, told_tag.digest, told_tag.pulled_at_s, told_tag.public_at_s)

    @contextlib.asynccontextmanager
    async def _request(
        self, peer: Peer, method: str, target: str, range_header: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """`target` is the path with its query, encoded."""
        assert self._session is not None
        url = URL(f"http://{peer}{target}", encoded=True)
        what = wire.Request(method, url.raw_path_qs, range_header)
        async with contextlib.AsyncExitStack() as stack:
            response = None
            for attempt in (1, 2):
                headers = {"Authorization": self.contacts.sign(peer, what)}
                if range_header:
                    headers["Range"] = range_header
                try:
                    response = await stack.enter_async_context(
                        self._session.request(method, url, headers=headers, allow_redirects=False)
                    )
                except aiohttp.SocketTimeoutError as exc:
                    raise PeerStalled(str(peer), f"did not answer within {STALL_TIMEOUT_S:g} s") from exc
                except (aiohttp.ClientConnectionError, TimeoutError, OSError) as exc:
                    raise PeerUnreachable(str(peer), _reason(exc)) from exc
                except (aiohttp.ClientError, ValueError) as exc:
                    raise PeerNonsense(str(peer), f"no HTTP answer: {_reason(exc)}") from exc
                if response.status != 401 or attempt == 2:
                    break
                challenge = response.headers.get(wire.CHALLENGE_HEADER)
                if not self.contacts.learn(peer, challenge, headers["Authorization"]):
                    break
            assert response is not None
            yield response

    async def _error_text(self, response: aiohttp.ClientResponse) -> str:
        if response.status in (200, 206):
            return ""
        text = b""
        try:
            while len(text) < ERROR_BODY_MAX_BYTES:
                chunk = await response.content.read(ERROR_BODY_MAX_BYTES - len(text))
                if not chunk:
                    break
                text += chunk
        except (aiohttp.ClientError, OSError):
            return ""
        return text.decode("utf-8", "replace")

    def _check_status(self, peer: Peer, response: aiohttp.ClientResponse, text: str | None) -> None:
        status = response.status
        if status in (200, 206):
            return
        if status == 404:
            raise PeerAbsent(str(peer), "does not hold it")
        if status == 429:
            retry_after_s = busy.retry_after_s(response.headers.get("Retry-After"))
            others = busy.decode((text or "").encode(), peer)
            raise PeerBusy(str(peer), "has no free upload slot", retry_after_s, others)
        versions = response.headers.get(wire.VERSIONS_HEADER)
        if status == 400 and versions is not None:
            self._strangers.of_another_version(peer.address, versions[:40])
            raise PeerIncompatible(str(peer), f"speaks wire versions {versions[:40]}")
        detail = f": {text}" if text else ""
        raise PeerRefused(str(peer), f"answered {status}{detail}")

    def _checked_body(
        self, peer: Peer, response: aiohttp.ClientResponse, start: int, stop: int | None, whole: bool
    ) -> PeerBody:
        length_bytes = _content_length(peer, response.headers)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PeerNonsense(str(peer), "sent a compressed body")
        if whole:
            if response.status != 200:
                raise PeerNonsense(str(peer), f"answered {response.status} to a request without a range")
            return PeerBody(peer, ByteSpan(0, length_bytes), length_bytes, response)
        told = ContentRange.parse(response.headers.get("Content-Range"))
        if response.status != 206 or told is None:
            raise PeerNonsense(
                str(peer), f"answered {response.status} without a usable range to a ranged request"
            )
        wanted_stop = told.size_bytes if stop is None else min(stop, told.size_bytes)
        if told.span != ByteSpan(start, max(start, wanted_stop)) or told.span.length_bytes != length_bytes:
            sent = f"{told.span.content_range(told.size_bytes)} in {length_bytes} bytes"
            raise PeerNonsense(str(peer), f"sent {sent} when bytes from {start} were asked for")
        return PeerBody(peer, told.span, told.size_bytes, response)


def _content_length(peer: Peer, headers: CIMultiDictProxy[str]) -> int:
    text = headers.get("Content-Length", "")
    if not text.isdecimal() or len(text) > 18:
        raise PeerNonsense(str(peer), "told no length")
    return int(text)


def _reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.TimeoutError):
        return "timed out"
    return str(exc) or type(exc).__name__
