"""A protocol that writes down what it hears."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast


class Recorder(asyncio.DatagramProtocol):
    """Keeps what arrives; answers with `reply` if there is one."""

    def __init__(self, reply: bytes | None = None) -> None:
        self.reply = reply
        self.arrived: list[tuple[bytes, tuple[object, ...]]] = []
        self.came = asyncio.Event()
        self.lost: list[Exception | None] = []
        self.errors: list[Exception] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        self.arrived.append((data, addr))
        self.came.set()
        if self.reply is not None and self.transport is not None:
            self.transport.sendto(self.reply, addr)

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@contextmanager
def closed(*transports: asyncio.DatagramTransport) -> Iterator[None]:
    try:
        yield
    finally:
        for transport in transports:
            transport.close()
