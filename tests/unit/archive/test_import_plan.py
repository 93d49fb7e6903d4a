"""What of an archive would be imported, and which archives are refused before a byte is written."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.archive import image_tree, import_plan, reading
from mirror.archive.errors import ArchiveInvalid, ImageNameInvalid
from mirror.archive.import_plan import ImportPlan, named
from mirror.archive.layout_folder import LayoutFolder
from mirror.archive.opening import opened
from mirror.archive.reading import plan_import
from mirror.archive.tar_file import open_tar
from tests.support.image_archives import Files, docker_files, layout_files, path_of, tar_of, write_files
from tests.support.oci_image import Blob, Image, Index, build_image, build_index

NAME = "registry.example/team/app:v1"
INDEX = build_index(21, [3_000, 100])
IMAGE = build_image(31, [3_000, 100])
HERE, OTHER = INDEX.images


def planned(files: Files) -> ImportPlan:
    return plan_import(open_tar("a.tar", io.BytesIO(tar_of(files))))


def digests(plan: ImportPlan) -> set[str]:
    return {str(digest) for digest in plan.blobs}


def without(files: Files, *blobs: Blob) -> Files:
    gone = {path_of(blob) for blob in blobs}
    return {name: content for name, content in files.items() if name not in gone}


@pytest.mark.parametrize("image", [INDEX, IMAGE], ids=["index", "manifest"])
def test_all_of_a_layout_is_taken_in_a_folder_a_tar_and_gzipped(image: Image | Index, tmp_path: Path) -> None:
    files = layout_files((image, NAME, "v1"))
    tar = tar_of(files)
    plans = [
        plan_import(container)
        for container in (
            LayoutFolder("folder", write_files(files, tmp_path)),
            open_tar("tar", io.BytesIO(tar)),
            open_tar("gz", io.BytesIO(gzip.compress(tar))),
        )
    ]
    for plan in plans:
        assert digests(plan) == {blob.digest for blob in image}
        (one,) = plan.images
        assert (str(one.target.digest), one.names, one.absent) == (image.manifest.digest, (NAME,), ())
        for blob in plan.in_order():
            assert b"".join(blob.chunks()) in {it.content for it in image}
    # Documents come last, from memory.
    assert [blob.data is None for blob in plans[1].in_order()] == sorted(
        [blob.data is None for blob in plans[1].in_order()], reverse=True
    )


def test_platforms_that_are_absent_are_told() -> None:
    files = layout_files((INDEX, NAME, ""))
    for lacking in ((OTHER.manifest,), (OTHER.layers[0],), tuple(OTHER)):
        (one,) = planned(without(files, *lacking)).images
        assert one.absent == ("linux/arm64",)
        assert {blob.digest for blob in HERE} < {str(digest) for digest in one.blobs}


def test_a_layer_that_may_not_be_given_on_need_not_be_there() -> None:
    manifest = json.loads(IMAGE.manifest.content)
    manifest["layers"][0]["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    changed = Image(
        Blob.of(IMAGE.manifest.media_type, json.dumps(manifest).encode()), IMAGE.config, IMAGE.layers
    )
    (one,) = planned(without(layout_files((changed, NAME, "")), IMAGE.layers[0])).images
    assert len(one.blobs) == 3


def test_a_docker_archive_gives_the_same_manifest_each_time() -> None:
    files = docker_files((IMAGE, ["app:v1", "app:v2"]))
    plan, again = planned(files), planned(dict(reversed(files.items())))
    (one,) = plan.images
    assert one == again.images[0] and one.names == ("docker.io/library/app:v1", "docker.io/library/app:v2")
    layers = [gzip.decompress(layer.content) for layer in IMAGE.layers]
    assert {b"".join(blob.chunks()) for blob in plan.in_order()} >= {IMAGE.config.content, *layers}
    assert len(plan.blobs) == 4


def test_gzipped_layers_of_a_docker_archive_are_proved_by_the_config() -> None:
    files = docker_files((IMAGE, ["app"]))
    names = [name for name in files if name.endswith("layer.tar")]
    squeezed = {name: gzip.compress(files[name]) for name in names}
    plan = planned(files | squeezed)
    written = {b"".join(blob.chunks()) for blob in plan.in_order()}
    assert set(squeezed.values()) < written
    # Members that follow each other, and zeros that fill a block.
    half = len(files[names[0]]) // 2
    members = gzip.compress(files[names[0]][:half]) + gzip.compress(files[names[0]][half:]) + bytes(100)
    planned(files | squeezed | {names[0]: members})
    for damaged, reason in (
        (gzip.compress(b"something else"), "is not the layer"),
        (squeezed[names[0]][:-20], "is cut off"),
        (b"\x1f\x8b" + bytes(50), "is damaged"),
        (b"\x28\xb5\x2f\xfd" + bytes(50), "compressed with zstd"),
    ):
        with pytest.raises(ArchiveInvalid, match=reason):
            planned(files | squeezed | {names[0]: damaged})


def test_an_oci_layout_by_docker_has_its_tags_where_the_layout_has_no_names() -> None:
    config = path_of(IMAGE.config)
    docker = json.dumps([{"Config": config, "RepoTags": ["app:v1"], "Layers": []}]).encode()
    plan = planned(layout_files((IMAGE, "", "v1")) | {"manifest.json": docker})
    assert plan.images[0].names == ("docker.io/library/app:v1",)
    assert plan.images[0].target.media_type == IMAGE.manifest.media_type


def changed(image: Image, change: Callable[[dict[str, object]], object]) -> Image:
    document = json.loads(image.manifest.content)
    change(document)
    return Image(
        Blob.of(image.manifest.media_type, json.dumps(document).encode()), image.config, image.layers
    )


def config_of(size: object = 1, digest: str = "") -> Callable[[dict[str, object]], None]:
    return lambda document: document.update(
        config={"mediaType": "x", "digest": digest or IMAGE.config.digest, "size": size}
    )


LAYOUT = layout_files((IMAGE, NAME, ""))
DOCKER = docker_files((IMAGE, ["app"]))
CONFIG_NAME = f"{IMAGE.config.digest[7:]}.json"
LAYER_NAME = next(name for name in DOCKER if name.endswith("layer.tar"))
DEEP = b"[" * 200_000 + b"]" * 200_000


def layout_of(image: Image) -> Files:
    return layout_files((image, NAME, ""))


def docker_of(**entry: object) -> Files:
    (document,) = json.loads(DOCKER["manifest.json"])
    return DOCKER | {"manifest.json": json.dumps([document | entry]).encode()}


REFUSED: dict[str, tuple[Files, str]] = {
    "nothing": ({"README": b"hello"}, "neither an OCI layout .* nor a docker-archive"),
    "no index": ({"oci-layout": b"{}"}, "neither an OCI layout"),
    "no images": (layout_files(), "index.json is empty"),
    "no docker images": ({"manifest.json": b"[]"}, "manifest.json is empty"),
    "another version": (LAYOUT | {"oci-layout": b'{"imageLayoutVersion":"2.0"}'}, "version '2.0'"),
    "large marker": (LAYOUT | {"oci-layout": bytes(5000)}, "more than the 4096"),
    "large index": (LAYOUT | {"index.json": bytes(5 << 20)}, "more than the"),
    "index is text": (LAYOUT | {"index.json": b"{"}, "index.json cannot be read"),
    "index is deep": (LAYOUT | {"index.json": b'{"x":' + DEEP + b"}"}, "index.json cannot be read"),
    "index has no list": (LAYOUT | {"index.json": b"{}"}, "no list of manifests"),
    "manifest is absent": (without(LAYOUT, IMAGE.manifest), "which index.json names, is not in it"),
    "manifest is damaged": (
        LAYOUT | {path_of(IMAGE.manifest): b"x" * len(IMAGE.manifest.content)},
        "has other bytes than its digest says",
    ),
    "manifest is shorter": (LAYOUT | {path_of(IMAGE.manifest): b"{}"}, "has 2 bytes, and what refers to it"),
    "config is absent": (without(LAYOUT, IMAGE.config), "is not in it"),
    "layer is absent": (without(LAYOUT, IMAGE.layers[1]), "a part of .* is not in it"),
    "layer has another size": (LAYOUT | {path_of(IMAGE.layers[0]): b"x"}, "has 1 bytes, and"),
    "every platform is absent": (
        without(layout_files((INDEX, NAME, "")), HERE.manifest, OTHER.manifest),
        "an index without any manifest",
    ),
    "negative size": (layout_of(changed(IMAGE, config_of(-1))), "the size -1"),
    "large size": (layout_of(changed(IMAGE, config_of(2**63))), "the size"),
    "size is text": (layout_of(changed(IMAGE, config_of("1"))), "cannot be read"),
    "digest is a path": (layout_of(changed(IMAGE, config_of(1, "sha256:../../x"))), "is not a digest"),
    "another algorithm": (layout_of(changed(IMAGE, config_of(1, "md5:" + "a" * 32))), "is not a digest"),
    "schema 1": (layout_of(changed(IMAGE, lambda it: it.update(fsLayers=[]))), "schema 1"),
    "another media type": (
        layout_of(changed(IMAGE, lambda it: it.update(mediaType="text/html"))),
        "calls itself 'text/html'",
    ),
    "two things at once": (layout_of(changed(IMAGE, lambda it: it.update(manifests=[]))), "is no manifest"),
    "no layers": (layout_of(changed(IMAGE, lambda it: it.pop("layers"))), "is no manifest"),
    "a layer is an image": (
        layout_of(Image(IMAGE.layers[0], IMAGE.config, IMAGE.layers)),
        "where an image must be",
    ),
    "docker: no list": (DOCKER | {"manifest.json": b"{}"}, "manifest.json cannot be read"),
    "docker: config is absent": (docker_of(Config="other.json"), "the config of an image, is not in it"),
    "docker: config is damaged": (DOCKER | {CONFIG_NAME: b"{}"}, "other bytes than its name says"),
    "docker: config is outside": (docker_of(Config="../x"), "leads outside"),
    "docker: config is a folder": (docker_of(Config="x/.."), "the config of an image, is not in it"),
    "docker: layer is outside": (docker_of(Layers=["/etc/passwd", "x"]), "leads outside"),
    "docker: a layer more": (docker_of(Layers=["a", "b", "c"]), "has 2 layers, and manifest.json gives it 3"),
    "docker: layer is absent": (docker_of(Layers=["a", "b"]), "a, a layer, is not in it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_cannot_be_used_is_refused(name: str) -> None:
    files, reason = REFUSED[name]
    with pytest.raises(ArchiveInvalid, match=f"^a.tar: .*{reason}"):
        planned(files)


def test_bytes_that_are_not_a_layers_are_found_when_they_are_written() -> None:
    """A plain layer of a docker-archive is planned by the digest that its config gives it."""
    plan = planned(DOCKER | {LAYER_NAME: b"something else"})
    (blob,) = [it for it in plan.blobs.values() if it.entry == LAYER_NAME]
    assert not blob.digest.matches(b"".join(blob.chunks()))


def nested(depth: int) -> Index:
    manifest = INDEX.manifest
    images = list(INDEX.images)
    wrapped: list[Blob] = []
    for _ in range(depth):
        wrapped.append(manifest)
        manifest = Blob.of(
            manifest.media_type,
            json.dumps({"schemaVersion": 2, "manifests": [manifest.descriptor]}).encode(),
        )
    inner = Image(wrapped[0], wrapped[-1], tuple(wrapped[1:])) if wrapped else images[0]
    return Index(manifest, (*images, inner))


def test_indexes_are_nested_so_deep_and_no_deeper() -> None:
    deepest = image_tree.DEPTH_MAX_COUNT - 1
    assert planned(layout_files((nested(deepest), NAME, ""))).images[0].absent == ()
    with pytest.raises(ArchiveInvalid, match="nested more than"):
        planned(layout_files((nested(deepest + 1), NAME, "")))


def test_manifests_and_images_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    files = layout_files((INDEX, NAME, ""), (IMAGE, "app", ""))
    monkeypatch.setattr(image_tree, "DOCUMENTS_MAX_COUNT", 2)
    with pytest.raises(ArchiveInvalid, match="more than 2 manifests"):
        planned(files)
    monkeypatch.setattr(image_tree, "DOCUMENTS_MAX_COUNT", 3)
    planned(files)
    monkeypatch.setattr(reading, "IMAGES_MAX_COUNT", 1)
    with pytest.raises(ArchiveInvalid, match="it has 2 images"):
        planned(files)


def test_what_is_held_in_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    layout, docker = layout_files((INDEX, NAME, "")), docker_files((IMAGE, ["a"]))
    held = sum(len(blob.content) for blob in (INDEX.manifest, HERE.manifest, OTHER.manifest))
    monkeypatch.setattr(import_plan, "HELD_MAX_BYTES", held)
    planned(layout)
    monkeypatch.setattr(import_plan, "HELD_MAX_BYTES", held - 1)
    with pytest.raises(ArchiveInvalid, match="bytes of manifests and configs"):
        planned(layout)
    monkeypatch.setattr(import_plan, "HELD_MAX_BYTES", len(IMAGE.config.content))
    with pytest.raises(ArchiveInvalid, match="bytes of manifests and configs"):
        planned(docker)
    monkeypatch.setattr(image_tree, "DOCUMENTS_MAX_BYTES", held - 1)
    with pytest.raises(ArchiveInvalid, match=r"bytes of manifests$"):
        planned(layout)


def test_names_are_judged_over_all_archives() -> None:
    first, second = planned(layout_files((IMAGE, NAME, ""))), planned(layout_files((INDEX, NAME, "")))
    unnamed = planned(layout_files((INDEX, "", "v1")))
    both = named([("a", first), ("b", planned(layout_files((INDEX, "app", ""))))], None)
    assert len(both.images) == 2 and len(both.blobs) == len({blob.digest for blob in (*IMAGE, *INDEX)})
    assert named([("a", unnamed)], "app").images[0].names == ("docker.io/library/app:latest",)
    assert named([("a", first)], "other:v2").images[0].names == ("docker.io/library/other:v2",)
    # The same image twice is one, with both names.
    twice = named([("a", first), ("b", planned(layout_files((IMAGE, "app", ""))))], None)
    assert [one.names for one in twice.images] == [(NAME, "docker.io/library/app:latest")]
    # So is one whose platforms come in two archives.
    halves = [planned(without(layout_files((INDEX, NAME, "")), one.manifest)) for one in INDEX.images]
    assert all(one.images[0].absent for one in halves)
    for new in (None, "app"):
        (whole,) = named([("a", halves[0]), ("b", halves[1])], new).images
        assert (whole.absent, set(whole.blobs)) == ((), set(second.blobs))
    for plans, name, reason in (
        ([("a", first), ("b", second)], None, "b: registry.example/team/app:v1 is the name of two images"),
        ([("a", unnamed)], None, "a: the image sha256:.* has no name: give it one with --name"),
        ([("a", first), ("b", unnamed)], "app", "--name app is one name, and there are 2 images"),
        ([("a", first)], "App", "lower case only"),
    ):
        with pytest.raises(ImageNameInvalid, match=reason):
            named(plans, name)


def test_a_bad_name_in_the_archive_is_refused() -> None:
    with pytest.raises(ImageNameInvalid, match="lower case only"):
        planned(layout_files((IMAGE, "Bad Name", "")))
    with pytest.raises(ImageNameInvalid, match="lower case only"):
        planned(docker_files((IMAGE, ["Bad"])))


def test_a_folder_follows_no_link(tmp_path: Path) -> None:
    root = write_files(LAYOUT, tmp_path / "layout")
    secret = tmp_path / "secret"
    secret.write_bytes(IMAGE.layers[0].content)
    layer = root / path_of(IMAGE.layers[0])
    layer.unlink()
    layer.symlink_to(secret)
    with pytest.raises(ArchiveInvalid, match="it must be no link"):
        plan_import(LayoutFolder("stick", root))
    layer.unlink()
    layer.write_bytes(IMAGE.layers[0].content)
    plan_import(LayoutFolder("stick", root))
    blobs = root / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveInvalid, match="it must be no link"):
        plan_import(LayoutFolder("stick", root))
    for name in ("../secret", "/etc/passwd"):
        with pytest.raises(ArchiveInvalid, match="leads outside"):
            LayoutFolder("stick", root).read(name, 10)
    # A pipe without a writer would hold whoever opens it.
    os.mkfifo(root / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(ArchiveInvalid, match="is no plain file"):
            LayoutFolder("stick", root).read(name, 10)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    pipe, squeezed = tmp_path / "pipe", tmp_path / "x.tar.zst"
    os.mkfifo(pipe)
    squeezed.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    for path, reason in (
        (pipe, "is no file: give a pipe as standard input"),
        (squeezed, "compressed with zstd"),
        (tmp_path / "absent", "cannot be read: No such file"),
    ):
        with pytest.raises(ArchiveInvalid, match=reason), opened(str(path), tmp_path):
            raise AssertionError("opened")


def from_pipe(data: bytes, folder: Path, script: str = "") -> subprocess.CompletedProcess[bytes]:
    program = (
        f"from pathlib import Path\n{script}\n"
        "from mirror.archive import opening\nfrom mirror.archive.errors import ArchiveInvalid\n"
        "from mirror.archive.reading import plan_import\n"
        f"folder = Path({str(folder)!r})\n"
        "try:\n"
        "    with opening.opened('-', folder) as container:\n"
        "        print(plan_import(container).size_bytes, len(list(folder.iterdir())))\n"
        "except ArchiveInvalid as exc:\n"
        "    print(exc)\n"
    )
    return subprocess.run(
        [sys.executable, "-c", program], input=data, capture_output=True, timeout=60, check=True
    )


def test_a_pipe_is_kept_in_a_file_without_a_name_while_there_is_room(tmp_path: Path) -> None:
    data = tar_of(layout_files((INDEX, NAME, "")))
    size_bytes = sum(len(content) for content in {blob.content for blob in INDEX})
    assert from_pipe(data, tmp_path).stdout.split() == [str(size_bytes).encode(), b"0"]
    full = "from mirror.store import disk_room; disk_room.DISK_FULL_RATIO = 0.0\n"
    full += "disk_room.DiskRoom.excess_bytes.__defaults__ = (0.0,)"
    assert b"standard input is larger than what" in from_pipe(data, tmp_path, full).stdout
    assert b"standard input: it ends in the middle" in from_pipe(data[:5000], tmp_path).stdout
