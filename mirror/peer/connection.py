"""One kept connection to a peer: one HTTP/1.1 request after the other, and bodies received into memory of the caller's.

Refuses to know which peer is asked for what, to follow redirects, and to decode bodies. A general HTTP client copies a
body three times on its way to a file and wakes a task for each part of it; this one is woken a few times a piece.

Rules
1. The process is woken for about so many bytes as keep it from being woken often, and not later (SO_RCVLOWAT): on a
   shaped or busy link they come in shreds of a few KiB, and each wake costs as much as reading 64 KiB. Never for more
   than is waited for, or nobody would be woken.
2. What nobody waits for is left to the kernel.
3. A connection whose answer was not read to its end is closed, never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from mirror.discovery.base import Peer
from mirror.peer.blob_answer import HEAD_MAX_BYTES, Head
from mirror.peer.errors import PeerBroke, PeerError, PeerNonsense, PeerStalled, PeerUnreachable

# A source silent for this long is left for another; containerd itself would wait for ever.
STALL_TIMEOUT_S: Final = 2.0
# A peer keeps an idle connection for longer. A herd's next request comes within a second.
IDLE_MAX_S: Final = 15.0
# Of a body the process is woken for so many bytes at first, then for as many as come in such a time, up to the most
# that one write to the spool takes.
WAKE_START_BYTES: Final = 64 * 1024
WAKE_MAX_BYTES: Final = 1024 * 1024
WAKE_EVERY_MIN_S: Final = 0.04
WAKE_EVERY_MAX_S: Final = 0.12
# Who got nothing for so long looks whether there is less than that: a source that has become slow is no stall.
LESS_AFTER_S: Final = STALL_TIMEOUT_S / 2
# Heads of answers of ours are below 1 KiB; what comes behind one is copied once.
SCRATCH_BYTES: Final = 4096
_END_OF_HEAD: Final = b"\r\n\r\n"


class ClosedUnanswered(Exception):
    """The peer closed a kept connection before a byte of an answer: it may never have seen the request."""


class Connection(asyncio.BufferedProtocol):
    """Made by `loop.create_connection`. `ask`, then `expect` what the head told, then `fill` until all is read. `gone`
    is told once when it is closed, by whomever."""

    def __init__(self, peer: Peer, gone: Callable[[Connection], None]) -> None:
        self._peer = peer
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._scratch = bytearray(SCRATCH_BYTES)
        # Came behind what was waited for.
        self._rest = bytearray()
        self._target: memoryview | None = None
        self._filled_bytes = 0
        self._came: Callable[[int], None] | None = None
        # Of the body: still to be read.
        self._left_bytes = 0
        self._is_asked = False
        self._is_kept = False
        self._is_paused = False
        self._is_lost = False
        self._loss: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_stalled = False
        self._active_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._aim_bytes = WAKE_START_BYTES
        self._low_bytes = 1
        self._adjusted_at = 0.0
        # Of bodies, in all.
        self.came_bytes = 0

    # -- what it is used for ---------------------------------------------------------------------------------------

    @property
    def is_usable(self) -> bool:
        """For another request."""
        return not (self._is_lost or self._is_asked or self._rest or self._left_bytes)

    async def ask(self, request: bytes, *, is_first: bool) -> Head:
        """Raises: PeerError; ClosedUnanswered where it is not the first request."""
        assert self._transport is not None and self.is_usable
        self._is_asked = True
        self._transport.write(request)
        # For the whole head: one that comes a byte at a time is none.
        self._active_at = self._loop.time()
        end = -1
        while end < 0:
            if len(self._rest) > HEAD_MAX_BYTES:
                raise PeerNonsense(str(self._peer), f"answered with a head of over {HEAD_MAX_BYTES} bytes")
            await self._wait()
            end = self._rest.find(_END_OF_HEAD)
            if end >= 0:
                break
            if self._is_stalled:
                raise PeerStalled(str(self._peer), f"did not answer within {STALL_TIMEOUT_S:g} s")
            if self._is_lost:
                raise self._unanswered(is_first=is_first)
        head = Head.parse(self._peer, bytes(self._rest[:end]))
        del self._rest[: end + len(_END_OF_HEAD)]
        self._is_kept = head.headers.get("connection", "").lower() != "close"
        return head

    def expect(self, length_bytes: int) -> None:
        """The answer has a body of that length."""
        self._left_bytes = length_bytes
        self._adjusted_at = self._loop.time()
        self._end_if_read()

    async def fill(self, view: memoryview, came: Callable[[int], None]) -> None:
        """With the next bytes of the body, of which there must be so many. `came` is told how many of them are here,
        each time that the process is woken for less than all. Raises: PeerStalled, PeerBroke."""
        assert self._target is None and len(view) <= self._left_bytes
        filled = min(len(view), len(self._rest))
        if filled:
            view[:filled] = self._rest[:filled]
            del self._rest[:filled]
            self.came_bytes += filled
        if filled < len(view):
            self._target, self._filled_bytes, self._came = view, filled, came
            self._active_at = self._loop.time()
            try:
                if not self._is_lost:
                    self._resume()
                    self._adjust(len(view) - filled)
                while self._target is not None:
                    self._raise_if_over()
                    await self._wait()
            finally:
                # Nothing more may come into memory that is the caller's again.
                self._target = self._came = None
        self._left_bytes -= len(view)
        self._end_if_read()

    async def text(self, max_bytes: int) -> bytes:
        """Of a body whose length is not told: what comes of it, as far as it is worth reading. Closes it."""
        self._active_at = self._loop.time()
        while len(self._rest) < max_bytes and not (self._is_lost or self._is_stalled):
            self._resume()
            await self._wait()
        text = bytes(self._rest[:max_bytes])
        self.close()
        return text

    def close(self) -> None:
        """Idempotent."""
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.close()

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Until something came, or nothing will."""
        if self._is_lost:
            return
        self._is_stalled = False
        look_at = self._active_at + LESS_AFTER_S
        if self._timer is not None and self._timer.when() > look_at:
            # It was idle.
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(look_at, self._look)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _look(self) -> None:
        """One timer for all waits: arming one for each would cost as much as the wait."""
        self._timer = None
        quiet_s = self._loop.time() - self._active_at
        if self._waiter is None:
            limit_s = IDLE_MAX_S
        elif quiet_s < LESS_AFTER_S:
            limit_s = LESS_AFTER_S
        else:
            limit_s = STALL_TIMEOUT_S
            if self._target is not None and self._low_bytes > 1:
                self._aim_bytes = 1
                self._set_low(1)
        if quiet_s < limit_s:
            self._timer = self._loop.call_later(limit_s - quiet_s, self._look)
        elif self._waiter is None:
            if self.is_usable:
                self.close()
        else:
            self._is_stalled = True
            self._wake()

    def _raise_if_over(self) -> None:
        if self._is_stalled:
            self._is_stalled = False
            raise PeerStalled(str(self._peer), f"sent no byte for {STALL_TIMEOUT_S:g} s")
        if self._is_lost:
            why = "the connection was closed" if self._loss is None else str(self._loss)
            raise PeerBroke(str(self._peer), f"ended the body early: {why}")

    def _unanswered(self, *, is_first: bool) -> PeerError | ClosedUnanswered:
        if self._rest:
            return PeerNonsense(str(self._peer), "no HTTP answer: it ended within its head")
        if not is_first:
            return ClosedUnanswered()
        why = "closed the connection without an answer" if self._loss is None else str(self._loss)
        return PeerUnreachable(str(self._peer), why)

    def _end_if_read(self) -> None:
        if self._left_bytes:
            return
        self._set_low(1)
        self._active_at = self._loop.time()
        self._is_asked = False
        # Where more came than it told, it is not usable: nothing of that could be believed.
        if self._is_kept:
            self._resume()
        else:
            self.close()

    # -- the process's wakes ---------------------------------------------------------------------------------------

    def _adjust(self, wanted_bytes: int) -> None:
        now = self._loop.time()
        waited_s, self._adjusted_at = now - self._adjusted_at, now
        if waited_s < WAKE_EVERY_MIN_S:
            self._aim_bytes = min(2 * self._aim_bytes, WAKE_MAX_BYTES)
        elif waited_s > WAKE_EVERY_MAX_S:
            self._aim_bytes = max(self._aim_bytes // 2, 1)
        self._set_low(min(self._aim_bytes, wanted_bytes))

    def _set_low(self, low_bytes: int) -> None:
        if low_bytes != self._low_bytes and self._socket is not None and not self._is_lost:
            self._low_bytes = low_bytes
            with contextlib.suppress(OSError):  # it is closed
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low_bytes)

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # -- asyncio.BufferedProtocol ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._socket = transport.get_extra_info("socket")

    def get_buffer(self, sizehint: int) -> memoryview:
        target = self._target
        return memoryview(self._scratch) if target is None else target[self._filled_bytes :]

    def buffer_updated(self, nbytes: int) -> None:
        target = self._target
        if target is None:
            self._rest += memoryview(self._scratch)[:nbytes]
            if self._waiter is not None:
                self._wake()
            elif self._is_asked:
                self._pause()
            else:
                self.close()  # Nobody asked for anything.
            return
        self.came_bytes += nbytes
        self._filled_bytes += nbytes
        wanted_bytes = len(target) - self._filled_bytes
        if wanted_bytes:
            self._adjust(wanted_bytes)
            self._active_at = self._adjusted_at
            assert self._came is not None
            self._came(self._filled_bytes)
        else:
            self._target = None
            self._wake()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._loss = exc
        self.close()
        self._wake()
        self._gone(self)
