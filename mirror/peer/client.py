"""Asks one peer for one blob or part of it, or for its record of a tag, once.

Which peer, and what to do when it fails, is for others to decide.

Every failure is one of `mirror.peer.errors`; nothing that a peer sends escapes as another exception.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import wire
from mirror.peer.blob_answer import (
    LENGTH_MAX_DIGITS,
    Head,
    content_length,
    failure_of,
    other_versions,
    told_body,
)
from mirror.peer.connection import ClosedUnanswered, Connection
from mirror.peer.contacts import Contacts
from mirror.peer.errors import PeerError, PeerNonsense, PeerUnreachable
from mirror.peer.strangers import Strangers
from mirror.peer.tag_answer import TAG_ANSWER_MAX_BYTES, TagAnswerInvalid, decode, tag_target
from mirror.secret import Subkey
from mirror.tags.base import Attestation, TagName

# A handshake takes a round trip, whatever the peer does: who needs longer is not there, or farther than the origin.
CONNECT_TIMEOUT_S = 0.3
# All peers together: the daemon of a host with a few dozen layers in flight stays far below.
CONNECTIONS_MAX_COUNT = 512
# An error body of a peer is read this far, for its reason.
ERROR_BODY_MAX_BYTES = 2048


def _nobody(_: int) -> None:
    pass


class PeerBody:
    """An answer whose head was checked. `span` is what it carries of a blob of `size_bytes`. To be closed, by `with`
    for one: before its end that closes the connection, after it the connection is kept for the next request."""

    def __init__(self, span: ByteSpan, size_bytes: int, answer: _Answer) -> None:
        self.span = span
        self.size_bytes = size_bytes
        self._answer = answer
        self._before_bytes = answer.connection.came_bytes

    @property
    def came_bytes(self) -> int:
        """Of this body, also of what `fill` did not get to its end."""
        return self._answer.connection.came_bytes - self._before_bytes

    async def fill(self, view: memoryview, came: Callable[[int], None] = _nobody) -> None:
        """With the next bytes; as many must be left. `came` is told meanwhile how many of them are here. Raises:
        PeerStalled, PeerBroke. A reader that pauses is no stall."""
        await self._answer.connection.fill(view, came)

    def close(self) -> None:
        """Idempotent."""
        self._answer.close()

    def __enter__(self) -> PeerBody:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PeerClient:
    """Use as an async context manager. `keys` signs with its first; empty means a cluster without a secret."""

    def __init__(self, keys: Sequence[Subkey], unix_clock: Callable[[], float], strangers: Strangers) -> None:
        self.contacts = Contacts(keys, unix_clock)
        self._strangers = strangers
        self._idle: dict[Peer, list[Connection]] = {}
        self._places = asyncio.Semaphore(CONNECTIONS_MAX_COUNT)
        self._is_closed = False

    async def __aenter__(self) -> PeerClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._is_closed = True
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        # Their sockets are closed in the next round of the loop.
        await asyncio.sleep(0)

    async def size_bytes(self, peer: Peer, digest: Digest) -> int:
        """The size of a blob that the peer holds. Raises: PeerError; PeerAbsent where it does not hold it."""
        answer = await self._request(peer, "HEAD", f"{wire.BLOB_PATH}{digest}", "")
        answer.connection.expect(0)
        answer.close()
        if not answer.head.is_body:
            raise self._failure(peer, answer.head, b"")
        return content_length(peer, answer.head)

    async def fetch(self, peer: Peer, digest: Digest, start: int, stop: int | None) -> PeerBody:
        """Opens bytes `start` to `stop` (None: the end). Raises: PeerError."""
        is_whole = start == 0 and stop is None
        range_header = "" if is_whole else f"bytes={start}-{'' if stop is None else stop - 1}"
        answer = await self._request(peer, "GET", f"{wire.BLOB_PATH}{digest}", range_header)
        try:
            if not answer.head.is_body:
                raise self._failure(peer, answer.head, await answer.text())
            span, size_bytes = told_body(peer, answer.head, start, stop)
            answer.connection.expect(span.length_bytes)
        except BaseException:
            answer.close()
            raise
        return PeerBody(span, size_bytes, answer)

    async def attestation(self, peer: Peer, name: TagName) -> Attestation:
        """What the peer says of its own record. Raises: PeerError; PeerAbsent where it tells none."""
        answer = await self._request(peer, "GET", tag_target(name), "")
        try:
            if not answer.head.is_body:
                raise self._failure(peer, answer.head, await answer.text())
            length_bytes = content_length(peer, answer.head)
            if answer.head.status != 200 or length_bytes > TAG_ANSWER_MAX_BYTES:
                told = f"{answer.head.status} with {length_bytes} bytes"
                raise PeerNonsense(str(peer), f"answered {told} when asked for a tag")
            told_tag = decode(await answer.whole(length_bytes))
        except TagAnswerInvalid as exc:
            raise PeerNonsense(str(peer), str(exc)) from exc
        finally:
            answer.close()
        return Attestation(peer.address, told_tag.digest, told_tag.pulled_at_s, told_tag.public_at_s)

    # -- connections -----------------------------------------------------------------------------------------------

    async def _request(self, peer: Peer, method: str, target: str, range_header: str) -> _Answer:
        """`target` is the path with its query, encoded. Raises: PeerError."""
        what = wire.Request(method, target, range_header)
        authorization = self.contacts.sign(peer, what)
        answer = await self._exchange(peer, wire.head_of(what, str(peer), authorization, is_last=False))
        if answer.head.status == 401:
            challenge = answer.head.headers.get(wire.CHALLENGE_HEADER.lower())
            if self.contacts.learn(peer, challenge, authorization):
                answer.close()
                again = self.contacts.sign(peer, what)
                answer = await self._exchange(peer, wire.head_of(what, str(peer), again, is_last=False))
        return answer

    async def _exchange(self, peer: Peer, request: bytes) -> _Answer:
        await self._places.acquire()
        connection: Connection | None = None
        try:
            idle = self._idle.get(peer)
            while idle:
                connection = idle.pop()
                if connection.is_usable:
                    try:
                        return _Answer(self, peer, connection, await connection.ask(request, is_first=False))
                    except ClosedUnanswered:
                        continue
            connection = await self._connect(peer)
            return _Answer(self, peer, connection, await connection.ask(request, is_first=True))
        except BaseException:
            if connection is not None:
                connection.close()
            self._places.release()
            raise

    async def _connect(self, peer: Peer) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(peer, lambda it: self._gone(peer, it)), peer.address, peer.port
                )
        except (OSError, UnicodeError) as exc:  # TimeoutError is one; a name may be none at all
            why = "timed out" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
            raise PeerUnreachable(str(peer), why) from exc
        return connection

    def ended(self, peer: Peer, connection: Connection) -> None:
        """An answer on it is over, however it ended."""
        self._places.release()
        if connection.is_usable and not self._is_closed:
            self._idle.setdefault(peer, []).append(connection)
        else:
            connection.close()

    def _gone(self, peer: Peer, connection: Connection) -> None:
        idle = self._idle.get(peer, [])
        if connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(peer, None)

    def _failure(self, peer: Peer, head: Head, text: bytes) -> PeerError:
        versions = other_versions(head)
        if versions is not None:
            self._strangers.of_another_version(peer.address, versions)
        return failure_of(peer, head, text)


class _Answer:
    """What came on a connection that is taken until `close`."""

    def __init__(self, client: PeerClient, peer: Peer, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self._client = client
        self._peer = peer
        self._is_closed = False

    async def whole(self, length_bytes: int) -> bytes:
        """Raises: PeerStalled, PeerBroke."""
        data = bytearray(length_bytes)
        self.connection.expect(length_bytes)
        await self.connection.fill(memoryview(data), _nobody)
        return bytes(data)

    async def text(self) -> bytes:
        """Of an error, as far as it is worth reading, and as it came."""
        told = self.head.headers.get("content-length", "")
        if told.isdecimal() and len(told) <= LENGTH_MAX_DIGITS and int(told) <= ERROR_BODY_MAX_BYTES:
            try:
                return await self.whole(int(told))
            except PeerError:
                return b""
        return await self.connection.text(ERROR_BODY_MAX_BYTES)

    def close(self) -> None:
        """Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._client.ended(self._peer, self.connection)
