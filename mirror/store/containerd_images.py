"""The images of this host's containerd by name, when somebody asks. Keeps nothing: it is asked by people, and a list
that is kept true all the time would cost every daemon memory and events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from containerd.client import Client
from containerd.errors import ContainerdError
from mirror.errors import StoreUnavailable
from mirror.oci.digest import Digest, DigestInvalid


@dataclass(frozen=True, slots=True)
class NamedImage:
    """`digest` is that of an index or a manifest."""

    name: str
    namespace: str
    digest: Digest


class ContainerdImages:
    """With a connection of its own for each question."""

    def __init__(self, socket_path: Path, *, namespaces: Sequence[str]) -> None:
        self._socket_path = socket_path
        self._namespaces = tuple(namespaces)

    async def named(self) -> list[NamedImage]:
        """All of the watched namespaces. Raises: StoreUnavailable."""
        found: list[NamedImage] = []
        try:
            async with Client(self._socket_path) as client:
                for namespace in self._namespaces:
                    for image in await client.images(namespace).list():
                        try:
                            digest = Digest.parse(image.target.digest)
                        except DigestInvalid:
                            continue  # sha384, which the store leaves out, too
                        found.append(NamedImage(image.name, namespace, digest))
        except ContainerdError as exc:
            raise StoreUnavailable(f"containerd does not say which images it has: {exc}") from exc
        return found
