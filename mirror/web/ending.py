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

# Connections of an application that are on their way out. Whoever stops the application waits for these, or ends them.
FAREWELLS: web.AppKey[set[Farewell]] = web.AppKey("farewells", set)


class Farewell(asyncio.Protocol):
    """Takes a connection over from aiohttp, which would close it at once."""

    def __init__(
        self, former: RequestHandler, transport: asyncio.Transport, known: set[Farewell] | None
    ) -> None:
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

    def end(self) -> None:
        """At once. What is written already still leaves, unless input is unread."""
        self._transport.close()

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
    former = request.protocol
    transport = former.transport
    if transport is not None and not transport.is_closing():
        Farewell(former, transport, request.app.get(FAREWELLS)).begin()
