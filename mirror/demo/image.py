"""The image that the demo pulls: the same bytes for the same size, layers of unlike size that do not compress.

Every layer is a gzip'd tar with one file, as the OCI image-spec wants it; nothing here is ever unpacked.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_MANIFEST

CONFIG_MEDIA_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_MEDIA_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
# Parts of the image in hundredths: one layer is large, several are small, as in most images.
LAYER_SHARES_PERCENT = (36, 24, 18, 12, 6, 4)

_SEED = 1
# One draw of a large layer would make an integer of that size.
_DRAW_BYTES = 2**20
_STORED_BLOCK_BYTES = 0xFFFF


@dataclass(frozen=True, slots=True)
class DemoBlob:
    media_type: str
    digest: Digest
    content: bytes

    @staticmethod
    def of(media_type: str, content: bytes) -> DemoBlob:
        return DemoBlob(media_type, Digest.of(content), content)

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": str(self.digest), "size": len(self.content)}


@dataclass(frozen=True, slots=True)
class DemoImage:
    """Layers bottom first."""

    manifest: DemoBlob
    config: DemoBlob
    layers: tuple[DemoBlob, ...]

    def __iter__(self) -> Iterator[DemoBlob]:
        yield self.manifest
        yield self.config
        yield from self.layers

    @property
    def size_bytes(self) -> int:
        return sum(len(blob.content) for blob in self)


def build_image(size_bytes: int) -> DemoImage:
    """The files in the layers have `size_bytes` in all; the image is some KiB larger."""
    layers = []
    diff_ids = []
    for number, share_percent in enumerate(LAYER_SHARES_PERCENT):
        tar = _tar(number, size_bytes * share_percent // 100)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        layers.append(DemoBlob.of(LAYER_MEDIA_TYPE, gzip_stored(tar)))
    config = DemoBlob.of(
        CONFIG_MEDIA_TYPE,
        _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }
        ),
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in layers],
    }
    return DemoImage(DemoBlob.of(OCI_MANIFEST, _json(manifest)), config, tuple(layers))


def _tar(number: int, size_bytes: int) -> bytes:
    draw = random.Random(f"{_SEED}/{number}")
    content = b"".join(
        draw.randbytes(min(_DRAW_BYTES, size_bytes - done)) for done in range(0, size_bytes, _DRAW_BYTES)
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(f"layer-{number}")
        entry.size = size_bytes
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def gzip_stored(content: bytes) -> bytes:
    """Stored, not deflated: random bytes do not shrink, and the digest depends on no version of zlib."""
    out = [b"\x1f\x8b\x08\0\0\0\0\0\0\xff"]
    for start in range(0, len(content), _STORED_BLOCK_BYTES):
        block = content[start : start + _STORED_BLOCK_BYTES]
        is_final = start + len(block) == len(content)
        out += [struct.pack("<BHH", is_final, len(block), len(block) ^ 0xFFFF), block]
    out.append(struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFF_FFFF))
    return b"".join(out)


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
