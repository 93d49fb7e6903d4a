"""Images of containerd, for an export. Implements `ImageSource`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from containerd.client import Client
from containerd.errors import InvalidArgument, NotFound
from mirror.archive.documents import Reference
from mirror.archive.errors import ImageAbsent, ImageNameInvalid
from mirror.archive.names import normalised
from mirror.oci.digest import Digest


class ContainerdSource:
    """A name of an earlier namespace wins. `client` must be open."""

    def __init__(self, client: Client, namespaces: Sequence[str]) -> None:
        self._client = client
        self._namespaces = tuple(namespaces)

    async def find(self, text: str) -> tuple[str, Reference] | None:
        # As it is, first: containerd takes any name.
        names = [text]
        with suppress(ImageNameInvalid):
            names.append(normalised(text))
        for namespace in self._namespaces:
            for name in dict.fromkeys(names):
                try:
                    target = (await self._client.images(namespace).get(name)).target
                except (NotFound, InvalidArgument):
                    continue
                return name, Reference(target.media_type, Digest.parse(target.digest), target.size_bytes)
        return None

    async def size_bytes(self, digest: Digest) -> int | None:
        found = await self._namespace_of(digest)
        return None if found is None else found[1]

    async def chunks(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        found = await self._namespace_of(digest)
        if found is None:
            raise ImageAbsent(f"{digest} was in containerd and is gone")
        async for chunk in self._client.content(found[0]).read(str(digest)):
            yield chunk

    async def _namespace_of(self, digest: Digest) -> tuple[str, int] | None:
        for namespace in self._namespaces:
            try:
                return namespace, (await self._client.content(namespace).info(str(digest))).size_bytes
            except NotFound:
                continue
        return None
