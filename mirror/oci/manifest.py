"""What a document of the registry is: its media type and its children. Never asks where it came from.

Rules
1. `mediaType` in the JSON wins. Without one the shape tells: `manifests` is an OCI index, `config` and `layers` an
   OCI manifest (Docker's schema 2 always carries its mediaType).
2. Schema 1 (`fsLayers`) is refused: its digest is not the hash of its body, so nothing can be verified.

Source: OCI image-spec manifest.md and image-index.md. containerd refuses a HEAD without a manifest media type
("Target.MediaType must be set", measured on 1.6 to 2.1), so the type is always derived, never guessed from Accept.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mirror.errors import MirrorError
from mirror.oci.digest import Digest, DigestInvalid

# The distribution-spec asks registries to accept manifests up to 4 MiB; containerd reads no more either.
MANIFEST_MAX_BYTES = 4 * 1024 * 1024

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_MEDIA_TYPES = frozenset({OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST})


class ManifestInvalid(MirrorError):
    """The bytes are no manifest that this mirror may serve."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Source: OCI image-spec descriptor.md."""

    media_type: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest (children: config, then layers) or an index (children: manifests), in document order."""

    media_type: str
    children: tuple[Descriptor, ...]

    @property
    def is_index(self) -> bool:
        return self.media_type in (OCI_INDEX, DOCKER_LIST)

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The lowest first; none of an index."""
        return () if self.is_index else self.children[1:]


class _Descriptor(msgspec.Struct):
    digest: str
    size: int
    mediaType: str = ""


class _Document(msgspec.Struct):
    mediaType: str = ""
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    fsLayers: list[object] | None = None


_decoder = msgspec.json.Decoder(_Document)


def parse_manifest(data: bytes) -> Manifest:
    """Raises: ManifestInvalid."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestInvalid(f"a manifest of {len(data)} bytes is over the limit of {MANIFEST_MAX_BYTES}")
    try:
        document = _decoder.decode(data)
    except msgspec.MsgspecError as exc:
        raise ManifestInvalid(f"not a manifest: {exc}") from exc
    except RecursionError as exc:
        raise ManifestInvalid("not a manifest: nested too deep") from exc
    if document.fsLayers is not None:
        raise ManifestInvalid("a schema 1 manifest cannot be verified by its digest")
    if document.manifests is not None:
        children, shape = document.manifests, OCI_INDEX
    elif document.config is not None and document.layers is not None:
        children, shape = [document.config, *document.layers], OCI_MANIFEST
    else:
        raise ManifestInvalid("neither an index (manifests) nor a manifest (config and layers)")
    media_type = document.mediaType or shape
    if media_type not in MANIFEST_MEDIA_TYPES:
        raise ManifestInvalid(f"media type {media_type[:100]!r} is not that of a manifest or an index")
    return Manifest(media_type, tuple(_descriptor(child) for child in children))


def _descriptor(raw: _Descriptor) -> Descriptor:
    try:
        digest = Digest.parse(raw.digest)
    except DigestInvalid as exc:
        raise ManifestInvalid(str(exc)) from exc
    if raw.size < 0:
        raise ManifestInvalid(f"{digest} has a negative size")
    return Descriptor(raw.mediaType, digest, raw.size)
