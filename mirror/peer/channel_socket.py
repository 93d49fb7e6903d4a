"""One WebSocket as both sides of a state channel use it: the next message, or why there is none, and its end.

Knows no frames. A ping is answered here, and told as an empty message: who counts what a peer sends counts it, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Awaitable

import aiohttp
from aiohttp import web

from mirror.peer.channel_params import ChannelParams
from mirror.peer.news import ChannelEnd

WebSocket = aiohttp.ClientWebSocketResponse[bool] | web.WebSocketResponse[bool]

# What the peer says of us (nonsense, flood) tells nothing about the peer: it is lost.
_ITS_REASONS = frozenset(
    {ChannelEnd.IDLE, ChannelEnd.DUPLICATE, ChannelEnd.VERSION, ChannelEnd.STOPPED, ChannelEnd.SELF}
)
# A peer that reads nothing, or is gone, takes part in no closing handshake.
_MUTE = frozenset({ChannelEnd.STALLED, ChannelEnd.LOST})


class Ended(Exception):
    """The channel is over. Ends the tasks that serve it; never leaves this package."""

    def __init__(self, reason: ChannelEnd, detail: str = "") -> None:
        super().__init__(f"{reason.name.lower()}: {detail}")
        self.reason = reason


class ChannelSocket:
    def __init__(self, ws: WebSocket, params: ChannelParams) -> None:
        self._ws = ws
        self._params = params
        # The WebSocket forgets it when it closes.
        self._socket: TransportSocket | None = ws.get_extra_info("socket")

    async def receive(self) -> bytes:
        """Raises: Ended."""
        message = await self._ws.receive()
        match message.type:
            case aiohttp.WSMsgType.BINARY:
                return bytes(message.data)
            case aiohttp.WSMsgType.PING:
                await self._write(self._ws.pong(message.data))
                return b""
            case aiohttp.WSMsgType.PONG:
                return b""
            case aiohttp.WSMsgType.TEXT:
                raise Ended(ChannelEnd.NONSENSE, "text")
            case aiohttp.WSMsgType.ERROR if isinstance(message.data, aiohttp.WebSocketError):
                raise Ended(ChannelEnd.NONSENSE, str(message.data))
            case aiohttp.WSMsgType.CLOSE:
                raise Ended(_its_reason(message.data), f"closed with {message.data}")
            case _:
                raise Ended(ChannelEnd.LOST, str(message.data))

    async def send(self, data: bytes) -> None:
        """Raises: Ended."""
        await self._write(self._ws.send_bytes(data))

    async def hang_up(self, reason: ChannelEnd) -> None:
        """The closing handshake, then FIN. Takes two `close_s` at most. Idempotent."""
        try:
            if reason not in _MUTE:
                async with asyncio.timeout(2 * self._params.close_s):
                    await self._ws.close(code=reason.value)
        except (TimeoutError, OSError, RuntimeError, aiohttp.ClientError):
            pass
        finally:
            # A transport with bytes that nobody takes would live as long as the kernel tries to send them.
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    async def _write(self, sending: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(self._params.send_stall_s):
                await sending
        except TimeoutError as exc:
            raise Ended(ChannelEnd.STALLED, "takes nothing") from exc
        except (OSError, RuntimeError, aiohttp.ClientError) as exc:
            raise Ended(ChannelEnd.LOST, str(exc)) from exc


def _its_reason(code: object) -> ChannelEnd:
    for reason in _ITS_REASONS:
        if code == reason.value:
            return reason
    return ChannelEnd.LOST
