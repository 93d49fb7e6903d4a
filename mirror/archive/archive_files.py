"""The files of an archive that are no blobs, and the order of all of them. Pure: the same images give the same bytes.

Rules
1. Each image has its whole name, as containerd and Docker read it, and OCI's reference name: its tag, where no other
   image of the archive has the same one, else the whole name, so that skopeo can tell them apart.
2. manifest.json is for Docker before 25, which reads nothing else. It has one platform of an image: linux/amd64 where
   that is there, else the first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from mirror.archive.documents import DOCKER_INDEX
from mirror.archive.names import tag_of
from mirror.archive.selection import ImageToExport, ManifestToExport
from mirror.oci.digest import Digest
from mirror.oci.layout import (
    LAYOUT_INDEX,
    LAYOUT_MARKER,
    LAYOUT_VERSION,
    NAME_ANNOTATION,
    REF_ANNOTATION,
    blob_entry,
)
from mirror.oci.manifest import OCI_INDEX


@dataclass(frozen=True, slots=True)
class FileToWrite:
    """`digest` None: `data` is all of it."""

    name: str
    size_bytes: int
    digest: Digest | None
    data: bytes = b""


def files_of(images: Sequence[ImageToExport]) -> list[FileToWrite]:
    """Sorted by name."""
    blobs = {digest: size for image in images for digest, size in image.blobs.items()}
    small = {
        LAYOUT_MARKER: _json({"imageLayoutVersion": LAYOUT_VERSION}),
        LAYOUT_INDEX: _index(images),
        DOCKER_INDEX: _docker_index(images),
    }
    files = [FileToWrite(blob_entry(digest), size, digest) for digest, size in blobs.items()]
    files += [FileToWrite(name, len(data), None, data) for name, data in small.items() if data]
    return sorted(files, key=lambda file: file.name)


def _index(images: Sequence[ImageToExport]) -> bytes:
    tags = Counter(tag_of(image.name) for image in images)
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {
                    "mediaType": image.target.media_type,
                    "digest": str(image.target.digest),
                    "size": image.target.size_bytes,
                    "annotations": _annotations(image.name, tags),
                }
                for image in images
            ],
        }
    )


def _annotations(name: str, tags: Mapping[str, int]) -> dict[str, str]:
    tag = tag_of(name)
    if not tag:
        return {NAME_ANNOTATION: name}
    return {NAME_ANNOTATION: name, REF_ANNOTATION: tag if tags[tag] == 1 else name}


def _docker_index(images: Sequence[ImageToExport]) -> bytes:
    entries: dict[Digest, dict[str, object]] = {}
    tags: dict[Digest, list[str]] = {}
    for image in images:
        manifest = _for_docker(image)
        if manifest is None:
            continue
        # One entry of a config, with all its tags.
        tags.setdefault(manifest.config.digest, []).extend([image.name] if tag_of(image.name) else [])
        entries[manifest.config.digest] = {
            "Config": blob_entry(manifest.config.digest),
            "RepoTags": tags[manifest.config.digest],
            "Layers": [blob_entry(layer.digest) for layer in manifest.layers],
        }
    return _json(list(entries.values())) if entries else b""


def _for_docker(image: ImageToExport) -> ManifestToExport | None:
    # What Docker cannot load without a registry is left out: layers that are not in the archive.
    usable = [
        one
        for one in image.manifests
        if one.is_runnable and all(layer.digest in image.blobs for layer in one.layers)
    ]
    preferred = [one for one in usable if (one.platform.os, one.platform.architecture) == ("linux", "amd64")]
    return next(iter(preferred or usable), None)


def _json(document: object) -> bytes:
    return msgspec.json.encode(document)
