"""A containerd that is none: a real gRPC server on a Unix socket, with content in a folder.

It takes the place of `RealContainerd` in tests, and passes the same conformance suite. It imports no client
code of ours, so that a mistake there is not made twice. What it does is in `fake_containerd_state`.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import grpc.aio

from tests.support.fake_containerd_services import register
from tests.support.fake_containerd_state import State

MESSAGE_LIMIT_BYTES: Final = 16 << 20
"""As containerd's."""


class FakeContainerd:
    """Same surface as RealContainerd. Its `state` survives `stop` and `kill`, as on a disk.

    Tests may fill and look at `state` directly, also while it runs.
    """

    def __init__(self, workdir: Path, *, version: str = "2.1.9") -> None:
        self.socket = workdir / "c.sock"
        self.content_root = workdir / "root" / "io.containerd.content.v1.content"
        self.state = State(self.content_root, version)
        self._server: grpc.aio.Server | None = None

    def version(self) -> tuple[int, int]:
        return self.state.release

    async def start(self) -> None:
        assert self._server is None, "the fake runs already"
        server = grpc.aio.server(
            options=[(f"grpc.max_{way}_message_length", MESSAGE_LIMIT_BYTES) for way in ("send", "receive")]
        )
        register(server, self.state)
        # A crash leaves the old socket behind; containerd, too, removes it first.
        self.socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{self.socket}")
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Idempotent."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace=None)
        self.socket.unlink(missing_ok=True)

    async def kill(self) -> None:
        """As `stop`, but leaves a dead socket behind."""
        await self.stop()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.socket))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
