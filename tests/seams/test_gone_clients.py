"""A client that leaves before its answer begins is nobody's defect."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web

from mirror.web.listener import Listener, bind


async def test_a_client_that_left_before_the_answer_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    asked, gone = asyncio.Event(), asyncio.Event()
    prepared: list[bool] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.shield(_wait(gone))
        response = web.StreamResponse()
        assert request.transport is not None
        request.transport.close()
        try:
            await response.prepare(request)
        finally:
            prepared.append(True)
        return response

    app = web.Application()
    app.router.add_get("/", slow)
    listener = Listener(app, bind("registry", "127.0.0.1", 0), drain_s=0.1)
    await listener.start()
    try:
        _, writer = await asyncio.open_connection(*listener.address)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        with caplog.at_level(logging.ERROR):
            gone.set()
            while not prepared:
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        writer.close()
    finally:
        await listener.stop()
    assert [record.getMessage() for record in caplog.records] == []


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
