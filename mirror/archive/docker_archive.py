"""From what `docker save` wrote before it wrote OCI layouts, and still writes beside them, to images. Blocking.

Rules
1. The manifest is Docker's schema 2, made here of what the archive has, byte for byte as containerd's importer makes
   it: the same archive gives the same digests, here and by `ctr images import`.
2. Layers stay as they are, compressed or not. What proves them is the config: its `diff_ids` are the digests of the
   plain tars. The config is proved by its own name, where that is a digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from posixpath import basename, normpath

from mirror.archive.container import CHUNK_BYTES, Container
from mirror.archive.documents import (
    CONFIG_MAX_BYTES,
    DOCKER_CONFIG,
    DockerImage,
    Document,
    Reference,
    parse_config,
    parse_document,
)
from mirror.archive.errors import ArchiveInvalid
from mirror.archive.gc_labels import gc_labels
from mirror.archive.import_plan import BlobToWrite, ImageToImport, ImportPlan, check_held
from mirror.archive.names import normalised
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_MANIFEST

LAYER = "application/vnd.docker.image.rootfs.diff.tar"
LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
# Docker stacks 127 layers at most; what is beyond this is no image.
LAYERS_MAX_COUNT = 1000

# zlib's code for "a gzip header, the largest window".
_GZIP_WINDOW = 31
_GZIP_SIGN = b"\x1f\x8b"
_OTHER_SIGNS = {b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_DIGEST_NAME = re.compile(r"([0-9a-f]{64})(?:\.json)?")


@dataclass(frozen=True, slots=True)
class _Layer:
    reference: Reference
    entry: str


def plan_docker_archive(container: Container, images: tuple[DockerImage, ...]) -> ImportPlan:
    """Raises: ArchiveInvalid, ImageNameInvalid."""
    blobs: dict[Digest, BlobToWrite] = {}
    found = []
    # Images share layers: each file is hashed once.
    layers: dict[str, _Layer] = {}
    for image in images:
        one, its_blobs = _image(container, image, layers)
        found.append(one)
        blobs |= its_blobs
        check_held(blobs)
    return ImportPlan(tuple(found), blobs)


def _image(
    container: Container, image: DockerImage, known: dict[str, _Layer]
) -> tuple[ImageToImport, dict[Digest, BlobToWrite]]:
    data = container.read(_entry(image.config), CONFIG_MAX_BYTES)
    if data is None:
        raise ArchiveInvalid(f"{image.config[:200]!r}, the config of an image, is not in it")
    config = Reference(DOCKER_CONFIG, Digest.of(data), len(data))
    claimed = _DIGEST_NAME.fullmatch(basename(image.config))
    if claimed is not None and claimed[1] != config.digest.encoded:
        raise ArchiveInvalid(f"{image.config} has other bytes than its name says: the archive is damaged")
    diff_ids = parse_config(data, image.config[:200]).diff_ids
    if len(diff_ids) != len(image.layers) or len(diff_ids) > LAYERS_MAX_COUNT:
        raise ArchiveInvalid(
            f"{image.config[:200]} has {len(diff_ids)} layers, and manifest.json gives it {len(image.layers)} "
            f"(at most {LAYERS_MAX_COUNT})"
        )
    layers = []
    for name, diff_id in zip(image.layers, diff_ids, strict=True):
        entry = _entry(name)
        key = f"{entry}\0{diff_id}"
        if key not in known:
            known[key] = _layer(container, entry, diff_id)
        layers.append(known[key])
    manifest = _manifest(config, [layer.reference for layer in layers])
    target = Reference(DOCKER_MANIFEST, Digest.of(manifest), len(manifest))
    document: Document = parse_document(manifest, DOCKER_MANIFEST, str(target.digest))
    blobs = {
        layer.reference.digest: BlobToWrite(
            layer.reference.digest, layer.reference.size_bytes, container, entry=layer.entry
        )
        for layer in layers
    }
    blobs[config.digest] = BlobToWrite(config.digest, config.size_bytes, container, data=data)
    blobs[target.digest] = BlobToWrite(
        target.digest, target.size_bytes, container, data=manifest, labels=gc_labels(document)
    )
    names = tuple(dict.fromkeys(normalised(tag, target.digest) for tag in image.tags))
    return ImageToImport(target, tuple(blobs), names, ()), blobs


def _layer(container: Container, entry: str, diff_id: Digest) -> _Layer:
    """A plain layer is its own proof, when it is written; of a gzipped one all is read here."""
    size_bytes = container.size_bytes(entry)
    if size_bytes is None:
        raise ArchiveInvalid(f"{entry}, a layer, is not in it")
    first = next(container.chunks(entry), b"")
    for sign, kind in _OTHER_SIGNS.items():
        if first.startswith(sign):
            raise ArchiveInvalid(f"{entry} is a layer compressed with {kind}, which no docker-archive has")
    if not first.startswith(_GZIP_SIGN):
        return _Layer(Reference(LAYER, diff_id, size_bytes), entry)
    hasher, plain = hashlib.sha256(), diff_id.hasher()
    for chunk in _inflated(container, entry, hasher.update):
        plain.update(chunk)
    if plain.hexdigest() != diff_id.encoded:
        raise ArchiveInvalid(
            f"{entry} is not the layer {diff_id} that its config names: the archive is damaged"
        )
    return _Layer(Reference(LAYER_GZIP, Digest("sha256", hasher.hexdigest()), size_bytes), entry)


def _inflated(container: Container, entry: str, seen: Callable[[bytes], object]) -> Iterator[bytes]:
    """The plain bytes, in portions; `seen` hears the compressed ones."""
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        for chunk in container.chunks(entry):
            seen(chunk)
            rest = chunk
            while rest:
                if inflater.eof:
                    # Another member, or zeros that fill a block.
                    rest = rest.lstrip(b"\0")
                    if not rest:
                        break
                    inflater = zlib.decompressobj(_GZIP_WINDOW)
                yield inflater.decompress(rest, CHUNK_BYTES)
                rest = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        yield inflater.flush()
    except zlib.error as exc:
        raise ArchiveInvalid(f"{entry} is damaged: {exc}") from exc
    if not inflater.eof:
        raise ArchiveInvalid(f"{entry} is cut off")


def _manifest(config: Reference, layers: list[Reference]) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in layers],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(one: Reference) -> dict[str, object]:
    return {"mediaType": one.media_type, "digest": str(one.digest), "size": one.size_bytes}


def _entry(name: str) -> str:
    """Raises: ArchiveInvalid."""
    cleaned = normpath(name)
    if not name or name.startswith("/") or cleaned == ".." or cleaned.startswith("../") or "\0" in name:
        raise ArchiveInvalid(f"manifest.json names a file that leads outside: {name[:200]!r}")
    return cleaned
