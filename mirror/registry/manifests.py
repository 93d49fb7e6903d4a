"""The manifests that lately passed, verified and with their media type. In memory: containerd asks for each twice,
by HEAD and by GET, and the second must not go to a peer again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest, parse_manifest

# A few hundred ordinary manifests, or two of the largest size allowed.
CACHE_MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class HeldManifest:
    data: bytes
    manifest: Manifest


class ManifestCache:
    def __init__(self) -> None:
        self._held: OrderedDict[Digest, HeldManifest] = OrderedDict()
        self._size_bytes = 0

    def get(self, digest: Digest) -> HeldManifest | None:
        held = self._held.get(digest)
        if held is not None:
            self._held.move_to_end(digest)
        return held

    def put(self, digest: Digest, data: bytes) -> HeldManifest:
        """`data` was verified against the digest. Raises: ManifestInvalid."""
        held = HeldManifest(data, parse_manifest(data))
        self.drop(digest)
        self._held[digest] = held
        self._size_bytes += len(data)
        while self._size_bytes > CACHE_MAX_BYTES:
            _, oldest = self._held.popitem(last=False)
            self._size_bytes -= len(oldest.data)
        return held

    def drop(self, digest: Digest) -> None:
        held = self._held.pop(digest, None)
        if held is not None:
            self._size_bytes -= len(held.data)
