"""One listening address of the daemon: its sockets, its aiohttp application, its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Collection
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from mirror.errors import MirrorError
from mirror.web.ending import FAREWELLS, Farewells, part
from mirror.web.gate import ConnectionLimits, Newcomer
from mirror.web.guard import CANCEL_S, RequestGuard

# Enough for a herd that arrives within one round of accepts; the kernel caps it at net.core.somaxconn.
BACKLOG_COUNT = 1024
# containerd and peers send short headers; more is nobody we know.
HEADER_MAX_BYTES = 16 * 1024
# Longer than the 90 s after which containerd closes an idle connection itself: it never sends a request on one that we
# are just closing.
KEEPALIVE_S = 120.0
# A client on its way out ends its side within a round trip; the daemon has two seconds to leave.
FAREWELL_AT_STOP_S = 0.5
# Any free port shall be free for datagrams as well. One in some hundred is not.
PORT_TRIES_COUNT = 8


class ListenFailed(MirrorError):
    """The address cannot be bound."""


class _ListeningSocket(socket.socket):
    """One on which `accept` may be called while it does not listen: there is nobody then."""

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                raise BlockingIOError(errno.EAGAIN, "does not listen now") from exc
            raise


def bind(name: str, host: str, port: int) -> socket.socket:
    """A bound TCP socket. IPv6 wildcards serve IPv4 too. Raises: ListenFailed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = _ListeningSocket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise ListenFailed(
            f"--{name}-addr {host}:{port} cannot be bound: {exc.strerror or exc}; "
            f"stop what listens there or choose another address"
        ) from exc
    if host.startswith("127.") or host == "::1":
        # Hosts whose default is BBR pay nine times the CPU on loopback (measured); reno is always permitted.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    sock.setblocking(False)
    return sock


def bind_with_udp(name: str, host: str, port: int) -> socket.socket:
    """As `bind`. Where any free port will do, one is taken at which UDP is free, too; it stays free for the caller to
    bind. Raises: ListenFailed."""
    for _ in range(PORT_TRIES_COUNT - 1):
        sock = bind(name, host, port)
        if port or _udp_is_free(sock):
            return sock
        sock.close()
    return bind(name, host, port)


def _udp_is_free(tcp: socket.socket) -> bool:
    """At the address of `tcp`, and for an IPv6 wildcard at that of IPv4 as well."""
    with socket.socket(tcp.family, socket.SOCK_DGRAM) as probe:
        if tcp.family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        try:
            probe.bind(tcp.getsockname())
        except OSError:
            return False
    return True


def _is_no_garbage(record: logging.LogRecord) -> bool:
    """What is not HTTP is answered with 400 and not worth a traceback: anybody can send it."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_log = logging.getLogger(__name__)
_http_log.addFilter(_is_no_garbage)


class Listener:
    """One application on one socket, from `start` to `stop`."""

    def __init__(
        self,
        app: web.Application,
        sock: socket.socket,
        *,
        drain_s: float,
        limits: ConnectionLimits | None = None,
    ) -> None:
        """`drain_s`: how long `stop` lets open requests go on before it ends them. `limits` None: only this host's
        programs can connect, and may."""
        self._sock = sock
        self._name = sock.getsockname()
        self._drain_s = drain_s
        self._limits = limits
        self._guard = RequestGuard()
        self._farewells = Farewells()
        self._serving: asyncio.Server | None = None
        # Accepted while the loop stood still, and ended.
        self._turned_away: list[socket.socket] = []
        app[FAREWELLS] = self._farewells
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_http_log,
            handle_signals=False,
            handler_cancellation=True,  # a client's reset ends the fetch behind it at once
            keepalive_timeout=limits.keepalive_s if limits else KEEPALIVE_S,
            max_line_size=HEADER_MAX_BYTES,
            max_field_size=HEADER_MAX_BYTES,
            shutdown_timeout=CANCEL_S,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: the port is the real one where 0 was asked for."""
        host, port = self._name[:2]
        return host, port

    async def start(self) -> None:
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        server.request_handler = self._guard.around(server.request_handler)
        loop = asyncio.get_running_loop()
        self._serving = await loop.create_server(self._accepted, sock=self._sock, backlog=BACKLOG_COUNT)

    async def drain(self) -> None:
        """Closes the socket at once, then waits for open requests. Upgraded connections stay. Idempotent."""
        if self._serving is None:
            return
        self._serving.close()
        self._serving = None
        await asyncio.sleep(0)  # requests that were read have begun then
        self._part_all(busy=self._guard.connections(), kept=self._guard.upgraded_connections())
        await self._guard.drain(self._drain_s)

    async def stop(self) -> None:
        """Drains, and ends what is left. Idempotent."""
        await self.drain()
        await self._guard.end()
        await self._runner.cleanup()
        await self._farewells.end(FAREWELL_AT_STOP_S)
        self._sock.close()

    def end_open(self) -> None:
        """Refuses newcomers and ends what is open, by FIN, from any thread; the loop need not run. What it does go on
        with cannot be sent; `begin_again` ends it."""
        # On Linux this ends the listening, and resets those who wait to be accepted: they are told before.
        with contextlib.suppress(OSError):
            while len(self._turned_away) < BACKLOG_COUNT:
                self._turned_away.append(self._sock.accept()[0])
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RD)
        server = self._runner.server
        transports = [one.transport for one in server.connections] if server is not None else []
        for sock in [
            *self._turned_away,
            *(one.get_extra_info("socket") for one in transports if one is not None),
        ]:
            # The client may be gone, or the loop close it at this moment.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    def begin_again(self) -> None:
        """On the loop, after `end_open`: ends the requests whose answers cannot leave, and listens again."""
        for waiting in self._turned_away:
            waiting.close()
        self._turned_away.clear()
        self._guard.cancel_all()
        self._part_all()
        if self._serving is None:
            return
        # A port that the kernel chose was given back with the listening; one that was asked for is still ours.
        with contextlib.suppress(OSError):
            self._sock.bind(self._name)
        self._sock.listen(BACKLOG_COUNT)

    def _accepted(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server() if self._limits is None else Newcomer(server, self._limits)

    def _part_all(self, busy: Collection[RequestHandler] = (), kept: Collection[RequestHandler] = ()) -> None:
        """Those that are busy may end the request that they have."""
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            if connection in kept:
                continue
            connection.close()
            if connection not in busy:
                part(connection, self._farewells)
