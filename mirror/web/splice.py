"""Moves bytes from a socket into the body of an answer, inside of the kernel: socket, pipe, socket. No byte is copied
into this process, and nothing is written to a disk.

Rules
1. A client's connection is aiohttp's again after each body, with its accounts right, so that it can be kept.
2. What was taken from the source is given to the client, also when the source has failed meanwhile: the rest can come
   from elsewhere, at the exact byte.
3. A source may be silent for so long and no longer; a client may be as slow as it likes.
4. Where the kernel will not splice these sockets, bytes are copied; nobody sees a difference but the CPU.

Refuses to know whose socket the source is, and to end a body: that is `mirror.web.body`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum, auto

from aiohttp import web

from mirror.web.vessel import UNSPLICEABLE, Copying, Pipe, Vessel, vessel

# After so much the loop's other work has its turn: about 1 ms.
TURN_MAX_BYTES = 4 * 1024 * 1024
# The source's socket wakes us when it has so much: a wake costs as much as moving 50 KB ...
WAKE_BYTES = 256 * 1024
# ... and what is less waits so long.
TICK_S = 0.1


class End(Enum):
    """Why no more was moved. ALL: it was as much as was asked for."""

    ALL = auto()
    SOURCE_ENDED = auto()
    SOURCE_FAILED = auto()
    SOURCE_SILENT = auto()
    CLIENT_GONE = auto()


@dataclass(frozen=True, slots=True)
class Moved:
    """`count_bytes` were handed to the kernel for the client. `waited_s`: how long for the source."""

    count_bytes: int
    end: End
    waited_s: float = 0.0
    reason: str = ""


class Outlet:
    """The body of one answer. Nothing else may write to it while this is open."""

    def __init__(self, request: web.Request, descriptor: int | None, vessel: Vessel) -> None:
        self._request = request
        self._descriptor = descriptor
        self._vessel = vessel

    async def take(self, source: socket.socket, count_bytes: int, *, silence_s: float) -> Moved:
        """Moves so many bytes from the source, which must be non-blocking and nobody else's meanwhile. Where the client
        is gone, or this is cancelled, the body can only be cut."""
        if self._descriptor is None or self._request.transport is None:
            return Moved(0, End.CLIENT_GONE)
        move = _Move(source, self._descriptor, self._vessel, count_bytes, silence_s)
        try:
            return await move.run()
        finally:
            # The copying one stays in its place.
            self._vessel = move.vessel
            # aiohttp has not seen these bytes.
            writer = self._request.writer
            writer.output_size += move.given_bytes
            if writer.length is not None:
                writer.length -= move.given_bytes


@contextlib.asynccontextmanager
async def outlet(request: web.Request) -> AsyncIterator[Outlet]:
    """Of a request whose answer was prepared. What was written of it before leaves first; what follows may be written
    by other means afterwards."""
    transport = request.transport
    sock: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if transport is None or sock is None or not await _is_flushed(request, transport):
        yield Outlet(request, None, Copying())
        return
    was_reading = transport.is_reading()
    # As the loop's own sendfile does: what the client sends meanwhile stays where it is, and one that ends its side is
    # no reason to end ours.
    transport.pause_reading()
    # The loop refuses to watch a transport's own descriptor.
    descriptor = os.dup(sock.fileno())
    try:
        with vessel() as made:
            yield Outlet(request, descriptor, made)
    finally:
        os.close(descriptor)
        if was_reading:
            transport.resume_reading()


async def _is_flushed(request: web.Request, transport: asyncio.Transport) -> bool:
    """Waits until nothing is left in the process. False: the client is gone."""
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=0)
    try:
        await request.writer.drain()
    except ConnectionError:
        return False
    finally:
        transport.set_write_buffer_limits(high=high, low=low)
    return not transport.is_closing()


class _Move:
    """Callbacks of the loop, and no task: to wake a task costs more than what a wake moves."""

    def __init__(
        self, source: socket.socket, client: int, vessel: Vessel, count_bytes: int, silence_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._client = client
        self.vessel = vessel
        self._count_bytes = count_bytes
        self._silence_s = silence_s
        self._taken_bytes = 0
        self.given_bytes = 0
        # Why nothing more is taken.
        self._end: End | None = None
        self._reason = ""
        self._done: asyncio.Future[End] = self._loop.create_future()
        self._is_reading = self._is_writing = False
        # Since when the source is waited for.
        self._waits_since: float | None = None
        self._waited_s = 0.0
        self._wake_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> Moved:
        self._timer = self._loop.call_later(TICK_S, self._tick)
        try:
            self._go()
            end = await self._done
        finally:
            self._timer.cancel()
            self._watch(reading=False, writing=False)
        return Moved(self.given_bytes, end, self._waited_s, self._reason)

    def _go(self) -> None:
        """As far as both sockets let it, and the loop's other work."""
        stop_at_bytes = self.given_bytes + TURN_MAX_BYTES
        while not self._done.done():
            held_bytes = self._taken_bytes - self.given_bytes
            if held_bytes:
                if not self._give(held_bytes):
                    return
            elif self.given_bytes == self._count_bytes or self._end is not None:
                self._done.set_result(self._end or End.ALL)
            elif self.given_bytes >= stop_at_bytes:
                # Ready at once, as a rule.
                self._watch(reading=False, writing=True)
                return
            elif not self._take():
                return

    def _give(self, held_bytes: int) -> bool:
        """False: the client is waited for."""
        is_last = self._taken_bytes == self._count_bytes or self._end is not None
        try:
            self.given_bytes += self.vessel.give(self._client, held_bytes, is_last=is_last)
        except BlockingIOError:
            self._watch(reading=False, writing=True)
            return False
        except OSError as exc:
            if exc.errno in UNSPLICEABLE and isinstance(self.vessel, Pipe):
                self.vessel = Copying(self.vessel.rest(held_bytes))
                return True
            self._reason = exc.strerror or str(exc)
            self._done.set_result(End.CLIENT_GONE)
        return True

    def _take(self) -> bool:
        """False: the source is waited for."""
        left_bytes = self._count_bytes - self._taken_bytes
        try:
            taken_bytes = self.vessel.take(self._source.fileno(), left_bytes)
        except BlockingIOError:
            if self._waits_since is None:
                self._waits_since = self._loop.time()
            self._wake_at(min(WAKE_BYTES, left_bytes))
            self._watch(reading=True, writing=False)
            return False
        except OSError as exc:
            if exc.errno in UNSPLICEABLE and isinstance(self.vessel, Pipe):
                self.vessel = Copying()
            else:
                self._end, self._reason = End.SOURCE_FAILED, exc.strerror or str(exc)
            return True
        self._heard()
        self._taken_bytes += taken_bytes
        if not taken_bytes:
            self._end = End.SOURCE_ENDED
        return True

    def _heard(self) -> None:
        if self._waits_since is not None:
            self._waited_s += self._loop.time() - self._waits_since
            self._waits_since = None

    def _wake_at(self, count_bytes: int) -> None:
        if count_bytes != self._wake_bytes:
            self._wake_bytes = count_bytes
            self._source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count_bytes)

    def _tick(self) -> None:
        """Takes what came and was too little for a wake; and ends the wait for a source that is silent."""
        self._timer = self._loop.call_later(TICK_S, self._tick)
        if self._is_reading:
            self._go()
        if self._waits_since is not None and self._loop.time() - self._waits_since >= self._silence_s:
            self._heard()
            self._end = End.SOURCE_SILENT
            self._go()

    def _watch(self, *, reading: bool, writing: bool) -> None:
        source, client = self._source.fileno(), self._client
        if reading != self._is_reading:
            self._is_reading = reading
            if reading:
                self._loop.add_reader(source, self._go)
            else:
                self._loop.remove_reader(source)
        if writing != self._is_writing:
            self._is_writing = writing
            if writing:
                self._loop.add_writer(client, self._go)
            else:
                self._loop.remove_writer(client)
