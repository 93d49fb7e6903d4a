"""Bodies that go from socket to socket in the kernel, on the wire: every byte, exact ends, connections kept."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import struct
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from mirror.oci.byterange import ByteSpan
from mirror.web.body import cut, send_span
from mirror.web.splice import End, Moved, outlet
from tests.support.body_bed import BODY, SMALL_BUFFER_BYTES, file_of, prepared, serving
from tests.support.raw_client import PATIENCE_S, raw_client
from tests.support.raw_client import End as WireEnd

SILENCE_S = 0.5


class Source:
    """Our end of a connection to somebody who sends what we make him send."""

    def __init__(self, sock: socket.socket, far: socket.socket) -> None:
        self.sock = sock
        self.far = far

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.far, data)

    def end(self) -> None:
        self.far.close()

    def reset(self) -> None:
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.far.close()


@contextlib.asynccontextmanager
async def source() -> AsyncIterator[Source]:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())
        far, _ = await loop.sock_accept(listener)
    with sock, far:
        yield Source(sock, far)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def no_splice(number: int) -> Callable[..., int]:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.fixture(params=["spliced", "refused", "not implemented", "half way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the kernel feels about it."""
    way = str(request.param)
    if way == "refused":
        monkeypatch.setattr(os, "splice", no_splice(22))
    elif way == "not implemented":
        monkeypatch.setattr(os, "splice", no_splice(38))
    elif way == "half way":
        real = os.splice

        def into_pipes_only(src: int, dst: int, count: int, **more: int) -> int:
            if stat.S_ISSOCK(os.fstat(dst).st_mode):
                raise OSError(22, "EINVAL")
            return real(src, dst, count, **more)

        monkeypatch.setattr(os, "splice", into_pipes_only)
    return way


async def test_whole_bodies_keep_the_connection(way: str) -> None:
    """And nothing is left open."""
    counts: list[int] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        async with source() as it:
            counts.append(open_descriptors())
            response = await prepared(request)
            async with asyncio.TaskGroup() as tasks, outlet(request) as out:
                tasks.create_task(it.send(BODY))
                position = 0
                for stop in (1, 70_000, 9_000_000, len(BODY)):
                    moved = await out.take(it.sock, stop - position, silence_s=SILENCE_S)
                    assert (moved.count_bytes, moved.end) == (stop - position, End.ALL)
                    position = stop
            return response

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(3):
            await client.get("/")
            status, headers = await client.head()
            assert (status, headers.get("connection")) == (200, None)
            assert await client.exactly(len(BODY)) == BODY
    assert counts == counts[:1] * 3


async def test_written_spliced_and_sent_from_a_file_follow_each_other(way: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        await response.write(BODY[:5_000_000])  # more than the socket takes: some of it is still here
        async with source() as it, asyncio.TaskGroup() as tasks:
            async with outlet(request) as out:
                tasks.create_task(it.send(BODY[5_000_000:9_000_000]))
                await out.take(it.sock, 4_000_000, silence_s=SILENCE_S)
        with file_of(BODY) as descriptor:
            assert await send_span(request, response, descriptor, ByteSpan(9_000_000, 15_000_000))
        await response.write(BODY[15_000_000:])
        return response

    async with serving(handler) as address, raw_client(address) as client:
        for _ in range(2):
            await client.get("/")
            await client.head()
            assert await client.exactly(len(BODY)) == BODY


async def test_what_the_loop_still_has_to_write_leaves_first() -> None:
    """As little as keeps no writer waiting."""
    is_written = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        assert request.transport is not None
        position = 0
        while not request.transport.get_write_buffer_size():
            await response.write(BODY[position : position + 10_000])
            position += 10_000
        async with source() as it, asyncio.TaskGroup() as tasks:
            tasks.create_task(it.send(BODY[position:]))
            asyncio.get_running_loop().call_later(0.1, is_written.set)
            async with outlet(request) as out:
                await out.take(it.sock, len(BODY) - position, silence_s=SILENCE_S)
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        await is_written.wait()
        assert await client.exactly(len(BODY)) == BODY


async def test_a_client_who_ends_his_side_gets_all() -> None:
    is_ended = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        async with source() as it, asyncio.TaskGroup() as tasks, outlet(request) as out:
            tasks.create_task(it.send(BODY))
            await out.take(it.sock, 1, silence_s=SILENCE_S)
            await is_ended.wait()
            await out.take(it.sock, len(BODY) - 1, silence_s=SILENCE_S)
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        await client.exactly(1)
        client.end_sending()
        asyncio.get_running_loop().call_later(0.1, is_ended.set)
        assert await client.rest() == (BODY[1:], WireEnd.FIN)


async def ends(it: Source) -> None:
    it.end()


async def resets(it: Source) -> None:
    it.reset()


async def is_silent(it: Source) -> None:
    """As long as we look."""


@pytest.mark.parametrize(
    ("dies", "end"),
    [(ends, End.SOURCE_ENDED), (resets, End.SOURCE_FAILED), (is_silent, End.SOURCE_SILENT)],
)
@pytest.mark.parametrize("sent_bytes", [0, 1, 3_000_001])
async def test_the_rest_comes_from_elsewhere_at_the_exact_byte(
    way: str, dies: Callable[[Source], Awaitable[None]], end: End, sent_bytes: int
) -> None:
    """Also where the client is slow: what was taken from the first source reaches him."""
    ended: list[Moved] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        async with source() as first, outlet(request) as out, asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(out.take(first.sock, len(BODY), silence_s=SILENCE_S))
            await first.send(BODY[:sent_bytes])
            if dies is resets:
                # A reset may take along what is on its way: all of it has arrived here.
                while unacknowledged_bytes(first.far):
                    await asyncio.sleep(0)
            await dies(first)
            ended.append(await taking)
        with file_of(BODY) as descriptor:
            position = ended[0].count_bytes
            assert await send_span(request, response, descriptor, ByteSpan(position, len(BODY)))
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        assert await client.exactly(len(BODY)) == BODY
    assert ended[0].end is end
    if dies is not resets:
        assert ended[0].count_bytes == sent_bytes


def unacknowledged_bytes(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0])


async def test_a_silent_source_is_not_waited_for_longer_than_it_may_be() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 4)
        async with source() as it, outlet(request) as out:
            began_s = asyncio.get_running_loop().time()
            moved = await out.take(it.sock, 4, silence_s=SILENCE_S)
            took_s = asyncio.get_running_loop().time() - began_s
            assert moved.end is End.SOURCE_SILENT
            assert SILENCE_S <= took_s < 3 * SILENCE_S
            assert SILENCE_S <= moved.waited_s <= took_s
        await response.write(b"late")
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.exactly(4) == b"late"


async def test_a_trickle_is_no_silence_and_reaches_the_client(way: str) -> None:
    """A byte at a time, each before the next: nothing waits for more to come."""
    heard = asyncio.Queue[None]()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request, 8)
        async with source() as it, outlet(request) as out, asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(out.take(it.sock, 8, silence_s=SILENCE_S))
            for number in range(8):
                await it.send(bytes([number]))
                await heard.get()
            assert (await taking).end is End.ALL
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        for number in range(8):
            async with asyncio.timeout(PATIENCE_S):
                assert await client.exactly(1) == bytes([number])
            heard.put_nowait(None)


async def test_a_client_may_be_as_slow_as_he_likes(way: str) -> None:
    waited = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        async with source() as it, outlet(request) as out, asyncio.TaskGroup() as tasks:
            tasks.create_task(it.send(BODY))
            assert (await out.take(it.sock, len(BODY), silence_s=0.05)).end is End.ALL
        return response

    async with (
        serving(handler) as address,
        raw_client(address, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client,
    ):
        await client.get("/")
        await client.head()
        asyncio.get_running_loop().call_later(0.4, waited.set)
        await waited.wait()
        assert await client.exactly(len(BODY)) == BODY


@pytest.mark.parametrize("read_bytes", [0, 1_000_000])
async def test_a_client_who_leaves_ends_it(way: str, read_bytes: int) -> None:
    told = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        sending = asyncio.ensure_future(send(request))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(sending)
        return await sending

    async def send(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        async with source() as it, outlet(request) as out, asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(it.send(BODY * 4))
            first = await out.take(it.sock, 4 * len(BODY), silence_s=SILENCE_S)
            told.set_result((first.end, (await out.take(it.sock, 1, silence_s=SILENCE_S)).end))
            sending.cancel()
        return response

    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        await client.exactly(read_bytes)
        client.leave()
        assert await asyncio.wait_for(told, PATIENCE_S) == (End.CLIENT_GONE, End.CLIENT_GONE)


async def cuts(request: web.Request, response: web.StreamResponse) -> None:
    cut(request, response)


async def returns(request: web.Request, response: web.StreamResponse) -> None:
    """With too few bytes."""


async def is_cancelled(request: web.Request, response: web.StreamResponse) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


@pytest.mark.parametrize("ending", [cuts, returns, is_cancelled])
@pytest.mark.parametrize("behind", [b"", b"x" * 100_000])
async def test_a_body_that_cannot_go_on_ends_by_fin_with_all_that_was_taken(
    way: str, ending: Callable[[web.Request, web.StreamResponse], Awaitable[None]], behind: bytes
) -> None:
    """Whatever the client has sent meanwhile."""
    asked_more = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = await prepared(request)
        async with source() as it, outlet(request) as out, asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(out.take(it.sock, len(BODY), silence_s=SILENCE_S))
            await it.send(BODY[:5_000_000])
            await asked_more.wait()
            it.end()
            assert (await taking).count_bytes == 5_000_000
        await ending(request, response)
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
    assert (len(body), end) == (5_000_000, WireEnd.FIN)
    assert body == BODY[:5_000_000]


async def test_one_that_is_cancelled_leaves_nothing_behind_and_no_reset() -> None:
    handling: asyncio.Future[asyncio.Task[object]] = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        async with source() as it:
            await it.send(BODY[:1000])
            response = await prepared(request)
            async with outlet(request) as out:
                handling.set_result(task)
                await out.take(it.sock, len(BODY), silence_s=PATIENCE_S)
            return response

    before = open_descriptors()
    async with serving(handler) as address, raw_client(address) as client:
        await client.get("/")
        await client.head()
        assert await client.exactly(1000) == BODY[:1000]
        (await handling).cancel()
        assert await client.rest() == (b"", WireEnd.FIN)
    async with asyncio.timeout(PATIENCE_S):
        while open_descriptors() > before:
            await asyncio.sleep(0)
