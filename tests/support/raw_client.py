"""A client that sees the wire: every byte that comes, and whether the connection ends by FIN or by RST."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from enum import Enum, auto

# Far more than anything on loopback needs; a test that gets here has failed.
PATIENCE_S = 10.0


class End(Enum):
    FIN = auto()
    RST = auto()


class RawClient:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = bytearray()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def get(self, path: str, *headers: str, method: str = "GET") -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]
        await self.send("\r\n".join(lines).encode())

    async def head(self) -> tuple[int, dict[str, str]]:
        """The next answer's status and headers, by lower-case name."""
        while b"\r\n\r\n" not in self._received:
            if not await self._more():
                raise EOFError(f"the connection ended within the headers: {bytes(self._received)!r}")
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        return int(status.split(" ")[1]), {name.lower(): value for name, value in headers.items()}

    async def exactly(self, length_bytes: int) -> bytes:
        while len(self._received) < length_bytes:
            if not await self._more():
                raise EOFError(f"the connection ended after {len(self._received)} of {length_bytes} bytes")
        found = bytes(self._received[:length_bytes])
        del self._received[:length_bytes]
        return found

    async def rest(self) -> tuple[bytes, End]:
        """All that comes until the connection ends, and how it ends."""
        end = End.FIN
        try:
            while await self._more():
                pass
        except ConnectionResetError:
            end = End.RST
        return bytes(self._received), end

    def end_sending(self) -> None:
        self._sock.shutdown(socket.SHUT_WR)

    def leave(self) -> None:
        """By RST."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._sock.close()

    async def _more(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            chunk = await asyncio.get_running_loop().sock_recv(self._sock, 1 << 18)
        self._received += chunk
        return bool(chunk)


@contextlib.asynccontextmanager
async def raw_client(
    address: tuple[str, int], *, receive_buffer_bytes: int | None = None, own_address: str = ""
) -> AsyncIterator[RawClient]:
    """`receive_buffer_bytes`: a small one makes the server wait for us to read."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as sock:
        if own_address:
            sock.bind((own_address, 0))
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        yield RawClient(sock)
