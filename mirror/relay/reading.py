"""Bytes of a blob on their way from the relay to one client. Holds them, decides nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

from mirror.oci.byterange import ByteSpan


class Reading:
    """The first chunk is already in hand when it is made."""

    def __init__(self, span: ByteSpan, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        self.span = span
        self.size_bytes = size_bytes
        self.chunks = chunks
