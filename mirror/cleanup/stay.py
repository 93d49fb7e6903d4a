"""Says that this host is clean, to whoever asks, until it is told to stop.

The address is listened at only then: a refused connection means that the host is not clean yet.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from aiohttp import web

from mirror.settings.model import Address
from mirror.web.listener import Listener, bind

CLEANED_PATH = "/cleaned"
# The whole answer: another program at that port would hardly give it.
CLEANED_TEXT = "this host is clean of peili\n"
# Answers are a line.
_DRAIN_S = 0.5


async def stay(address: Address, said: Callable[[str], None]) -> None:
    """Returns on SIGTERM or SIGINT. `said` is told when the address answers. Raises: ListenFailed."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    listener = Listener(_app(), bind("stay", address.host, address.port), drain_s=_DRAIN_S)
    await listener.start()
    try:
        said(f"this host is clean, and says so at {Address(*listener.address)} until it is stopped")
        await stopping.wait()
    finally:
        await listener.stop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _app() -> web.Application:
    async def cleaned(request: web.Request) -> web.Response:
        return web.Response(text=CLEANED_TEXT)

    app = web.Application(client_max_size=0)
    app.router.add_get(CLEANED_PATH, cleaned)
    return app
