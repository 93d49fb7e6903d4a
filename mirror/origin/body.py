"""A blob's bytes on their way from an origin: none that arrived is lost when they end early."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp

from mirror.oci.byterange import ByteSpan
from mirror.origin.connections import reason
from mirror.origin.errors import OriginBroke, OriginError, OriginStalled


class HttpBody:
    """Implements OriginBody; its headers were checked."""

    def __init__(
        self,
        where: str,
        span: ByteSpan,
        size_bytes: int,
        response: aiohttp.ClientResponse,
        between_bytes_s: float,
    ) -> None:
        self._where = where
        self._span = span
        self._size_bytes = size_bytes
        self._response = response
        self._between_bytes_s = between_bytes_s

    @property
    def span(self) -> ByteSpan:
        return self._span

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """A reader that pauses is no stall."""
        content = self._response.content
        try:
            async for chunk in content.iter_any():
                yield chunk
            return
        except aiohttp.SocketTimeoutError as exc:
            error: OriginError = OriginStalled(self._where, f"sent no byte for {self._between_bytes_s:g} s")
            error.__cause__ = exc
        except (aiohttp.ClientError, OSError) as exc:
            error = OriginBroke(self._where, f"ended the body early: {reason(exc)}")
            error.__cause__ = exc
        # aiohttp raises before it gives what had arrived by then; without this it would be fetched twice.
        arrived = content._read_nowait(-1)
        if arrived:
            yield arrived
        raise error
