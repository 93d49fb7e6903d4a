"""Asks one peer for one blob or part of it, or for its record of a tag, once.

Which peer, and what to do when it fails, is for others to decide.

Every failure is one of `mirror.peer.errors`; nothing that a peer sends escapes as another exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence

import aiohttp
from yarl import URL

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import wire
from mirror.peer.blob_answer import Head, content_length, failure_of, other_versions, told_body
from mirror.peer.contacts import Contacts
from mirror.peer.errors import (
    PeerBroke,
    PeerError,
    PeerNonsense,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.strangers import Strangers
from mirror.peer.tag_answer import TAG_ANSWER_MAX_BYTES, TagAnswerInvalid, decode, tag_target
from mirror.secret import Subkey
from mirror.tags.base import Attestation, TagName

# A handshake takes a round trip, whatever the peer does: who needs longer is not there, or farther than the origin.
CONNECT_TIMEOUT_S = 0.5
# A source silent for this long is left for another; containerd itself would wait for ever.
STALL_TIMEOUT_S = 2.0
# What one connection may hold in user memory before reading pauses (aiohttp pauses at twice this).
READ_BUFFER_BYTES = 256 * 1024
# Of a body: the process is woken for about so many bytes, adapted so that it is not woken more often than that, and not
# later. From the start on a source of 32 KiB/s is no stall.
WAKE_START_BYTES = 64 * 1024
WAKE_MAX_BYTES = 128 * 1024
WAKE_EVERY_MIN_S = 0.02
WAKE_EVERY_MAX_S = 0.06
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
        wakes = _Wakes(self._response, self.span.length_bytes)
        try:
            wakes.adjust()
            async for chunk in content.iter_any():
                yield chunk
                wakes.adjust()
            return
        except aiohttp.SocketTimeoutError as exc:
            error: PeerError = PeerStalled(self._peer, f"sent no byte for {STALL_TIMEOUT_S:g} s")
            error.__cause__ = exc
        except (aiohttp.ClientError, OSError) as exc:
            error = PeerBroke(self._peer, f"ended the body early: {_reason(exc)}")
            error.__cause__ = exc
        finally:
            wakes.end()
        # aiohttp raises before it gives what had arrived by then; without this it would be fetched twice.
        arrived = content._read_nowait(-1)
        if arrived:
            yield arrived
        raise error


class _Wakes:
    """How many bytes of a body must have come before the process is woken for them (SO_RCVLOWAT). On a shaped or busy
    link they come in shreds of a few KiB, and each wake costs as much as reading 64 KiB."""

    def __init__(self, response: aiohttp.ClientResponse, length_bytes: int) -> None:
        self._content = response.content
        self._length_bytes = length_bytes
        transport = response.connection.transport if response.connection is not None else None
        self._socket = None if transport is None else transport.get_extra_info("socket")
        self._aim_bytes = WAKE_START_BYTES
        self._set_bytes = 1
        self._adjusted_at = time.monotonic()

    def adjust(self) -> None:
        """Before the next bytes are waited for."""
        now = time.monotonic()
        waited_s, self._adjusted_at = now - self._adjusted_at, now
        if waited_s < WAKE_EVERY_MIN_S:
            self._aim_bytes = min(2 * self._aim_bytes, WAKE_MAX_BYTES)
        elif waited_s > WAKE_EVERY_MAX_S:
            self._aim_bytes = max(self._aim_bytes // 2, 1)
        # Never more than what is still to come over the wire, or nobody would be woken for it.
        self._set(min(self._aim_bytes, self._length_bytes - self._content.total_bytes))

    def end(self) -> None:
        """The connection may carry another answer."""
        self._set(1)

    def _set(self, low_bytes: int) -> None:
        low_bytes = max(1, low_bytes)
        if self._socket is None or low_bytes == self._set_bytes:
            return
        self._set_bytes = low_bytes
        with contextlib.suppress(OSError):  # it is closed
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_bytes)


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
            return content_length(peer, _head(response))

    @contextlib.asynccontextmanager
    async def fetch(
        self, peer: Peer, digest: Digest, start: int, stop: int | None
    ) -> AsyncIterator[PeerBody]:
        """Opens bytes `start` to `stop` (None: the end). Raises: PeerError. Leaving the block early closes the
        connection; leaving it after the last byte keeps it for the next request."""
        range_header = (
            "" if start == 0 and stop is None else f"bytes={start}-{'' if stop is None else stop - 1}"
        )
        async with self._request(peer, "GET", f"{wire.BLOB_PATH}{digest}", range_header) as response:
            self._check_status(peer, response, await self._error_text(response))
            span, size_bytes = told_body(peer, _head(response), start, stop)
            yield PeerBody(peer, span, size_bytes, response)

    async def attestation(self, peer: Peer, name: TagName) -> Attestation:
        """What the peer says of its own record. Raises: PeerError; PeerAbsent where it tells none."""
        async with self._request(peer, "GET", tag_target(name), "") as response:
            self._check_status(peer, response, await self._error_text(response))
            length_bytes = content_length(peer, _head(response))
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
        head = _head(response)
        if head.is_body:
            return
        versions = other_versions(head)
        if versions is not None:
            self._strangers.of_another_version(peer.address, versions)
        raise failure_of(peer, head, (text or "").encode())


def _head(response: aiohttp.ClientResponse) -> Head:
    return Head(response.status, {name.lower(): value for name, value in response.headers.items()})


def _reason(exc: BaseException) -> str:
    if isinstance(exc, asyncio.TimeoutError):
        return "timed out"
    return str(exc) or type(exc).__name__
