"""A peer that misbehaves at a chosen byte. Speaks raw HTTP, so that every fault is exactly the one that was meant."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum, auto

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest


class Fault(Enum):
    NONE = auto()
    FIN = auto()  # ends the body after `at` bytes
    RST = auto()  # resets the connection after `at` bytes
    STALL = auto()  # sends `at` bytes, then nothing
    SILENT = auto()  # takes the GET, never answers
    SHORT_LENGTH = auto()  # says that the blob is `at` bytes long
    LONG_LENGTH = auto()  # says that the blob is `at` bytes longer
    WRONG_BYTE = auto()  # flips the byte at `at`
    WRONG_BYTES = auto()  # flips the first byte of each KiB
    WRONG_RANGE = auto()  # answers another range than was asked for
    IGNORE_RANGE = auto()  # answers 200 with everything
    NO_LENGTH = auto()
    COMPRESSED = auto()
    NOT_HTTP = auto()
    ERROR_500 = auto()
    REDIRECT = auto()
    ABSENT = auto()
    OTHER_VERSION = auto()
    BUSY = auto()  # 429


@dataclass(slots=True)
class FaultyPeer:
    """`sent_spans`: what was really sent of the body, answer by answer. Faults hold for GET; HEAD tells the truth
    about presence and, but for a lie about length, about size."""

    data: bytes
    fault: Fault
    at: int
    peer: Peer = field(default_factory=lambda: Peer("127.0.0.1", 0))
    gets: list[str] = field(default_factory=list)
    heads_count: int = 0
    location: str = "http://127.0.0.1:1/"
    sent_spans: list[ByteSpan] = field(default_factory=list)
    # How many GETs it fails; None: all.
    faults_count: int | None = None
    # Other bytes than it has.
    sent_instead: bytes | None = None


@contextlib.asynccontextmanager
async def faulty_peer(
    data: bytes, fault: Fault, at: int = 0, *, address: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[FaultyPeer]:
    made = FaultyPeer(data, fault, at)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _serve(made, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # start_server would log that a task of its was cancelled, at the end.
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, address, port)
    made.peer = Peer(address, server.sockets[0].getsockname()[1])
    try:
        yield made
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(made: FaultyPeer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method = head.split(" ", 1)[0]
        found = re.search(r"(?im)^range: *(.+?)\r$", head)
        byte_range = ByteRange.parse(found[1]) if found else None
        if str(Digest.of(made.data)) not in head.split("\r\n", 1)[0]:
            writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            continue
        if not await _answer(made, method, byte_range, found[1] if found else "", writer):
            return


async def _answer(
    made: FaultyPeer, method: str, byte_range: ByteRange | None, range_text: str, writer: asyncio.StreamWriter
) -> bool:
    """False: the connection is done."""
    told_bytes = len(made.data)
    if made.fault is Fault.SHORT_LENGTH:
        told_bytes = made.at
    elif made.fault is Fault.LONG_LENGTH:
        told_bytes += made.at
    early = {
        Fault.NOT_HTTP: b"SSH-2.0-OpenSSH_9.2\r\n",
        Fault.ERROR_500: b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
        Fault.REDIRECT: f"HTTP/1.1 307 Go\r\nLocation: {made.location}\r\nContent-Length: 0\r\n\r\n".encode(),
        Fault.OTHER_VERSION: b"HTTP/1.1 400 Bad\r\nPeili-Versions: 7, 8\r\nContent-Length: 0\r\n\r\n",
        Fault.BUSY: b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n",
        Fault.ABSENT: b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    }
    always = {Fault.ABSENT, Fault.OTHER_VERSION}
    if method == "HEAD":
        made.heads_count += 1
        head = (
            early[made.fault]
            if made.fault in always
            else f"HTTP/1.1 200 OK\r\nContent-Length: {told_bytes}\r\n\r\n".encode()
        )
        writer.write(head)
        await writer.drain()
        return True
    made.gets.append(range_text)
    if made.faults_count is not None and len(made.gets) > made.faults_count:
        made.fault = Fault.NONE
    if made.fault in early:
        writer.write(early[made.fault])
        await writer.drain()
        return made.fault is not Fault.NOT_HTTP
    if made.fault is Fault.SILENT:
        await asyncio.Event().wait()
    span = (
        byte_range.resolve(told_bytes)
        if byte_range and made.fault is not Fault.IGNORE_RANGE
        else ByteSpan(0, told_bytes)
    )
    if made.fault is Fault.WRONG_RANGE:
        span = ByteSpan(span.start + 1, span.stop)
    partial = byte_range is not None and made.fault is not Fault.IGNORE_RANGE
    data = made.data if made.sent_instead is None else made.sent_instead
    body = bytearray(data.ljust(told_bytes, b"\0")[span.start : span.stop])
    stop_at = span.stop
    if made.fault in (Fault.FIN, Fault.RST, Fault.STALL):
        stop_at = min(span.stop, made.at)
    if made.fault is Fault.WRONG_BYTE and span.start <= made.at < span.stop:
        body[made.at - span.start] ^= 0xFF
    if made.fault is Fault.WRONG_BYTES:
        body[::1024] = bytes(byte ^ 0xFF for byte in body[::1024])
    lines = [f"HTTP/1.1 {206 if partial else 200} OK"]
    if made.fault is not Fault.NO_LENGTH:
        lines.append(f"Content-Length: {span.length_bytes}")
    if partial:
        lines.append(f"Content-Range: {span.content_range(told_bytes)}")
    if made.fault is Fault.COMPRESSED:
        lines.append("Content-Encoding: gzip")
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    sent = bytes(body[: max(0, stop_at - span.start)])
    writer.write(sent)
    await writer.drain()
    made.sent_spans.append(ByteSpan(span.start, span.start + len(sent)))
    if made.fault is Fault.STALL and stop_at < span.stop:
        await asyncio.Event().wait()
    if made.fault is Fault.RST and stop_at < span.stop:
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False
    return not (stop_at < span.stop or made.fault is Fault.NO_LENGTH)
