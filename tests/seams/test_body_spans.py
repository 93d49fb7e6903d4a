"""Bodies sent in spans of files, on the wire: every byte, on a connection that is kept; files stay their owners'."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from aiohttp import web
from aiohttp.http_writer import StreamWriter

from mirror.oci.byterange import ByteSpan
from mirror.web.body import TURN_MAX_BYTES, send_span
from tests.support.body_bed import BODY, SMALL_BUFFER_BYTES, file_of, prepared, serving
from tests.support.raw_client import End, raw_client


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def spans(step_bytes: int, length_bytes: int = len(BODY)) -> Iterator[ByteSpan]:
    for start in range(0, length_bytes, step_bytes):
        yield ByteSpan(start, min(start + step_bytes, length_bytes))


def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were left each time the loop had to wait for the client."""
    loop = asyncio.get_running_loop()
    found: list[int] = []
    real = loop.sendfile

    async def sendfile(*args: object, **settings: object) -> int:
        found.append(args[3])  # type: ignore[arg-type]
        return await real(*args, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "sendfile", sendfile)
    return found


async def test_a_body_sent_in_several_spans_keeps_the_connection() -> None:
    """And the file may be closed as soon as the last span is sent."""
    steps = [0, 1, 70_000, 9_000_000, len(BODY)]
    open_counts: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        open_counts.append(open_descriptors())
        response = await prepared(request)
        with file_of(BODY) as descriptor:
            for start, stop in itertools.pairwise(steps):
                assert await send_span(request, response, descriptor, ByteSpan(start, stop))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(3):
            await client.get("/")
            status, headers = await client.head()
            assert (status, headers["content-length"], headers.get("connection")) == (
                200,
                str(len(BODY)),
                None,
            )
            assert await client.exactly(len(BODY)) == BODY
    assert open_counts == open_counts[:1] * 3


@pytest.mark.parametrize("length_bytes", [1, 20_000])
async def test_headers_leave_with_the_first_bytes_of_a_span(length_bytes: int) -> None:
    """In a segment of their own they wake the client for nothing. What follows is not held back."""
    held: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2 * length_bytes)})
        assert request.transport is not None
        sock = request.transport.get_extra_info("socket")
        with file_of(BODY) as descriptor:
            for start in (0, length_bytes):
                assert await send_span(request, response, descriptor, ByteSpan(start, start + length_bytes))
                held.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        return response

    loop = asyncio.get_running_loop()
    async with serving(handler) as address:
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            received = b""
            while some := await loop.sock_recv(sock, 1 << 18):
                received += some
            # `tcpi_data_segs_in`
            segments_count = struct.unpack_from(
                "I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152
            )
    assert received.partition(b"\r\n\r\n")[2] == BODY[: 2 * length_bytes]
    assert (segments_count, held) == ((2,), [0, 0])


async def test_nothing_is_held_back_when_headers_cannot_leave() -> None:
    held: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1"})
        assert request.transport is not None
        sock = request.transport.get_extra_info("socket")
        request.transport.close()
        with file_of(BODY) as descriptor, pytest.raises(ConnectionError):
            await send_span(request, response, descriptor, ByteSpan(0, 1))
        held.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CORK))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        assert await client.rest() == (b"", End.FIN)
    assert held == [0]


async def test_spans_and_written_chunks_may_follow_each_other() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        with file_of(BODY) as descriptor:
            await response.write(BODY[:5_000_000])
            assert await send_span(request, response, descriptor, ByteSpan(5_000_000, 9_000_000))
            await response.write(BODY[9_000_000:])
        return response

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(2):
            await client.get("/")
            await client.head()
            assert await client.exactly(len(BODY)) == BODY


async def test_what_was_written_before_a_span_leaves_before_it() -> None:
    """Also where the kernel has room again and the loop does not know yet."""
    read = bytearray()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        # The kernel takes no more, and the loop keeps the rest.
        await cast(StreamWriter, request.writer).write(BODY[:-1000], drain=False)
        read.extend(sock.recv(1 << 20))
        with file_of(BODY) as descriptor:
            assert await send_span(request, response, descriptor, ByteSpan(len(BODY) - 1000, len(BODY)))
        return response

    loop = asyncio.get_running_loop()
    async with serving(handler) as address:
        with socket.create_connection(address) as sock:
            sock.setblocking(False)
            await loop.sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while some := await loop.sock_recv(sock, 1 << 18):
                read += some
    assert read.partition(b"\r\n\r\n")[2] == BODY


async def test_nothing_is_sent_on_a_connection_that_is_closing() -> None:
    told: list[bool] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 1000)
        assert request.transport is not None
        request.transport.close()
        with file_of(BODY) as descriptor:
            told.append(await send_span(request, response, descriptor, ByteSpan(0, 1000)))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.rest() == (b"", End.FIN)
    assert told == [False]


async def test_a_span_of_nothing_is_sent() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 4)
        with file_of(b"1234") as descriptor:
            assert await send_span(request, response, descriptor, ByteSpan(2, 2))
            assert await send_span(request, response, descriptor, ByteSpan(0, 4))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.exactly(4) == b"1234"


async def test_what_the_kernel_takes_is_sent_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait costs two rounds of the loop."""
    waited = waits(monkeypatch)
    rounds: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 1_000_000)
        asyncio.get_running_loop().call_soon(rounds.append, "of others")
        with file_of(BODY) as descriptor:
            for span in spans(250_000, 1_000_000):
                assert await send_span(request, response, descriptor, span)
        rounds.append("own")
        return response

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(2):
            await client.get("/")
            assert (await client.head())[1].get("connection") is None
            assert await client.exactly(1_000_000) == BODY[:1_000_000]
    assert (waited, rounds) == ([], ["own", "of others"] * 2)


@pytest.mark.parametrize("step_bytes", [100_000, TURN_MAX_BYTES, TURN_MAX_BYTES + 1])
async def test_a_client_who_reads_slowly_gets_all_of_every_span(
    step_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = waits(monkeypatch)

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        with file_of(BODY) as descriptor:
            for span in spans(step_bytes):
                assert await send_span(request, response, descriptor, span)
            assert (request.writer.length, request.writer.output_size > len(BODY)) == (0, True)
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        assert (await client.head())[1].get("connection") is None
        assert await client.exactly(len(BODY)) == BODY
    if step_bytes > TURN_MAX_BYTES:
        assert waited[0] == step_bytes
    else:
        assert set(waited) - {step_bytes, len(BODY) % step_bytes}, "a part is sent at once"


async def test_a_client_who_keeps_up_does_not_keep_the_loop_from_its_other_work() -> None:
    """However many spans are at hand."""
    step_bytes = 512 * 1024
    all_bytes = 16 * len(BODY)
    sent_bytes: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        is_sent = False

        def look() -> None:
            sent_bytes.append(request.writer.output_size)
            if not is_sent:
                asyncio.get_running_loop().call_soon(look)

        response = await prepared(request, all_bytes)
        look()
        with file_of(BODY) as descriptor:
            for span in [*spans(step_bytes)] * 16:
                assert await send_span(request, response, descriptor, span)
        is_sent = True
        return response

    def read(address: tuple[str, int]) -> int:
        """Faster than anybody sends: the kernel copies nothing."""
        with socket.create_connection(address) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            got_bytes = 0
            while some := sock.recv_into(room, len(room), socket.MSG_TRUNC):
                got_bytes += some
            return got_bytes

    room = bytearray(1 << 20)
    async with serving(handler) as address:
        assert await asyncio.to_thread(read, address) > all_bytes
    steps = [after - before for before, after in itertools.pairwise([0, *sent_bytes])]
    assert max(steps) <= TURN_MAX_BYTES + step_bytes


@pytest.mark.parametrize("length_bytes", [0, 1, 1_000_000, len(BODY)])
async def test_a_file_that_ends_before_the_span_ends_the_body_by_fin(length_bytes: int) -> None:
    told: list[bool] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, length_bytes + 1000)
        with file_of(BODY[:length_bytes]) as descriptor:
            for span in (ByteSpan(0, length_bytes + 500), ByteSpan(0, 1)):
                told.append(await send_span(request, response, descriptor, span))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.rest() == (BODY[:length_bytes], End.FIN)
    assert told == [False, False]


@pytest.mark.parametrize("step_bytes", [1_000_000, len(BODY)])
async def test_no_span_is_sent_to_a_client_who_left(step_bytes: int) -> None:
    told = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        # A handler that must finish what it does, though its client is gone.
        sending = asyncio.ensure_future(send(request))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(sending)
        return await sending

    async def send(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        with file_of(BODY) as descriptor:
            whole = [await send_span(request, response, descriptor, span) for span in spans(step_bytes)]
            told.set_result((all(whole), await send_span(request, response, descriptor, ByteSpan(0, 1))))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        client.leave()
        assert await asyncio.wait_for(told, 10) == (False, False)


@pytest.mark.parametrize("step_bytes", [1_000_000, len(BODY)])
@pytest.mark.parametrize("read_bytes", [1, 100_000, 3_000_000])
async def test_a_span_that_is_cancelled_leaves_other_files_alone(read_bytes: int, step_bytes: int) -> None:
    """Its descriptor's number is another file's at once, whose position must stay where it is; none is left open."""
    loop = asyncio.get_running_loop()
    sending: asyncio.Future[asyncio.Task[object]] = loop.create_future()
    position: asyncio.Future[int] = loop.create_future()
    open_counts: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        task = asyncio.current_task()
        assert task is not None
        sending.set_result(task)
        with file_of(BODY) as descriptor, file_of(b"12345") as other:
            open_counts.append(open_descriptors())
            try:
                for span in spans(step_bytes):
                    await send_span(request, response, descriptor, span)
            except asyncio.CancelledError:
                os.dup2(other, descriptor)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                open_counts.append(open_descriptors())
                position.set_result(os.lseek(descriptor, 0, os.SEEK_CUR))
                raise
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        await client.exactly(read_bytes)
        (await sending).cancel()
        assert await asyncio.wait_for(position, 10) == 5
    assert open_counts == open_counts[:1] * 2
