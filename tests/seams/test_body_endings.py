"""How bodies end, seen on the wire: by FIN, with every byte that was written, never kept alive when short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from mirror.errors import TransferError
from mirror.oci.byterange import ByteSpan
from mirror.web.body import cut, send_chunks, send_span
from mirror.web.guard import CANCEL_S
from tests.support.body_bed import BODY, SMALL_BUFFER_BYTES, file_of, listening, prepared, serving
from tests.support.raw_client import End, raw_client

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

    loop = asyncio.get_running_loop()
    drain_s = 0.8
    listener = listening(handler, drain_s)
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


async def test_an_upgraded_connection_lives_through_the_drain_and_does_not_prolong_it() -> None:
    """State channels: downloads that still run need them, and they do not end by themselves."""
    going_on, ended = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/channel":
            channel = web.WebSocketResponse()
            await channel.prepare(request)
            try:
                async for message in channel:
                    await channel.send_str(f"heard {message.data}")
            finally:
                ended.set()
            return channel
        response = await prepared(request, 8)
        await response.write(b"1234")
        await going_on.wait()
        await response.write(b"5678")
        return response

    listener = listening(handler, 60)
    await listener.start()
    host, port = listener.address
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://{host}:{port}/channel") as channel,
        raw_client(listener.address) as client,
    ):
        await client.get("/")
        await client.head()
        draining = asyncio.ensure_future(listener.drain())
        for said in ("one", "two"):
            await channel.send_str(said)
            assert await channel.receive_str(timeout=10) == f"heard {said}"
        assert not draining.done()
        going_on.set()
        assert await client.rest() == (b"12345678", End.FIN)
        async with asyncio.timeout(10):
            await draining
        await channel.send_str("three")
        assert await channel.receive_str(timeout=10) == "heard three"
        assert not ended.is_set()
        async with asyncio.timeout(2 * CANCEL_S):
            await listener.stop()
        assert ended.is_set()
        assert (await channel.receive(timeout=10)).type in (
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.CLOSE,
        )


async def test_an_answer_that_ends_within_the_drain_is_whole_and_the_last_on_its_connection() -> None:
    """Others may still go on. The listener waits no longer than they do."""
    going_on = {"/first": asyncio.Event(), "/second": asyncio.Event()}

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 8)
        await response.write(b"1234")
        await going_on[request.path].wait()
        await response.write(b"5678")
        return response

    listener = listening(handler, 60)
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
