"""Streams from real peers and from such that fail: who gets in, which bytes they carry, and what is no answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.blob_answer import HEAD_MAX_BYTES
from mirror.peer.connection import STALL_TIMEOUT_S
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
from mirror.peer.streams import PeerStream, PeerStreams
from mirror.secret import ClusterSecret
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.mirror_host import mirror_host, subkeys

BLOB = bytes(range(256)) * 5000
D = Digest.of(BLOB)


def streams(offset_s: float = 0.0, secret: ClusterSecret | None = None) -> PeerStreams:
    keys = subkeys() if secret is None else subkeys(secret=secret)
    return PeerStreams(Contacts(keys, lambda: time.time() + offset_s), Strangers())


async def rest_of(stream: PeerStream) -> bytes:
    loop = asyncio.get_running_loop()
    data = stream.first
    while len(data) < stream.span.length_bytes and (more := await loop.sock_recv(stream.sock, 1 << 18)):
        data += more
    return data


async def read(
    peer: Peer, start: int = 0, stop: int | None = None, *, asking: PeerStreams | None = None
) -> tuple[bytes, ByteSpan, int]:
    stream = await (asking or streams()).open(peer, D, start, stop)
    try:
        return await rest_of(stream), stream.span, stream.size_bytes
    finally:
        stream.close()


Say = Callable[[asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def saying(say: Say) -> AsyncIterator[Peer]:
    """Does this with whatever it is asked, and hangs up."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await say(writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield Peer("127.0.0.1", server.sockets[0].getsockname()[1])
        await asyncio.gather(*tasks)


def answering(answer: bytes) -> contextlib.AbstractAsyncContextManager[Peer]:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return saying(say)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (5, None), (0, 10), (100, 200), (len(BLOB) - 1, None)]
)
async def test_a_stream_carries_the_bytes_that_were_asked_for(start: int, stop: int | None) -> None:
    async with mirror_host(BLOB) as holder:
        span = ByteSpan(start, len(BLOB) if stop is None else stop)
        assert await read(holder.peer, start, stop) == (BLOB[start:stop], span, len(BLOB))


async def test_a_stream_has_its_first_byte_when_it_is_opened() -> None:
    async with mirror_host(BLOB) as holder:
        stream = await streams().open(holder.peer, D, 7, None)
        assert stream.first
        assert BLOB[7:].startswith(stream.first)
        stream.close()
        stream.close()


@pytest.mark.parametrize("offset_s", [-7200, 0, 121, 86400 * 365])
async def test_a_wrong_clock_is_learned_in_one_round_trip(offset_s: int) -> None:
    async with mirror_host(BLOB) as holder:
        asking = streams(offset_s)
        for _ in range(2):
            assert (await read(holder.peer, asking=asking))[0] == BLOB


async def test_a_stranger_gets_nothing() -> None:
    async with mirror_host(BLOB) as holder:
        with pytest.raises(PeerRefused, match=r"401.*UNAUTHORIZED"):
            await read(holder.peer, asking=streams(secret=ClusterSecret((b"t" * 32,))))


async def test_what_a_peer_does_not_hold_is_absent() -> None:
    async with mirror_host() as holder:
        with pytest.raises(PeerAbsent):
            await read(holder.peer)


async def test_a_peer_may_be_named() -> None:
    async with mirror_host(BLOB) as holder:
        assert (await read(Peer("localhost", holder.peer.port)))[0] == BLOB


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.SILENT, PeerStalled),
        (Fault.NO_LENGTH, PeerNonsense),
        (Fault.COMPRESSED, PeerNonsense),
        (Fault.NOT_HTTP, PeerNonsense),
        (Fault.ERROR_500, PeerRefused),
        (Fault.REDIRECT, PeerRefused),
        (Fault.ABSENT, PeerAbsent),
        (Fault.BUSY, PeerBusy),
        (Fault.OTHER_VERSION, PeerIncompatible),
        (Fault.WRONG_RANGE, PeerNonsense),
        (Fault.IGNORE_RANGE, PeerNonsense),
        (Fault.FIN, PeerBroke),
        (Fault.RST, PeerBroke),
        (Fault.STALL, PeerStalled),
    ],
)
async def test_no_answer_is_one_of_the_errors(fault: Fault, error: type[PeerError]) -> None:
    start = 1 if fault in (Fault.WRONG_RANGE, Fault.IGNORE_RANGE) else 0
    async with faulty_peer(BLOB, fault) as bad:
        with pytest.raises(error):
            await streams().open(bad.peer, D, start, None)


async def test_a_redirect_is_not_followed() -> None:
    async with faulty_peer(BLOB, Fault.NONE) as elsewhere, faulty_peer(BLOB, Fault.REDIRECT) as bad:
        bad.location = f"http://{elsewhere.peer}/peer/v1/blobs/{D}"
        with pytest.raises(PeerRefused, match="307"):
            await read(bad.peer)
    assert elsewhere.gets == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", PeerUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Le", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * HEAD_MAX_BYTES, PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 19 + b"\r\n\r\n", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\n Content-Length: 1\r\n\r\nx", PeerNonsense),
        (b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", PeerNonsense),
        (b"HTTP/1.1 2000 OK\r\n\r\n", PeerNonsense),
        (b"HTTP/2 200 OK\r\n\r\n", PeerNonsense),
        (b"HTTP/1.1 500 No\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nwhy", PeerRefused),
        (b"HTTP/1.1 500 No\r\n\r\n" + b"y" * 100_000, PeerRefused),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", PeerBroke),
        (b"HTTP/1.1 429 No\r\nRetry-After: soon\r\n\r\n\xff", PeerBusy),
    ],
)
async def test_nonsense_is_one_of_the_errors(answer: bytes, error: type[PeerError]) -> None:
    async with answering(answer) as peer:
        with pytest.raises(error):
            await read(peer)


async def test_more_than_was_told_is_not_taken() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n123456") as peer:
        stream = await streams().open(peer, D, 0, None)
        assert (stream.first, stream.span) == (b"123", ByteSpan(0, 3))
        stream.close()


async def test_nobody_there_is_unreachable() -> None:
    async with answering(b"") as peer:
        pass
    for gone in (peer, Peer("no-such-host.invalid", 1), Peer("a" * 64 + ".invalid", 1)):
        with pytest.raises(PeerUnreachable):
            await read(gone)


async def test_a_peer_that_never_ends_its_head_is_left() -> None:
    """However often it says something."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X: 1\r\n")
            await writer.drain()
            await asyncio.sleep(STALL_TIMEOUT_S / 8)

    async with saying(say) as peer, asyncio.timeout(3 * STALL_TIMEOUT_S):
        with pytest.raises(PeerStalled):
            await read(peer)
