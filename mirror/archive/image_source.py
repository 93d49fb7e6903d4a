"""The port of an export: images of this host by name, and their bytes by digest."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from mirror.archive.documents import Reference
from mirror.oci.digest import Digest


class ImageSource(Protocol):
    async def find(self, text: str) -> tuple[str, Reference] | None:
        """By a name as the user writes it: the name that it has, and what it points to; None: there is none."""
        ...

    async def size_bytes(self, digest: Digest) -> int | None:
        """None: it is not here."""
        ...

    def chunks(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        """Of what is here. Raises: ImageAbsent where it goes meanwhile."""
        ...
