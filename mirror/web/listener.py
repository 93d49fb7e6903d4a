"""One listening address of the daemon: its sockets, its aiohttp application, its orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from mirror.errors import MirrorError
from mirror.web.ending import FAREWELLS, Farewells, part
from mirror.web.gate import ConnectionLimits, Newcomer
from mirror.web.guard import RequestGuard

# Enough for a herd that arrives within one round of accepts; the kernel caps it at net.core.somaxconn.
BACKLOG_COUNT = 1024
# containerd and peers send short headers; more is nobody we know.
HEADER_MAX_BYTES = 16 * 1024
# Longer than the 90 s after which containerd closes an idle connection itself: it never sends a request on one that we
# are just closing.
KEEPALIVE_S = 120.0
# What a cancelled answer needs to let go of its sources.
CANCEL_S = 1.0
# A client on its way out ends its side within a round trip; the daemon has two seconds to leave.
FAREWELL_AT_STOP_S = 0.5
# Any free port shall be free for datagrams as well. One in some hundred is not.
PORT_TRIES_COUNT = 8


class ListenFailed(MirrorError):
    """The address cannot be bound."""


def bind(name: str, host: str, port: int) -> socket.socket:
    """A bound TCP socket. IPv6 wildcards serve IPv4 too. Raises: ListenFailed."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
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
        self._drain_s = drain_s
        self._limits = limits
        self._guard = RequestGuard()
        self._farewells = Farewells()
        self._serving: asyncio.Server | None = None
        app[FAREWELLS] = self._farewells
        app.middlewares.insert(0, self._guard.middleware)
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
        host, port = self._sock.getsockname()[:2]
        return host, port

    async def start(self) -> None:
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._serving = await loop.create_server(self._accepted, sock=self._sock, backlog=BACKLOG_COUNT)

    async def stop(self) -> None:
        """Closes the socket at once, then waits for open requests. Idempotent."""
        if self._serving is not None:
            self._serving.close()
            self._serving = None
            await asyncio.sleep(0)  # requests that were read have begun then
            self._end_idle()
            if not await self._guard.all_ended(self._drain_s):
                self._guard.cancel_all()
                await self._guard.all_ended(CANCEL_S)
        await self._runner.cleanup()
        await self._farewells.end(FAREWELL_AT_STOP_S)
        self._sock.close()

    def _accepted(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None
        return server() if self._limits is None else Newcomer(server, self._limits)

    def _end_idle(self) -> None:
        """And lets the others end with the request that they have."""
        server = self._runner.server
        assert server is not None
        busy = self._guard.connections()
        for connection in server.connections:
            connection.close()
            if connection not in busy:
                part(connection, self._farewells)
