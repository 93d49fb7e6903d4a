"""How bodies leave and end, seen on the wire: by FIN, with every byte that was written, never kept alive when short."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from mirror.errors import TransferError
from mirror.oci.byterange import ByteSpan
from mirror.web.body import cut, send_chunks, send_span
from mirror.web.listener import Listener, bind
from tests.support.raw_client import End, raw_client

# More than the kernel takes while nobody reads.
BODY = random.Random(3).randbytes(16 * 2**20)
SMALL_BUFFER_BYTES = 4096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(handler: Handler, drain_s: float = 0.1) -> AsyncIterator[tuple[str, int]]:
    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    listener = Listener(app, bind("test", "127.0.0.1", 0), drain_s=drain_s)
    await listener.start()
    try:
        yield listener.address
    finally:
        await listener.stop()


@contextlib.contextmanager
def file_of(data: bytes) -> Iterator[int]:
    descriptor = os.memfd_create("body")
    try:
        os.write(descriptor, data)
        yield descriptor
    finally:
        os.close(descriptor)


async def prepared(request: web.Request, length_bytes: int = len(BODY)) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(length_bytes)})
    await response.prepare(request)
    return response


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# -- spans


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


# -- cut


@pytest.mark.parametrize("written_bytes", [1, 100_000, 12_000_000])
@pytest.mark.parametrize("unread_bytes", [0, 1, 100_000])
async def test_a_body_is_cut_by_fin_whatever_the_client_has_sent(
    written_bytes: int, unread_bytes: int
) -> None:
    """Unread input makes Linux answer `close()` with RST. A client that reads slowly gets all that was written."""
    asked_more = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        with file_of(BODY) as descriptor:
            await response.write(BODY[: written_bytes // 2])
            assert request.transport is not None
            request.transport.pause_reading()
            await asked_more.wait()
            assert await send_span(request, response, descriptor, ByteSpan(written_bytes // 2, written_bytes))
        cut(request, response)
        cut(request, response)
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        await client.send(b"x" * unread_bytes)
        asked_more.set()
        body, end = await client.rest()
    assert (len(body), end) == (written_bytes, End.FIN)
    assert body == BODY[:written_bytes]


async def test_linux_resets_a_connection_that_is_closed_with_unread_input() -> None:
    """The reason for the above; where this fails, `cut` may become one line."""
    asked_more = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        await response.write(BODY[:1000])
        assert request.transport is not None
        request.transport.pause_reading()
        await asked_more.wait()
        request.transport.close()
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        await client.send(b"x")
        asked_more.set()
        assert (await client.rest())[1] is End.RST


async def test_what_is_written_after_a_cut_goes_nowhere() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        await response.write(b"123")
        cut(request, response)
        with file_of(BODY) as descriptor:
            assert not await send_span(request, response, descriptor, ByteSpan(0, 10))
        with pytest.raises(ConnectionError):
            await response.write(b"456")
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.rest() == (b"123", End.FIN)


async def test_a_client_who_does_not_stop_sending_after_the_end_is_let_go() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        await response.write(b"123")
        cut(request, response)
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(4):  # less than it would wait for a silent one
                while True:
                    await client.send(b"x" * 100_000)


# -- handlers that do not finish


async def left_alone(request: web.Request, response: web.StreamResponse) -> None:
    """Returns with too few bytes."""


async def source_ends(request: web.Request, response: web.StreamResponse) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b""

    done = await send_chunks(request, response, nothing(), lambda _: None)
    assert (done, request.transport) == (False, None)


async def source_fails(request: web.Request, response: web.StreamResponse) -> None:
    async def lost() -> AsyncIterator[bytes]:
        yield b""
        raise TransferError("no source is left")

    done = await send_chunks(request, response, lost(), lambda _: None)
    assert (done, request.transport) == (False, None)


async def file_ends(request: web.Request, response: web.StreamResponse) -> None:
    with file_of(b"") as descriptor:
        done = await send_span(request, response, descriptor, ByteSpan(0, 1))
    assert (done, request.transport) == (False, None)


async def source_is_broken(request: web.Request, response: web.StreamResponse) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b""
        raise ZeroDivisionError

    await send_chunks(request, response, broken(), lambda _: None)


async def raises(request: web.Request, response: web.StreamResponse) -> None:
    raise ZeroDivisionError


async def is_cancelled(request: web.Request, response: web.StreamResponse) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "ending", [left_alone, file_ends, source_ends, source_fails, source_is_broken, raises, is_cancelled]
)
@pytest.mark.parametrize("behind", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 100_000])
@pytest.mark.parametrize("written_bytes", [1, 12_000_000])
async def test_a_short_body_ends_by_fin_and_nothing_follows(
    ending: Callable[[web.Request, web.StreamResponse], Awaitable[None]],
    behind: bytes,
    written_bytes: int,
) -> None:
    asked_more = asyncio.Event()
    wrong: list[AssertionError] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        assert request.transport is not None
        request.transport.pause_reading()
        await asked_more.wait()
        with file_of(BODY) as descriptor:
            assert await send_span(request, response, descriptor, ByteSpan(0, written_bytes))
        try:
            await ending(request, response)
        except AssertionError as exc:
            wrong.append(exc)
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        await client.send(behind)
        asked_more.set()
        body, end = await client.rest()
    assert (len(body), end) == (written_bytes, End.FIN)
    assert body == BODY[:written_bytes]
    assert wrong == []


async def test_a_pipelined_request_is_answered_behind_a_whole_body_only() -> None:
    lengths = iter([4, 4, 3, 4])

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 4)
        await response.write(b"1234"[: next(lengths)])
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
        for _ in range(2):
            await client.head()
            assert await client.exactly(4) == b"1234"
        await client.head()
        assert await client.rest() == (b"123", End.FIN)
    assert next(lengths) == 4, "the fourth was not handled"


async def test_an_answer_to_head_is_whole_without_a_body() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await prepared(request)

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(2):
            await client.get("/", method="HEAD")
            status, headers = await client.head()
            assert (status, headers["content-length"]) == (200, str(len(BODY)))


async def test_an_error_before_the_headers_is_an_answer() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotFound(text="no")

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(2):
            await client.get("/")
            status, _headers = await client.head()
            assert (status, await client.exactly(2)) == (404, b"no")


# -- the listener stops


async def test_a_listener_that_stops_ends_open_bodies_by_fin_after_the_drain() -> None:
    """With all that was written, whatever the client had sent; and an idle connection at once."""
    asked_more, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/idle":
            return web.Response(text="hi")
        response = await prepared(request)
        await response.write(BODY[:1000])
        assert request.transport is not None
        request.transport.pause_reading()
        asked_more.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return response

    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    loop = asyncio.get_running_loop()
    drain_s = 0.8
    listener = Listener(app, bind("test", "127.0.0.1", 0), drain_s=drain_s)
    await listener.start()
    async with raw_client(listener.address) as client, raw_client(listener.address) as idle:
        await idle.get("/idle")
        await idle.head()
        await client.get("/")
        await client.head()
        await asked_more.wait()
        await client.send(b"x")
        began_s = loop.time()
        stopping = asyncio.ensure_future(listener.stop())
        assert await idle.rest() == (b"hi", End.FIN)
        assert not cancelled.is_set()
        assert await client.rest() == (BODY[:1000], End.FIN)
        assert cancelled.is_set()
    await stopping
    # Once, not twice, as aiohttp does it.
    assert drain_s <= loop.time() - began_s < 2 * drain_s
    await listener.stop()


async def test_an_answer_that_ends_within_the_drain_is_whole_and_the_last_on_its_connection() -> None:
    """Others may still go on. The listener waits no longer than they do."""
    going_on = {"/first": asyncio.Event(), "/second": asyncio.Event()}

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 8)
        await response.write(b"1234")
        await going_on[request.path].wait()
        await response.write(b"5678")
        return response

    app = web.Application()
    app.router.add_get("/{rest:.*}", handler)
    listener = Listener(app, bind("test", "127.0.0.1", 0), drain_s=60)
    await listener.start()
    async with raw_client(listener.address) as first, raw_client(listener.address) as second:
        clients = {"/first": first, "/second": second}
        for path, client in clients.items():
            await client.get(path)
            await client.head()
            await client.exactly(4)
        stopping = asyncio.ensure_future(listener.stop())
        for path, client in clients.items():
            await asyncio.sleep(0)
            going_on[path].set()
            assert await client.rest() == (b"5678", End.FIN)
    async with asyncio.timeout(10):
        await stopping
