"""What an archive looks like from inside: files by name, whatever they stand in. Refuses to know what they mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

# What is read of a blob at a time; what containerd takes in one message.
CHUNK_BYTES = 1 << 20


class Container(Protocol):
    """All calls block. Names are relative, with slashes; a name that is not there is None or KeyError, never a look
    outside."""

    @property
    def title(self) -> str:
        """What the user calls it."""
        ...

    def size_bytes(self, name: str) -> int | None:
        """None: there is no such file. Raises: ArchiveInvalid for what is there and is no plain file."""
        ...

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """The whole of a small file; None where there is none. Raises: ArchiveInvalid for a larger one."""
        ...

    def chunks(self, name: str) -> Iterator[bytes]:
        """Raises: ArchiveInvalid where the archive ends before the file does."""
        ...

    def in_order(self, names: Iterable[str]) -> list[str]:
        """As they are read with the least seeking."""
        ...
