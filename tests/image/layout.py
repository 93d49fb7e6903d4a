"""An OCI image layout of layers, as a folder and as the tar of it that `ctr image import` takes.

One platform stands in index.json by itself; of several, index.json names one image index.
Source: OCI image-spec config.md, manifest.md, image-layout.md.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.image import recipe
from tests.image.tree import File, Layer, digest, tar_of

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
# containerd names an imported image by this.
NAME: Final = "io.containerd.image.name"
REF_NAME: Final = "org.opencontainers.image.ref.name"


@dataclass(frozen=True, slots=True)
class Source:
    """What was built: `created_s` since the epoch, `revision` empty where it is not known."""

    version: str
    revision: str
    created_s: int


@dataclass(frozen=True, slots=True)
class PlatformImage:
    architecture: str
    layers: tuple[Layer, ...]
    config: bytes
    manifest: bytes

    @property
    def compressed_bytes(self) -> int:
        return sum(len(one.blob) for one in self.layers) + len(self.config) + len(self.manifest)

    @property
    def unpacked_bytes(self) -> int:
        return sum(one.unpacked_bytes for one in self.layers)


def platform_image(architecture: str, layers: Sequence[Layer], source: Source) -> PlatformImage:
    created = datetime.fromtimestamp(source.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    labels = {
        "org.opencontainers.image.title": "peili",
        "org.opencontainers.image.description": "A decentralised mirror for container images",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": source.version,
        "org.opencontainers.image.created": created,
        **({"org.opencontainers.image.revision": source.revision} if source.revision else {}),
    }
    config = _json(
        {
            "created": created,
            **_platform(architecture),
            "config": {
                "User": recipe.USER,
                "Env": [f"{name}={value}" for name, value in recipe.ENVIRONMENT.items()],
                "Entrypoint": list(recipe.ENTRYPOINT),
                "Cmd": list(recipe.COMMAND_ARGUMENTS),
                "WorkingDir": recipe.WORKING_DIR,
                "ExposedPorts": {port: {} for port in recipe.EXPOSED_PORTS},
                "StopSignal": "SIGTERM",
                "Labels": labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
            "history": [{"created": created, "created_by": one.what} for one in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": _descriptor(CONFIG, config),
            "layers": [_descriptor(LAYER, one.blob) for one in layers],
            "annotations": labels,
        }
    )
    return PlatformImage(architecture, tuple(layers), config, manifest)


def write_layout(folder: Path, images: Sequence[PlatformImage], name: str) -> str:
    """Replaces the folder. name: as containerd shall call it. Returns the digest that a registry would show."""
    blobs: dict[str, bytes] = {}
    for image in images:
        for blob in (*(one.blob for one in image.layers), image.config, image.manifest):
            blobs[digest(blob)] = blob
    entries = [
        _descriptor(MANIFEST, one.manifest) | {"platform": _platform(one.architecture)} for one in images
    ]
    if len(images) == 1:
        top = entries[0]
    else:
        index = _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})
        blobs[digest(index)] = index
        top = _descriptor(INDEX, index)
    annotations = {NAME: name, REF_NAME: name.rpartition(":")[2]}
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": [top | {"annotations": annotations}]}
        ),
        **{f"blobs/sha256/{key.partition(':')[2]}": blob for key, blob in blobs.items()},
    }
    if folder.exists():
        shutil.rmtree(folder)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    tar = tar_of({path: File(content) for path, content in files.items()})
    folder.with_name(f"{folder.name}.tar").write_bytes(tar)
    return str(top["digest"])


def _platform(architecture: str) -> dict[str, str]:
    return {
        "os": "linux",
        "architecture": architecture,
        **({"variant": "v8"} if architecture == "arm64" else {}),
    }


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(blob), "size": len(blob)}


def _json(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
