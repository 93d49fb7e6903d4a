"""Who may hold a connection to a listener, and for how long without asking for anything.

A stranger can connect, too: what he may take is bounded before the first byte of a request is read.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """`first_request_s`: from the connection to the end of the first request's headers. `keepalive_s`: between two."""

    all_max_count: int
    address_max_count: int
    first_request_s: float
    keepalive_s: float


class Newcomer(asyncio.Protocol):
    """A connection until it is let in. Beyond the limits it is closed at once."""

    def __init__(self, server: web.Server, limits: ConnectionLimits) -> None:
        self._server = server
        self._limits = limits

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        if self._is_full(transport.get_extra_info("peername")):
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        loop = asyncio.get_running_loop()
        loop.call_later(self._limits.first_request_s, _end_if_silent, handler)

    def _is_full(self, peername: tuple[str, int] | None) -> bool:
        present = self._server.connections
        if len(present) >= self._limits.all_max_count:
            log.debug("a connection was refused: %d are open", len(present))
            return True
        address = peername[0] if peername else None
        same_count = sum(1 for one in present if one.peername and one.peername[0] == address)
        if same_count >= self._limits.address_max_count:
            log.debug("a connection of %s was refused: it has %d already", address, same_count)
            return True
        return False


def _end_if_silent(handler: RequestHandler) -> None:
    # The one place where aiohttp tells whether a request was read in whole.
    if handler._request_count == 0:
        handler.force_close()
