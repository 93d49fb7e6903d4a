"""The image builder: what real containerd pulls in the integration tests must not change under them."""

import gzip
import io
import json
import tarfile

from tests.support.oci_image import MEDIA_TYPES, build_image, build_index, digest_of


def test_the_same_seed_gives_the_same_bytes() -> None:
    image = build_image(1, [3000, 70_000])
    assert image == build_image(1, [3000, 70_000])
    assert image.manifest.digest != build_image(2, [3000, 70_000]).manifest.digest
    assert build_image(1, [3000]).layers[0] == image.layers[0]


def test_the_bytes_do_not_depend_on_the_python_or_zlib_version() -> None:
    assert build_image(1, [70_000]).manifest.digest == (
        "sha256:6b5e9bea60c123affb44dec0ffd80c4fbdf587590fea9cdb26f1e322d4306cc2"
    )


def test_a_layer_is_a_tar_with_its_file_and_does_not_compress() -> None:
    (layer,) = build_image(7, [(1 << 20) + 5]).layers
    tar = gzip.decompress(layer.content)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        (entry,) = archive.getmembers()
        file = archive.extractfile(entry)
        assert file is not None
        content = file.read()
    assert len(content) == (1 << 20) + 5
    assert len(gzip.compress(content)) > len(content)
    assert len(layer.content) - len(content) < 16_384


def test_the_config_names_the_unpacked_layers() -> None:
    image = build_image(7, [10, 20], flavour="docker")
    config = json.loads(image.config.content)
    assert config["rootfs"]["diff_ids"] == [
        digest_of(gzip.decompress(layer.content)) for layer in image.layers
    ]
    manifest = json.loads(image.manifest.content)
    assert manifest["mediaType"] == MEDIA_TYPES["docker"].manifest == image.manifest.media_type
    assert manifest["layers"] == [layer.descriptor for layer in image.layers]


def test_an_index_has_a_different_image_for_each_platform() -> None:
    index = build_index(3, [100])
    entries = json.loads(index.manifest.content)["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "arm64"]
    assert [entry["digest"] for entry in entries] == [image.manifest.digest for image in index.images]
    assert len({blob.digest for blob in index}) == len(list(index)) == 7
