"""How a connection ends on which an answer cannot be finished: by FIN, and what the client still sends is read away.

`close()` with unread input makes Linux send RST, and so does input that arrives after it; a reset throws away what the
client has not read yet, and fails containerd's pull. So the write side ends first, the rest is read, and then it is
closed. Bounded in time and bytes: a client who goes on sending is reset.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

# A client ends its side within a round trip of having read ours; a slow disk may keep containerd from that for a while.
FAREWELL_S = 5.0
# A request that was sent already, or a few. More is nobody who has understood that we are done.
FAREWELL_MAX_BYTES = 256 * 1024


class Farewells:
    """The connections of one application that are on their way out."""

    def __init__(self) -> None:
        self._open: set[Farewell] = set()
        self._none_open = asyncio.Event()
        self._none_open.set()

    def add(self, one: Farewell) -> None:
        self._open.add(one)
        self._none_open.clear()

    def discard(self, one: Farewell) -> None:
        self._open.discard(one)
        if not self._open:
            self._none_open.set()

    async def end(self, within_s: float) -> None:
        """Those that take longer are closed whatever is still to leave."""
        try:
            async with asyncio.timeout(within_s):
                await self._none_open.wait()
        except TimeoutError:
            for one in self._open:
                one.abort()
            await self._none_open.wait()


FAREWELLS: web.AppKey[Farewells] = web.AppKey("farewells", Farewells)


class Farewell(asyncio.Protocol):
    """Takes a connection over from aiohttp, which would close it at once. `known`: who may have to wait for its end."""

    def __init__(self, former: RequestHandler, transport: asyncio.Transport, known: Farewells | None) -> None:
        self._former = former
        self._transport = transport
        self._known = known
        self._left_bytes = FAREWELL_MAX_BYTES
        self._timer = asyncio.get_running_loop().call_later(FAREWELL_S, transport.close)
        if known is not None:
            known.add(self)

    def begin(self) -> None:
        self._former.transport = None
        self._transport.set_protocol(self)
        try:
            self._transport.write_eof()  # behind what is written already
        except (OSError, NotImplementedError):
            self._transport.close()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        if self._known is not None:
            self._known.discard(self)
        self._former.connection_lost(exc)


def hang_up(request: web.Request) -> None:
    """Ends the connection of a request. What is already written still leaves; nothing more can be written."""
    part(request.protocol, request.app.get(FAREWELLS))


def part(former: RequestHandler, known: Farewells | None) -> None:
    """As `hang_up`."""
    transport = former.transport
    if transport is not None and not transport.is_closing():
        Farewell(former, transport, known).begin()
