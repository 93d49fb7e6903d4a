"""The demo's image is one that a runtime would take, and the same each time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib

import pytest

from mirror.demo.image import LAYER_SHARES_PERCENT, DemoImage, build_image
from mirror.demo.plan import IMAGE_MIN_BYTES
from mirror.oci.manifest import OCI_MANIFEST, parse_manifest


@pytest.fixture(scope="module")
def image() -> DemoImage:
    return build_image(IMAGE_MIN_BYTES)


def test_the_manifest_names_the_config_and_then_every_layer(image: DemoImage) -> None:
    manifest = parse_manifest(image.manifest.content)
    assert manifest.media_type == OCI_MANIFEST
    parts = [image.config, *image.layers]
    assert [(child.media_type, child.digest, child.size_bytes) for child in manifest.children] == [
        (part.media_type, part.digest, len(part.content)) for part in parts
    ]


def test_every_digest_is_that_of_its_bytes(image: DemoImage) -> None:
    assert len({blob.digest for blob in image}) == 2 + len(LAYER_SHARES_PERCENT)
    for blob in image:
        assert blob.digest.matches(blob.content)


def test_layers_are_tars_whose_digests_the_config_has(image: DemoImage) -> None:
    diff_ids = json.loads(image.config.content)["rootfs"]["diff_ids"]
    for layer, diff_id in zip(image.layers, diff_ids, strict=True):
        tar = gzip.decompress(layer.content)
        assert diff_id == f"sha256:{hashlib.sha256(tar).hexdigest()}"
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            (entry,) = opened.getmembers()
            assert entry.isfile()


def test_layers_do_not_compress_and_are_of_unlike_size(image: DemoImage) -> None:
    sizes_bytes = [len(layer.content) for layer in image.layers]
    assert len(set(sizes_bytes)) == len(sizes_bytes)
    for layer in image.layers:
        # Headers and padding of the smallest layer's tar are a seventh of it.
        assert len(zlib.compress(layer.content)) > 0.75 * len(layer.content)


def test_the_size_is_what_was_asked_for() -> None:
    assert sum(LAYER_SHARES_PERCENT) == 100
    size_bytes = 3 * 2**20 + 12345
    assert size_bytes < build_image(size_bytes).size_bytes < size_bytes + 100_000


def test_the_same_size_gives_the_same_image(image: DemoImage) -> None:
    assert build_image(IMAGE_MIN_BYTES).manifest.digest == image.manifest.digest
    assert build_image(IMAGE_MIN_BYTES + 100).manifest.digest != image.manifest.digest
