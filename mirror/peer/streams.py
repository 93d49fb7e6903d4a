"""Asks one peer for a part of one blob on a socket of its own, whose bytes are then the caller's to move: in the
kernel, say. As `PeerClient` asks, with the same checks, but the body never passes through here.

Refuses to follow redirects, and to read the body: only what came in one segment with the headers, so that who holds a
stream holds its first byte.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import wire
from mirror.peer.blob_answer import (
    HEAD_MAX_BYTES,
    LENGTH_MAX_DIGITS,
    Head,
    failure_of,
    other_versions,
    told_body,
)
from mirror.peer.client import CONNECT_TIMEOUT_S, ERROR_BODY_MAX_BYTES
from mirror.peer.connection import STALL_TIMEOUT_S
from mirror.peer.contacts import Contacts
from mirror.peer.errors import PeerBroke, PeerNonsense, PeerStalled, PeerUnreachable
from mirror.peer.strangers import Strangers

# The head and what comes with it; the rest is left to the kernel.
READ_BYTES = 16 * 1024


class PeerStream:
    """An open answer: `first`, never empty where the span is not, and what `sock` still gives are the bytes `span` of a
    blob of `size_bytes`. Non-blocking. To be closed by whoever has it."""

    def __init__(
        self, peer: Peer, sock: socket.socket, span: ByteSpan, size_bytes: int, first: bytes
    ) -> None:
        self.peer = peer
        self.sock = sock
        self.span = span
        self.size_bytes = size_bytes
        self.first = first

    def broke(self, reason: str) -> PeerBroke:
        return PeerBroke(str(self.peer), f"ended the body early: {reason}")

    def stalled(self) -> PeerStalled:
        return PeerStalled(str(self.peer), f"sent no byte for {STALL_TIMEOUT_S:g} s")

    def close(self) -> None:
        """Idempotent."""
        self.sock.close()


class PeerStreams:
    """`contacts` signs, and learns; those of the daemon's `PeerClient`."""

    def __init__(self, contacts: Contacts, strangers: Strangers) -> None:
        self._contacts = contacts
        self._strangers = strangers

    async def open(self, peer: Peer, digest: Digest, start: int, stop: int | None) -> PeerStream:
        """Bytes `start` to `stop` (None: the end). Raises: PeerError."""
        is_whole = start == 0 and stop is None
        range_header = "" if is_whole else f"bytes={start}-{'' if stop is None else stop - 1}"
        what = wire.Request("GET", f"{wire.BLOB_PATH}{digest}", range_header)
        authorization = self._contacts.sign(peer, what)
        asking = await _Asking.connect(peer)
        try:
            head = await asking.ask(what, authorization)
            challenge = head.headers.get(wire.CHALLENGE_HEADER.lower())
            if head.status == 401 and self._contacts.learn(peer, challenge, authorization):
                asking.sock.close()
                asking = await _Asking.connect(peer)
                head = await asking.ask(what, self._contacts.sign(peer, what))
            if not head.is_body:
                versions = other_versions(head)
                if versions is not None:
                    self._strangers.of_another_version(peer.address, versions)
                raise failure_of(peer, head, await asking.error_text(head))
            span, size_bytes = told_body(peer, head, start, stop)
            first = await asking.first(span.length_bytes)
        except BaseException:
            asking.sock.close()
            raise
        return PeerStream(peer, asking.sock, span, size_bytes, first)


class _Asking:
    """One request on a connection of its own."""

    def __init__(self, peer: Peer, sock: socket.socket) -> None:
        self.sock = sock
        self._peer = peer
        # What came behind the head.
        self._rest = b""

    @classmethod
    async def connect(cls, peer: Peer) -> _Asking:
        """Raises: PeerUnreachable."""
        loop = asyncio.get_running_loop()
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                family = socket.AF_INET6 if ":" in peer.address else socket.AF_INET
                address: tuple[Any, ...] = (peer.address, peer.port)
                if family is socket.AF_INET and not peer.address.rpartition(".")[2].isdecimal():
                    found = await loop.getaddrinfo(peer.address, peer.port, type=socket.SOCK_STREAM)
                    family, address = found[0][0], found[0][4]
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
        except BaseException as exc:
            if sock is not None:
                sock.close()
            if isinstance(exc, (OSError, UnicodeError)):  # TimeoutError is one; a name may be none at all
                raise PeerUnreachable(str(peer), _reason(exc)) from exc
            raise
        return cls(peer, sock)

    async def ask(self, what: wire.Request, authorization: str) -> Head:
        """Raises: PeerError."""
        request = wire.head_of(what, str(self._peer), authorization, is_last=True)
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await asyncio.get_running_loop().sock_sendall(self.sock, request)
                return Head.parse(self._peer, await self._head())
        except TimeoutError as exc:
            raise PeerStalled(str(self._peer), f"did not answer within {STALL_TIMEOUT_S:g} s") from exc
        except OSError as exc:
            raise PeerUnreachable(str(self._peer), _reason(exc)) from exc

    async def _head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            if len(data) > HEAD_MAX_BYTES:
                raise PeerNonsense(str(self._peer), f"answered with a head of over {HEAD_MAX_BYTES} bytes")
            more = await asyncio.get_running_loop().sock_recv(self.sock, READ_BYTES)
            if not more:
                if data:
                    raise PeerNonsense(str(self._peer), "no HTTP answer: it ended within its head")
                raise PeerUnreachable(str(self._peer), "closed the connection without an answer")
            data += more
        head, _, self._rest = data.partition(b"\r\n\r\n")
        return head

    async def first(self, length_bytes: int) -> bytes:
        """The beginning of a body of that length. Raises: PeerError."""
        if not self._rest and length_bytes:
            try:
                async with asyncio.timeout(STALL_TIMEOUT_S):
                    self._rest = await asyncio.get_running_loop().sock_recv(self.sock, READ_BYTES)
            except TimeoutError as exc:
                raise PeerStalled(str(self._peer), f"sent no byte for {STALL_TIMEOUT_S:g} s") from exc
            except OSError as exc:
                raise PeerBroke(str(self._peer), f"ended the body early: {_reason(exc)}") from exc
            if not self._rest:
                raise PeerBroke(str(self._peer), "ended the body before its first byte")
        # A peer that sends more than it told is not believed about the rest.
        return self._rest[:length_bytes]

    async def error_text(self, head: Head) -> bytes:
        """As far as it is worth reading."""
        told = head.headers.get("content-length", "")
        is_told = told.isdecimal() and len(told) <= LENGTH_MAX_DIGITS
        wanted = min(int(told), ERROR_BODY_MAX_BYTES) if is_told else ERROR_BODY_MAX_BYTES
        text = self._rest
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                while len(text) < wanted:
                    more = await asyncio.get_running_loop().sock_recv(self.sock, wanted - len(text))
                    if not more:
                        break
                    text += more
        except OSError:
            pass  # also where it takes too long: what came must do
        return text[:wanted]


def _reason(exc: BaseException) -> str:
    return "timed out" if isinstance(exc, TimeoutError) else str(exc) or type(exc).__name__
