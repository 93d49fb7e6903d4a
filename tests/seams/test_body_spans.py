"""Bodies sent in spans of files, on the wire: every byte, on a connection that is kept; files stay their owners'."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import pytest
from aiohttp import web

from mirror.oci.byterange import ByteSpan
from mirror.web.body import send_span
from tests.support.body_bed import BODY, SMALL_BUFFER_BYTES, file_of, prepared, serving
from tests.support.raw_client import End, raw_client


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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


async def test_a_file_that_ends_before_the_span_ends_the_body_by_fin() -> None:
    told: list[bool] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, len(BODY) + 1000)
        with file_of(BODY) as descriptor:
            for span in (ByteSpan(0, len(BODY) + 500), ByteSpan(0, 1)):
                told.append(await send_span(request, response, descriptor, span))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.rest() == (BODY, End.FIN)
    assert told == [False, False]


async def test_no_span_is_sent_to_a_client_who_left() -> None:
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
            first = await send_span(request, response, descriptor, ByteSpan(0, len(BODY)))
            told.set_result((first, await send_span(request, response, descriptor, ByteSpan(0, 1))))
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        client.leave()
        assert await asyncio.wait_for(told, 10) == (False, False)


@pytest.mark.parametrize("read_bytes", [1, 100_000, 3_000_000])
async def test_a_span_that_is_cancelled_leaves_other_files_alone(read_bytes: int) -> None:
    """Its descriptor's number is another file's at once, whose position must stay where it is."""
    loop = asyncio.get_running_loop()
    sending: asyncio.Future[asyncio.Task[object]] = loop.create_future()
    position: asyncio.Future[int] = loop.create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        task = asyncio.current_task()
        assert task is not None
        sending.set_result(task)
        with file_of(BODY) as descriptor, file_of(b"12345") as other:
            try:
                await send_span(request, response, descriptor, ByteSpan(0, len(BODY)))
            except asyncio.CancelledError:
                os.dup2(other, descriptor)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
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
