"""The client of one containerd: everything this package offers, behind one connection.

It may be made before containerd runs, and is kept while containerd restarts; calls in between raise
Unavailable.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from containerd.connection import Connection
from containerd.content import Content
from containerd.cri import Cri
from containerd.errors import Unavailable
from containerd.events import Events
from containerd.images import Images
from containerd.introspection import content_root
from containerd.leases import Leases
from containerd.namespaces import namespace_names
from containerd.types import ServerVersion
from containerd.version import server_version

READY_POLL_S: Final = 0.1
"""Pause between two tries. A try that fails costs about 1 ms; the channel connects every 0.5 s at most."""


class Client:
    """`async with Client(path) as client:`. Entering does no I/O; `wait_ready` waits for containerd."""

    def __init__(self, socket_path: Path) -> None:
        self._connection = Connection(socket_path)

    async def __aenter__(self) -> Self:
        """Raises: InvalidArgument for a path that no socket can have."""
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    async def wait_ready(
        self, *, timeout_s: float | None = None, report: Callable[[Unavailable], None] | None = None
    ) -> ServerVersion:
        """Waits until containerd answers. `report` hears each new reason for waiting, once in a row.

        Raises: the last Unavailable after `timeout_s`; without one it waits for ever.
        """
        last: Unavailable | None = None
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        return await self.version()
                    except Unavailable as error:
                        if report is not None and str(error) != str(last):
                            report(error)
                        last = error
                    await asyncio.sleep(READY_POLL_S)
        except TimeoutError:
            if last is None:
                raise Unavailable(f"containerd at {self._connection.socket_path} does not answer") from None
            raise last from None

    async def version(self) -> ServerVersion:
        return await server_version(self._connection)

    async def content_root(self) -> Path:
        return await content_root(self._connection)

    async def namespaces(self) -> tuple[str, ...]:
        return await namespace_names(self._connection)

    def content(self, namespace: str) -> Content:
        return Content(self._connection, namespace)

    def images(self, namespace: str) -> Images:
        return Images(self._connection, namespace)

    def leases(self, namespace: str) -> Leases:
        return Leases(self._connection, namespace)

    @property
    def events(self) -> Events:
        return Events(self._connection)

    @property
    def cri(self) -> Cri:
        return Cri(self._connection)
