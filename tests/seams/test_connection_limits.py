"""What a stranger can take of a listener before he has said who he is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from mirror.web.gate import ConnectionLimits
from mirror.web.listener import Listener, bind
from tests.support.raw_client import End, RawClient, raw_client

FOR_EVER_S = 3600.0


@contextlib.asynccontextmanager
async def serving(
    all_max_count: int = 100,
    address_max_count: int = 100,
    first_request_s: float = FOR_EVER_S,
    keepalive_s: float = FOR_EVER_S,
) -> AsyncIterator[tuple[str, int]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text="hi")

    app = web.Application()
    app.router.add_get("/", handler)
    limits = ConnectionLimits(all_max_count, address_max_count, first_request_s, keepalive_s)
    listener = Listener(app, bind("test", "127.0.0.1", 0), drain_s=0.1, limits=limits)
    await listener.start()
    try:
        yield listener.address
    finally:
        await listener.stop()


async def is_answered(client: RawClient) -> bool:
    try:
        await client.get("/")
        status, _headers = await client.head()
        return (status, await client.exactly(2)) == (200, b"hi")
    except (ConnectionError, EOFError):
        return False


async def test_connections_beyond_the_limit_are_ended_and_one_that_leaves_makes_room() -> None:
    async with serving(all_max_count=2) as address, raw_client(address) as first:
        assert await is_answered(first)
        async with raw_client(address) as second:
            assert await is_answered(second)
            async with raw_client(address) as third:
                assert not await is_answered(third)
            assert await is_answered(first) and await is_answered(second)
        async with asyncio.timeout(10):
            while True:  # until the server has seen the second leave
                async with raw_client(address) as later:
                    if await is_answered(later):
                        break


async def test_one_address_cannot_take_what_others_need() -> None:
    async with serving(address_max_count=2) as address, contextlib.AsyncExitStack() as stack:

        async def come(own_address: str) -> bool:
            return await is_answered(
                await stack.enter_async_context(raw_client(address, own_address=own_address))
            )

        assert [await come("127.0.0.2") for _ in range(4)] == [True, True, False, False]
        assert [await come("127.0.0.3") for _ in range(3)] == [True, True, False]


async def test_a_connection_on_which_nobody_asks_is_ended() -> None:
    """One byte a minute is no request either."""
    async with (
        serving(first_request_s=0.2) as address,
        raw_client(address) as asks,
        raw_client(address) as silent,
        raw_client(address) as slow,
    ):
        assert await is_answered(asks)
        await slow.send(b"GET / HTTP/1.1\r\nHost")
        assert (await silent.rest())[0] == b""
        assert (await slow.rest())[0] == b""
        assert await is_answered(asks), "it has asked before: it may stay"


async def test_between_requests_a_connection_is_kept_for_a_time() -> None:
    async with serving(keepalive_s=0.3) as address, raw_client(address) as client:
        assert await is_answered(client)
        assert await is_answered(client)
        assert await client.rest() == (b"", End.FIN)
