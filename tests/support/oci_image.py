"""Container images made of thin air: the same seed gives the same bytes, layers do not compress.

Every layer is a valid gzip'd tar with one real file, so that a containerd unpacks it. No registry here; see
`oci_image_push`.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from mirror.demo.image import gzip_stored

Flavour = Literal["oci", "docker"]
# Drawn in steps, since one draw of a large layer would make an integer of that size.
_DRAW_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class MediaTypes:
    index: str
    manifest: str
    config: str
    layer: str


MEDIA_TYPES: Final[Mapping[Flavour, MediaTypes]] = {
    "oci": MediaTypes(
        index="application/vnd.oci.image.index.v1+json",
        manifest="application/vnd.oci.image.manifest.v1+json",
        config="application/vnd.oci.image.config.v1+json",
        layer="application/vnd.oci.image.layer.v1.tar+gzip",
    ),
    "docker": MediaTypes(
        index="application/vnd.docker.distribution.manifest.list.v2+json",
        manifest="application/vnd.docker.distribution.manifest.v2+json",
        config="application/vnd.docker.container.image.v1+json",
        layer="application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
}


@dataclass(frozen=True, slots=True)
class Blob:
    media_type: str
    content: bytes
    digest: str

    @classmethod
    def of(cls, media_type: str, content: bytes) -> Blob:
        return cls(media_type, content, digest_of(content))

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class Platform:
    os: str = "linux"
    architecture: str = "amd64"


@dataclass(frozen=True, slots=True)
class Image:
    """One platform's image; layers bottom first."""

    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]

    def __iter__(self) -> Iterator[Blob]:
        """Everything it needs, in an order in which it may be pushed."""
        yield from self.layers
        yield self.config
        yield self.manifest

    @property
    def size_bytes(self) -> int:
        return sum(len(blob.content) for blob in self)


@dataclass(frozen=True, slots=True)
class Index:
    """An image for several platforms."""

    manifest: Blob
    images: tuple[Image, ...]

    def __iter__(self) -> Iterator[Blob]:
        for image in self.images:
            yield from image
        yield self.manifest


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def build_image(
    seed: int,
    layer_sizes_bytes: Sequence[int],
    *,
    flavour: Flavour = "oci",
    platform: Platform | None = None,
) -> Image:
    """Each layer holds one file of the given size; the blob is some KiB larger.

    Layer n depends on (seed, n, size) only: both flavours have the same layer bytes, and two images with
    different tails share their first layers.
    """
    platform = platform or Platform()
    types = MEDIA_TYPES[flavour]
    tars = [_layer_tar(seed, number, size) for number, size in enumerate(layer_sizes_bytes)]
    layers = tuple(Blob.of(types.layer, gzip_stored(tar)) for tar in tars)
    config = {
        "architecture": platform.architecture,
        "config": {"Cmd": ["/0"], "Env": ["PATH=/"]},
        "os": platform.os,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
        # Two images without layers must still differ.
        "history": [{"created_by": f"seed {seed}", "empty_layer": True}],
    }
    config_blob = Blob.of(types.config, _json(config))
    manifest = {
        "schemaVersion": 2,
        "mediaType": types.manifest,
        "config": config_blob.descriptor,
        "layers": [layer.descriptor for layer in layers],
    }
    return Image(Blob.of(types.manifest, _json(manifest)), config_blob, layers)


def build_index(
    seed: int,
    layer_sizes_bytes: Sequence[int],
    *,
    flavour: Flavour = "oci",
    platforms: Sequence[Platform] = (Platform(), Platform(architecture="arm64")),
) -> Index:
    """Each platform has layers of its own, seeded seed, seed + 1, ..."""
    types = MEDIA_TYPES[flavour]
    images = tuple(
        build_image(seed + number, layer_sizes_bytes, flavour=flavour, platform=platform)
        for number, platform in enumerate(platforms)
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": types.index,
        "manifests": [
            image.manifest.descriptor
            | {"platform": {"os": platform.os, "architecture": platform.architecture}}
            for image, platform in zip(images, platforms, strict=True)
        ],
    }
    return Index(Blob.of(types.index, _json(manifest)), images)


def _layer_tar(seed: int, number: int, size_bytes: int) -> bytes:
    draw = random.Random(f"{seed}/{number}")
    steps = [min(_DRAW_BYTES, size_bytes - done) for done in range(0, size_bytes, _DRAW_BYTES)]
    content = b"".join(draw.randbytes(step) for step in steps)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(f"{number}")
        entry.size = size_bytes
        entry.mode = 0o755
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
