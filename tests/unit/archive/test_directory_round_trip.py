"""`peili import` and `peili export` on a directory store: the commands as typed, and what stands in the folder."""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from mirror.archive.documents import Platform
from mirror.archive.selection import Choice, parse_choice
from mirror.cli.main import EXIT_FAILED, EXIT_USAGE, main
from mirror.oci.digest import Digest
from mirror.oci.layout import IMPORTED_AT_ANNOTATION, NAME_ANNOTATION, REF_ANNOTATION
from mirror.store.layout_tags import LayoutTags
from mirror.tags.image_name import parse_tag_name
from mirror.tags.source import OwnTags, TagGone, TagSet, TagsLost
from tests.support.directory_stores import small_disk, store_in
from tests.support.image_archives import Files, docker_files, layout_files, path_of, tar_of, write_files
from tests.support.oci_image import Blob, Image, Index, build_image, build_index
from tests.support.skips import require, root_or_missing
from tests.support.store_beds import Follower

NAME = "registry.example/team/app:v1"
OTHER_NAME = "registry.example/other:v1"
INDEX = build_index(41, [3_000, 100])
IMAGE = build_image(51, [3_000, 100])
HERE, ELSEWHERE = INDEX.images
DEADLINE_S = 15.0


class Bed:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.store = folder / "store"
        self._capsys = capsys

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        code = main([*map(str, arguments), f"--store-dir={self.store}"])
        told = self._capsys.readouterr()
        return code, told.out, told.err

    def archive(self, files: Files, name: str = "a.tar") -> Path:
        path = self.folder / name
        path.write_bytes(tar_of(files))
        return path

    def imported(self, files: Files, *flags: str) -> dict[str, Any]:
        code, out, err = self.run("import", self.archive(files), "--json", *flags)
        assert code == 0, err
        told: dict[str, Any] = json.loads(out)
        return told

    @property
    def blobs(self) -> set[str]:
        return {f"sha256:{path.name}" for path in (self.store / "blobs" / "sha256").iterdir()}

    @property
    def index(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.store / "index.json").read_text())
        return found


@pytest.fixture
def bed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bed:
    return Bed(tmp_path, capsys)


def digests(*images: Image | Index) -> set[str]:
    return {blob.digest for image in images for blob in image}


def test_an_import_is_told_in_lines_and_as_a_document(bed: Bed) -> None:
    archive = bed.archive(layout_files((INDEX, NAME, "v1")))
    code, out, err = bed.run("import", archive)
    assert (code, err) == (0, "")
    size_bytes = sum({blob.digest: len(blob.content) for blob in INDEX}.values())
    count = len(digests(INDEX))
    assert out.split() == [
        *(NAME, INDEX.manifest.digest, f"{size_bytes / 1024:.1f}", "KiB"),
        *(str(count), "blobs,", "0", "already", "there"),
    ]
    assert bed.blobs == digests(INDEX)
    told = bed.imported(layout_files((INDEX, NAME, "v1")), f"--name={OTHER_NAME}")
    assert told == {
        "store": "directory",
        "directory": str(bed.store),
        "images": [
            {
                "name": OTHER_NAME,
                "digest": INDEX.manifest.digest,
                "size_bytes": size_bytes,
                "blobs_count": count,
                "already_there_count": count,
                "absent": [],
            }
        ],
    }
    assert [one["annotations"][NAME_ANNOTATION] for one in bed.index["manifests"]] == [NAME, OTHER_NAME]


def test_a_name_that_is_given_anew_has_one_entry_and_others_stay(bed: Bed) -> None:
    bed.imported(layout_files((INDEX, NAME, "")))
    stranger = {"digest": "strange", "annotations": {REF_ANNOTATION: "v1", "theirs": "yes"}}
    written = bed.index
    written["manifests"].append(stranger)
    (bed.store / "index.json").write_text(json.dumps(written | {"annotations": {"of": "them"}}))
    bed.imported(layout_files((IMAGE, NAME, "")))
    theirs, ours = bed.index["manifests"]
    assert theirs == stranger and bed.index["annotations"] == {"of": "them"}
    assert ours["digest"] == IMAGE.manifest.digest and ours["size"] == len(IMAGE.manifest.content)
    assert ours["annotations"].pop(IMPORTED_AT_ANNOTATION).isdecimal()
    assert ours["annotations"] == {NAME_ANNOTATION: NAME, REF_ANNOTATION: NAME}


@pytest.mark.parametrize(
    ("files", "flags", "exit_code", "reason"),
    [
        (layout_files((IMAGE, NAME, "")) | {path_of(IMAGE.layers[0]): b"x"}, (), EXIT_FAILED, "has 1 bytes"),
        (layout_files((IMAGE, "", "v1")), (), EXIT_FAILED, "has no name"),
        (layout_files((IMAGE, NAME, "")), ("--name=Bad",), EXIT_FAILED, "lower case only"),
        (
            layout_files((IMAGE, NAME, "")),
            ("--cache-size=0",),
            EXIT_USAGE,
            "leaves the directory store no room",
        ),
        (
            layout_files((build_image(1, [1 << 20]), NAME, "")),
            ("--cache-size=1MiB",),
            EXIT_FAILED,
            "--cache-size",
        ),
    ],
)
def test_what_is_refused_leaves_no_store(
    bed: Bed, files: Files, flags: tuple[str, ...], exit_code: int, reason: str
) -> None:
    code, out, err = bed.run("import", bed.archive(files), *flags)
    assert (code, out) == (exit_code, "") and reason in err
    assert not bed.store.exists()


def test_no_name_in_an_archive_moves_the_cursor(bed: Bed) -> None:
    link = tarfile.TarInfo("a\x1b[2Jb")
    link.type, link.linkname = tarfile.LNKTYPE, "a"
    path = bed.folder / "a.tar"
    path.write_bytes(tar_of({}, [link]))
    code, _, err = bed.run("import", path)
    assert code == EXIT_FAILED and "a?[2Jb is a hard link" in err and "\x1b" not in err


def test_a_damaged_layer_names_nothing(bed: Bed) -> None:
    bed.imported(layout_files((INDEX, OTHER_NAME, "")))
    layer = IMAGE.layers[0]
    damaged = layout_files((IMAGE, NAME, "")) | {path_of(layer): b"x" * len(layer.content)}
    code, _, err = bed.run("import", bed.archive(damaged))
    assert code == EXIT_FAILED and layer.digest in err and "the archive is damaged" in err
    assert layer.digest not in bed.blobs and list((bed.store / "ingest").iterdir()) == []
    assert [one["annotations"][NAME_ANNOTATION] for one in bed.index["manifests"]] == [OTHER_NAME]
    # So does a plain layer of a docker-archive that is not the one of its config.
    files = docker_files((IMAGE, [NAME]))
    name = next(it for it in files if it.endswith("layer.tar"))
    code, _, err = bed.run("import", bed.archive(files | {name: b"x" * len(files[name])}))
    assert code == EXIT_FAILED and "the archive is damaged" in err


def test_what_is_there_is_verified_and_counts_as_used(bed: Bed) -> None:
    bed.imported(layout_files((IMAGE, NAME, "")))
    good, damaged = (bed.store / path_of(blob) for blob in IMAGE.layers)
    os.utime(good, (1, 1))
    damaged.chmod(0o644)
    damaged.write_bytes(b"x" * len(IMAGE.layers[1].content))
    told = bed.imported(layout_files((IMAGE, NAME, "")))
    assert told["images"][0]["already_there_count"] == 3
    assert good.stat().st_mtime > 1
    assert damaged.read_bytes() == IMAGE.layers[1].content


def test_a_store_of_another_kind_is_left_alone(bed: Bed) -> None:
    bed.store.mkdir()
    (bed.store / "index.json").write_text("[]")
    code, _, err = bed.run("import", bed.archive(layout_files((IMAGE, NAME, ""))))
    assert code == EXIT_FAILED and "index.json of the store cannot be read" in err
    assert (bed.store / "index.json").read_text() == "[]" and bed.blobs == set()
    (bed.store / "oci-layout").write_text('{"imageLayoutVersion": "9"}')
    code, _, err = bed.run("import", bed.archive(layout_files((IMAGE, NAME, ""))))
    assert code == EXIT_FAILED and "name another folder" in err


def test_out_and_in_again_is_the_same(bed: Bed) -> None:
    bed.imported(layout_files((INDEX, NAME, ""), (IMAGE, OTHER_NAME, "")))
    before = bed.blobs
    targets = [bed.folder / name for name in ("one.tar", "two.tar")]
    for target in targets:
        code, out, err = bed.run("export", NAME, OTHER_NAME, "-o", target)
        assert (code, err) == (0, "") and [line.split()[0] for line in out.splitlines()] == [NAME, OTHER_NAME]
    assert targets[0].read_bytes() == targets[1].read_bytes()
    folder = bed.folder / "layout"
    assert bed.run("export", NAME, OTHER_NAME, "-o", f"{folder}/")[0] == 0
    with tarfile.open(targets[0]) as tar:
        entries = tar.getmembers()
        for entry in entries:
            assert (entry.mtime, entry.uid, entry.gid, entry.uname) == (0, 0, 0, "")
            file = tar.extractfile(entry)
            if file is not None:
                assert (folder / entry.name).read_bytes() == file.read()
    names = [entry.name for entry in entries]
    assert names == sorted(names) and {it for it in names if it.startswith("blobs/sha256/")} == {
        path_of(blob) for blob in (*INDEX, *IMAGE)
    }
    bed.store = bed.folder / "second"
    for source in (targets[0], folder):
        assert bed.run("import", source)[0] == 0
        assert bed.blobs == before


def test_what_others_read_of_an_export(bed: Bed) -> None:
    """Two images with one tag are told apart by the whole name; old Docker has one platform of each."""
    third = f"registry.example/third@{IMAGE.manifest.digest}"
    names = ((INDEX, NAME, ""), (IMAGE, OTHER_NAME, ""), (IMAGE, third, ""), (IMAGE, "app:v2", ""))
    bed.imported(layout_files(*names))
    target = bed.folder / "layout"
    code, _, err = bed.run("export", NAME, OTHER_NAME, third, "app:v2", "-o", f"{target}/")
    assert code == 0, err
    index = json.loads((target / "index.json").read_text())
    assert [one["annotations"] for one in index["manifests"]] == [
        {NAME_ANNOTATION: NAME, REF_ANNOTATION: NAME},
        {NAME_ANNOTATION: OTHER_NAME, REF_ANNOTATION: OTHER_NAME},
        {NAME_ANNOTATION: third},
        {NAME_ANNOTATION: "docker.io/library/app:v2", REF_ANNOTATION: "v2"},
    ]
    assert json.loads((target / "manifest.json").read_text()) == [
        {
            "Config": path_of(image.config),
            "RepoTags": tags,
            "Layers": [path_of(layer) for layer in image.layers],
        }
        for image, tags in ((HERE, [NAME]), (IMAGE, [OTHER_NAME, "docker.io/library/app:v2"]))
    ]


def platform_bed(bed: Bed, *lacking: Blob) -> None:
    gone = {path_of(blob) for blob in lacking}
    files = layout_files((INDEX, NAME, ""), (IMAGE, OTHER_NAME, ""))
    code, _, err = bed.run("import", bed.archive({k: v for k, v in files.items() if k not in gone}))
    assert code == 0, err


@pytest.mark.parametrize("lacking", [ELSEWHERE.manifest, ELSEWHERE.config, ELSEWHERE.layers[1]])
def test_what_is_here_goes_and_what_was_chosen_must_be_here(bed: Bed, lacking: Blob) -> None:
    platform_bed(bed, lacking)
    target = bed.folder / "out.tar"
    for choice in ("all", "linux/arm64", "linux/arm64/v8"):
        code, _, err = bed.run("export", NAME, "-o", target, "--platform", choice)
        assert code == EXIT_FAILED and not target.exists()
        assert all(it in err for it in (NAME, "linux/arm64", lacking.digest))
    for choice, reason in (
        ("windows/amd64", "has nothing for windows/amd64: it has linux/amd64, linux/arm64"),
        ("linux/arm64/v7", "has nothing for linux/arm64/v7"),
    ):
        code, _, err = bed.run("export", NAME, "-o", target, "--platform", choice)
        assert code == EXIT_FAILED and reason in err
    code, out, err = bed.run("export", NAME, "-o", target, "--json")
    assert code == 0 and f"warning: {NAME} is not in the archive for linux/arm64" in err
    (told,) = json.loads(out)["images"]
    assert told["absent"] == ["linux/arm64"]
    with tarfile.open(target) as tar:
        names = {entry.name for entry in tar if entry.name.startswith("blobs/sha256/")}
    assert names == {path_of(blob) for blob in (*HERE, INDEX.manifest)}
    code, _, err = bed.run("export", OTHER_NAME, "-o", target, "--platform", "linux/amd64")
    assert code == 0, err


def test_nothing_here_of_an_image_is_an_error(bed: Bed) -> None:
    platform_bed(bed)
    for blob in (HERE.layers[0], ELSEWHERE.layers[0]):
        (bed.store / path_of(blob)).unlink()
    code, _, err = bed.run("export", NAME, "-o", bed.folder / "out.tar")
    assert code == EXIT_FAILED and HERE.layers[0].digest in err and "linux/amd64" in err
    code, _, err = bed.run("export", "registry.example/absent:v1", "-o", bed.folder / "out.tar")
    assert code == EXIT_FAILED and "there is no image 'registry.example/absent:v1' on this host" in err
    code, _, err = bed.run("export", NAME, "-o", bed.folder / "out.tar", "--platform", "linux")
    assert code == EXIT_USAGE and "--platform: 'linux' is no platform" in err


def test_an_export_that_fails_leaves_what_was_there(bed: Bed) -> None:
    bed.imported(layout_files((IMAGE, NAME, "")))
    layer = bed.store / path_of(IMAGE.layers[0])
    layer.chmod(0o644)
    layer.write_bytes(b"x" * len(IMAGE.layers[0].content))
    target, full, file = bed.folder / "out.tar", bed.folder / "full", bed.folder / "file"
    target.write_text("before")
    write_files({"x": b"x"}, full)
    file.write_text("x")
    before = sorted(bed.folder.iterdir())
    for output, reason in (
        (str(target), "has other bytes on this host"),
        (f"{bed.folder / 'new'}/", "has other bytes on this host"),
        (str(full), "is not empty"),
        (f"{file}/", "is not empty"),
        (str(bed.folder / "absent" / "out.tar"), "cannot be written: No such file"),
    ):
        code, out, err = bed.run("export", NAME, "-o", output)
        assert (code, out) == (EXIT_FAILED, "") and reason in err, err
        assert sorted(bed.folder.iterdir()) == before and target.read_text() == "before"


def test_an_export_takes_the_place_of_files_only(bed: Bed) -> None:
    bed.imported(layout_files((IMAGE, NAME, "")))
    pipe, link, file = bed.folder / "pipe", bed.folder / "link", bed.folder / "elsewhere" / "file"
    os.mkfifo(pipe)
    code, _, err = bed.run("export", NAME, "-o", pipe)
    assert code == EXIT_FAILED and "is no plain file" in err and pipe.is_fifo()
    write_files({"file": b"before"}, file.parent)
    link.symlink_to("elsewhere/file")
    assert bed.run("export", NAME, "-o", link)[0] == 0
    assert link.is_symlink() and tarfile.is_tarfile(file)


def test_a_disk_is_no_folder_to_be_made(bed: Bed) -> None:
    """It cannot be replaced, which would show when all is written, and beside it."""
    require(root_or_missing("mounting a small disk"))
    bed.imported(layout_files((IMAGE, NAME, "")))
    disk = bed.folder / "usb"
    disk.mkdir()
    with small_disk(disk):
        code, _, err = bed.run("export", NAME, "-o", f"{disk}/")
        assert code == EXIT_FAILED and "is the root of a mounted disk" in err
        assert bed.run("export", NAME, "-o", f"{disk / 'images'}/")[0] == 0


def test_what_an_index_says_of_a_size_is_checked(bed: Bed) -> None:
    """Of what is no image, too: a wrong size would put all that follows in a tar out of its place."""
    note = Blob.of("text/plain", b"a note")
    index = Blob.of(
        INDEX.manifest.media_type,
        json.dumps(
            {"schemaVersion": 2, "manifests": [IMAGE.manifest.descriptor, note.descriptor | {"size": 5}]}
        ).encode(),
    )
    image = Image(index, note, IMAGE.layers)
    write_files(layout_files((IMAGE, OTHER_NAME, ""), (image, NAME, "")), bed.store)
    target = bed.folder / "out.tar"
    code, _, err = bed.run("export", NAME, "-o", target)
    assert code == EXIT_FAILED and f"{note.digest} has 6 bytes" in err and not target.exists()


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("all", Choice(None)),
        ("linux/amd64", Choice(Platform("linux", "amd64"))),
        ("linux/arm/v7", Choice(Platform("linux", "arm", "v7"))),
        *((text, None) for text in ("", "linux", "linux/", "/amd64", "a/b/c/d", "linux/../x")),
    ],
)
def test_what_a_platform_is(text: str, choice: Choice | None) -> None:
    assert parse_choice(text) == choice


def test_which_platforms_a_choice_takes() -> None:
    for wanted, platform, takes in (
        (Platform("linux", "arm"), Platform("linux", "arm", "v6"), True),
        (Platform("linux", "arm", "v7"), Platform("linux", "arm"), True),
        (Platform("linux", "arm", "v6"), Platform("linux", "arm"), False),
        (Platform("linux", "arm64", "v8"), Platform("linux", "arm64"), True),
        (Platform("linux", "amd64"), Platform("windows", "amd64"), False),
    ):
        assert Choice(wanted).takes(platform) is takes


async def test_a_running_store_gives_what_was_imported_beside_it(bed: Bed) -> None:
    wanted = {Digest.parse(text) for text in digests(IMAGE)}
    async with store_in(bed.store) as store:
        follower = Follower(store)
        await follower.take_until(lambda sizes: not sizes)
        bed.imported(layout_files((IMAGE, NAME, "")))
        await follower.take_until(lambda sizes: sizes.keys() == wanted)


async def test_names_of_a_layout_are_tags_that_were_imported(bed: Bed) -> None:
    name = parse_tag_name(NAME)
    assert name is not None
    async with (
        asyncio.timeout(DEADLINE_S),
        store_in(bed.store),
        aclosing(LayoutTags(bed.store).watch_tags()) as events,
    ):
        assert await anext(events) == OwnTags({})
        bed.imported(layout_files((INDEX, NAME, "")))
        told = await anext(events)
        assert isinstance(told, TagSet)
        assert (told.tag.name, str(told.tag.digest), told.tag.is_imported) == (
            name,
            INDEX.manifest.digest,
            True,
        )
        stated = bed.index["manifests"][0]["annotations"][IMPORTED_AT_ANNOTATION]
        assert told.tag.pulled_at_s == int(stated)
        bed.imported(layout_files((IMAGE, NAME, "")))
        told = await anext(events)
        assert isinstance(told, TagSet) and str(told.tag.digest) == IMAGE.manifest.digest
        # Its document goes, as by the quota: nothing to tell any more.
        (bed.store / path_of(IMAGE.manifest)).unlink()
        assert await anext(events) == TagGone(name)
        text = (bed.store / "index.json").read_text()
        (bed.store / "index.json").write_text("[")
        lost = await anext(events)
        assert isinstance(lost, TagsLost) and "index.json" in lost.reason
        (bed.store / "index.json").write_text(text)
        assert await anext(events) == OwnTags({})


async def test_names_by_another_program_count_from_the_files_time(tmp_path: Path) -> None:
    files = layout_files((IMAGE, "", NAME), (IMAGE, "", "v1"), (IMAGE, "Bad", ""))
    root = write_files(files, tmp_path)
    os.utime(root / "index.json", (1000, 1000))
    async with asyncio.timeout(DEADLINE_S), aclosing(LayoutTags(root).watch_tags()) as events:
        told = await anext(events)
    assert isinstance(told, OwnTags)
    (tag,) = told.tags.values()
    assert (str(tag.name), tag.pulled_at_s) == (NAME, 1000.0)
