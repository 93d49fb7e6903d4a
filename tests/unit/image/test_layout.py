"""The layout says what the OCI image specification asks for, and names an image as containerd reads it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.image.layout import PlatformImage, Source, platform_image, write_layout
from tests.image.tree import File, layer

OCI = "application/vnd.oci.image."
PLATFORMS = {
    "amd64": {"os": "linux", "architecture": "amd64"},
    "arm64": {"os": "linux", "architecture": "arm64", "variant": "v8"},
}
SOURCE = Source("1.2.3", "abc", 1_700_000_000)


def image(architecture: str, content: bytes) -> PlatformImage:
    layers = (layer("base", {"a": File(b"base")}), layer("ours", {"b": File(content)}))
    return platform_image(architecture, layers, SOURCE)


def blob(layout: Path, descriptor: dict[str, Any]) -> bytes:
    data: bytes = (layout / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()
    assert len(data) == descriptor["size"]
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]
    return data


@pytest.mark.parametrize("architectures", [["amd64"], ["amd64", "arm64"]])
def test_everything_is_reached_from_the_index(tmp_path: Path, architectures: list[str]) -> None:
    layout = tmp_path / "image"
    images = [image(one, one.encode()) for one in architectures]
    top_digest = write_layout(layout, images, "localhost/peili:1.2.3")
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (top,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert top["digest"] == top_digest
    assert top["annotations"]["io.containerd.image.name"] == "localhost/peili:1.2.3"
    assert top["annotations"]["org.opencontainers.image.ref.name"] == "1.2.3"
    assert top["mediaType"] == (
        OCI + "manifest.v1+json" if len(architectures) == 1 else OCI + "index.v1+json"
    )
    manifests = [top] if len(architectures) == 1 else json.loads(blob(layout, top))["manifests"]
    assert [one["platform"] for one in manifests] == [PLATFORMS[one] for one in architectures]
    reached = {top["digest"]}
    for descriptor, made in zip(manifests, images, strict=True):
        manifest = json.loads(blob(layout, descriptor))
        config = json.loads(blob(layout, manifest["config"]))
        assert config["rootfs"]["diff_ids"] == [one.diff_id for one in made.layers]
        assert {key: config[key] for key in descriptor["platform"]} == descriptor["platform"]
        assert descriptor["mediaType"] == manifest["mediaType"] == OCI + "manifest.v1+json"
        assert manifest["config"]["mediaType"] == OCI + "config.v1+json"
        assert {one["mediaType"] for one in manifest["layers"]} == {OCI + "layer.v1.tar+gzip"}
        assert config["created"] == "2023-11-14T22:13:20Z"
        assert config["config"]["Labels"]["org.opencontainers.image.revision"] == "abc"
        for one in manifest["layers"]:
            blob(layout, one)
        reached |= {one["digest"] for one in (descriptor, manifest["config"], *manifest["layers"])}
    there = {f"sha256:{path.name}" for path in (layout / "blobs/sha256").iterdir()}
    assert there == reached


def test_the_same_image_is_the_same_file_and_replaces_what_was_there(tmp_path: Path) -> None:
    write_layout(tmp_path / "1.0", [image("amd64", b"1")], "localhost/peili:1")
    write_layout(tmp_path / "1.1", [image("amd64", b"other")], "localhost/peili:1")
    write_layout(tmp_path / "1.1", [image("amd64", b"1")], "localhost/peili:1")
    assert (tmp_path / "1.0.tar").read_bytes() == (tmp_path / "1.1.tar").read_bytes()
    with tarfile.open(tmp_path / "1.1.tar") as tar:
        files = {entry.name for entry in tar if entry.isfile()}
    assert files == {
        str(it.relative_to(tmp_path / "1.1")) for it in (tmp_path / "1.1").rglob("*") if it.is_file()
    }
