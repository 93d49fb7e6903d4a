"""What runs on a listener, and that no answer ends otherwise than by rule, whatever its handler does.

A handler that raises, is cancelled or returns before its body is whole ends the connection by FIN: aiohttp would close
it with unread input, which resets it, or keep it, and the client would wait for the rest for ever.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mirror.web.ending import hang_up

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

# What a cancelled answer needs to let go of its sources.
CANCEL_S = 1.0


class RequestGuard:
    """`around` the handler of everything that one application is asked. No middleware: with the first of those aiohttp
    makes every request pay for its nested applications."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[object], RequestHandler] = {}
        # WebSockets: they end when somebody says so, and carry what the others need meanwhile.
        self._upgraded: dict[asyncio.Task[object], RequestHandler] = {}

    def around(self, handler: Answer) -> Answer:
        return functools.partial(self._guarded, handler)

    async def _guarded(self, handler: Answer, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        present = self._upgraded if "Upgrade" in request.headers else self._running
        present[task] = request.protocol
        try:
            response = await handler(request)
        except ConnectionResetError:
            # The client left before the answer began, which is normal; aiohttp would log it as a defect of ours.
            return web.Response(status=404)
        except BaseException:
            if _missing_bytes(request):
                _hang_up(request)
            raise
        else:
            missing_bytes = _missing_bytes(request)
            if missing_bytes and request.transport is not None:
                log.warning(
                    "an answer was %d bytes short of what it told: its connection is ended", missing_bytes
                )
                response.force_close()
                _hang_up(request)
            return response
        finally:
            del present[task]

    def connections(self) -> set[RequestHandler]:
        """Those on which a request runs that will end."""
        return set(self._running.values())

    def upgraded_connections(self) -> set[RequestHandler]:
        return set(self._upgraded.values())

    async def drain(self, within_s: float) -> None:
        """Lets what will end do so for that time, and cancels it then."""
        if await _all_end(self._running, within_s):
            return
        for task in self._running:
            task.cancel()
        await _all_end(self._running, CANCEL_S)

    async def end(self) -> None:
        """Cancels everything, and waits for it for a moment."""
        self.cancel_all()
        await _all_end(self._running, CANCEL_S)
        await _all_end(self._upgraded, CANCEL_S)

    def cancel_all(self) -> None:
        for task in [*self._running, *self._upgraded]:
            task.cancel()


async def _all_end(tasks: Collection[asyncio.Task[object]], within_s: float) -> bool:
    """Also those that begin meanwhile."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + within_s
    while tasks:
        left_s = until_s - loop.time()
        if left_s <= 0:
            return False
        await asyncio.wait(set(tasks), timeout=left_s)
    return True


def _hang_up(request: web.BaseRequest) -> None:
    assert isinstance(request, web.Request), "a body is begun by an application alone"
    hang_up(request)


def _missing_bytes(request: web.BaseRequest) -> int:
    """Of a body that has begun."""
    writer = request.writer
    if request.method == "HEAD" or writer.output_size == 0:
        return 0
    return writer.length or 0
