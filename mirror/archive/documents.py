"""The JSON documents of an OCI layout and of a docker-archive. Pure: bytes in, values out, nothing believed.

Beside what `mirror.oci.manifest` reads for serving, an archive's tools need platforms and annotations.
Source: OCI image-spec image-layout.md, image-index.md, descriptor.md; moby, image/spec v1.2 (manifest.json).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mirror.archive.errors import ArchiveInvalid
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.layout import LAYOUT_INDEX, LAYOUT_MARKER, LAYOUT_VERSION, NAME_ANNOTATION, REF_ANNOTATION
from mirror.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MANIFEST_MEDIA_TYPES,
    OCI_INDEX,
    OCI_MANIFEST,
)

Value = TypeVar("Value")

DOCKER_INDEX = "manifest.json"
# As `mirror.oci.manifest`; a layout's own index may name as much.
DOCUMENT_MAX_BYTES = 4 << 20
# Configs hold a line of history for each step of a build. containerd reads no more either.
CONFIG_MAX_BYTES = 8 << 20

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
# Layers that a registry may not give on, such as those of Windows: an archive need not have them.
_FOREIGN_PARTS = ("foreign", "nondistributable")


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True, slots=True)
class Reference:
    """A descriptor: of a document or of a leaf. `name`, `ref`: what its annotations say; empty: nothing."""

    media_type: str
    digest: Digest
    size_bytes: int
    platform: Platform | None = None
    name: str = ""
    ref: str = ""

    @property
    def is_foreign(self) -> bool:
        return any(part in self.media_type for part in _FOREIGN_PARTS)

    @property
    def is_document(self) -> bool:
        return self.media_type in MANIFEST_MEDIA_TYPES


@dataclass(frozen=True, slots=True)
class Document:
    """An index (`config` None) or a manifest. `children`: in document order, the config first."""

    media_type: str
    config: Reference | None
    children: tuple[Reference, ...]

    @property
    def is_index(self) -> bool:
        return self.config is None


@dataclass(frozen=True, slots=True)
class DockerImage:
    """One entry of manifest.json: names of files in the archive."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Config:
    platform: Platform
    diff_ids: tuple[Digest, ...]


class _Platform(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class _Descriptor(msgspec.Struct):
    digest: str
    size: int
    mediaType: str = ""
    platform: _Platform | None = None
    annotations: dict[str, str] | None = None


class _Document(msgspec.Struct):
    mediaType: str = ""
    manifests: list[_Descriptor] | None = None
    config: _Descriptor | None = None
    layers: list[_Descriptor] | None = None
    fsLayers: list[object] | None = None


class _Marker(msgspec.Struct):
    imageLayoutVersion: str


class _DockerImage(msgspec.Struct):
    Config: str
    Layers: list[str]
    RepoTags: list[str] | None = None


class _RootFs(msgspec.Struct):
    diff_ids: list[str] = []


class _Config(msgspec.Struct):
    os: str = ""
    architecture: str = ""
    variant: str = ""
    rootfs: _RootFs | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)
_MARKER = msgspec.json.Decoder(_Marker)
_DOCKER_IMAGES = msgspec.json.Decoder(list[_DockerImage])
_CONFIG = msgspec.json.Decoder(_Config)


def check_marker(data: bytes) -> None:
    """`data`: of the file `oci-layout`. Raises: ArchiveInvalid."""
    version = _decoded(_MARKER, data, LAYOUT_MARKER).imageLayoutVersion
    if version != LAYOUT_VERSION:
        raise ArchiveInvalid(
            f"{LAYOUT_MARKER} says version {version[:50]!r}, and this program understands {LAYOUT_VERSION!r}"
        )


def parse_layout_index(data: bytes) -> tuple[Reference, ...]:
    """What index.json names. Raises: ArchiveInvalid."""
    found = _decoded(_DOCUMENT, data, LAYOUT_INDEX)
    if found.manifests is None:
        raise ArchiveInvalid(f"{LAYOUT_INDEX} has no list of manifests")
    return tuple(_reference(one, LAYOUT_INDEX) for one in found.manifests)


def parse_document(data: bytes, media_type: str, title: str) -> Document:
    """`media_type`: what its descriptor says; the document's own word, where it has one, must agree, since a document
    must not be a manifest to one reader and an index to another. Raises: ArchiveInvalid."""
    found = _decoded(_DOCUMENT, data, title)
    if found.fsLayers is not None:
        raise ArchiveInvalid(f"{title} is a schema 1 manifest, which its digest does not prove")
    if found.mediaType and found.mediaType != media_type:
        raise ArchiveInvalid(
            f"{title} calls itself {found.mediaType[:100]!r}, and what refers to it says {media_type!r}"
        )
    if media_type in (OCI_INDEX, DOCKER_LIST):
        if found.manifests is None or found.layers is not None:
            raise ArchiveInvalid(f"{title} is no index: it must have manifests, and no layers")
        return Document(media_type, None, tuple(_reference(one, title) for one in found.manifests))
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
        raise ArchiveInvalid(f"{title} has the media type {media_type[:100]!r}, which is none of an image")
    if found.config is None or found.layers is None or found.manifests is not None:
        raise ArchiveInvalid(f"{title} is no manifest: it must have a config and layers, and no manifests")
    config = _reference(found.config, title)
    return Document(media_type, config, (config, *(_reference(one, title) for one in found.layers)))


def parse_docker_index(data: bytes) -> tuple[DockerImage, ...]:
    """Raises: ArchiveInvalid."""
    return tuple(
        DockerImage(one.Config, tuple(one.Layers), tuple(one.RepoTags or ()))
        for one in _decoded(_DOCKER_IMAGES, data, DOCKER_INDEX)
    )


def parse_config(data: bytes, title: str) -> Config:
    """Raises: ArchiveInvalid."""
    found = _decoded(_CONFIG, data, title)
    return Config(
        Platform(found.os, found.architecture, found.variant),
        tuple(_digest(text, title) for text in (found.rootfs.diff_ids if found.rootfs else ())),
    )


def _decoded(decoder: msgspec.json.Decoder[Value], data: bytes, title: str) -> Value:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise ArchiveInvalid(f"{title} cannot be read: {exc}") from exc
    except RecursionError as exc:
        raise ArchiveInvalid(f"{title} cannot be read: it is nested too deep") from exc


def _reference(raw: _Descriptor, title: str) -> Reference:
    digest = _digest(raw.digest, title)
    if not 0 <= raw.size < 2**63:
        raise ArchiveInvalid(f"{title} gives {digest} the size {raw.size}")
    notes = raw.annotations or {}
    platform = None
    if raw.platform is not None:
        platform = Platform(raw.platform.os, raw.platform.architecture, raw.platform.variant)
    return Reference(
        raw.mediaType,
        digest,
        raw.size,
        platform,
        notes.get(NAME_ANNOTATION, ""),
        notes.get(REF_ANNOTATION, ""),
    )


def _digest(text: str, title: str) -> Digest:
    try:
        return Digest.parse(text)
    except DigestInvalid as exc:
        raise ArchiveInvalid(f"{title}: {exc}") from exc
