"""What runs on a listener, and that no answer ends otherwise than by rule, whatever its handler does.

A handler that raises, is cancelled or returns before its body is whole ends the connection by FIN: aiohttp would close
it with unread input, which resets it, or keep it, and the client would wait for the rest for ever.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp.web_protocol import RequestHandler

from mirror.web.ending import hang_up

log = logging.getLogger(__name__)


class RequestGuard:
    """`middleware` is the outermost of one application."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[object], RequestHandler] = {}
        self._none_runs = asyncio.Event()
        self._none_runs.set()

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = request.protocol
        self._none_runs.clear()
        try:
            response = await handler(request)
        except BaseException:
            if _missing_bytes(request):
                hang_up(request)
            raise
        else:
            missing_bytes = _missing_bytes(request)
            if missing_bytes and request.transport is not None:
                log.warning(
                    "an answer was %d bytes short of what it told: its connection is ended", missing_bytes
                )
                response.force_close()
                hang_up(request)
            return response
        finally:
            del self._running[task]
            if not self._running:
                self._none_runs.set()

    def connections(self) -> set[RequestHandler]:
        """Those with a request that runs."""
        return set(self._running.values())

    async def all_ended(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._none_runs.wait()
        except TimeoutError:
            return False
        return True

    def cancel_all(self) -> None:
        for task in self._running:
            task.cancel()


def _missing_bytes(request: web.Request) -> int:
    """Of a body that has begun."""
    writer = request.writer
    if request.method == "HEAD" or writer.output_size == 0:
        return 0
    return writer.length or 0
