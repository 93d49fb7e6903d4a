"""Which images are listed, and how much of each is here, from documents in a store of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from mirror.admin import image_list
from mirror.admin.answers import Image, Images
from mirror.admin.image_list import IMAGES_MAX_COUNT, ImageList, ImagePorts, without_doubles
from mirror.errors import StoreUnavailable
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES
from mirror.store.base import Blob as StoreBlob
from mirror.store.containerd_images import NamedImage
from tests.support.memory_store import MemoryStore
from tests.support.oci_image import Blob, build_image, build_index

IMAGE = build_image(71, [2_000, 1_000])
INDEX = build_index(81, [2_000, 1_000])
NAME = "reg.example/app:v1"


def named(name: str, digest: str | Digest = IMAGE.manifest.digest) -> NamedImage:
    return NamedImage(name, "k8s.io", digest if isinstance(digest, Digest) else Digest.parse(digest))


def holding(blobs: Iterable[Blob], *, has_files: bool = True) -> MemoryStore:
    return MemoryStore(*(blob.content for blob in blobs), has_files=has_files)


async def told(
    store: MemoryStore, *images: NamedImage, advertised: Sequence[str] = (), tags: Sequence[str] = ()
) -> Images:
    async def listed() -> Sequence[NamedImage]:
        return images

    ports = ImagePorts(store, listed, lambda digest: str(digest) in advertised, lambda name: name in tags)
    return await ImageList(ports).answer()


@pytest.mark.parametrize("has_files", [True, False], ids=["file", "chunks"])
async def test_an_image_that_is_here(has_files: bool) -> None:
    digest = IMAGE.manifest.digest
    store = holding(IMAGE, has_files=has_files)
    assert await told(store, named(NAME), advertised=[digest], tags=[NAME]) == Images(
        store="containerd",
        total=1,
        truncated=False,
        images=[
            Image(
                name=NAME,
                namespace="k8s.io",
                digest=digest,
                size_bytes=IMAGE.size_bytes,
                blobs=4,
                blobs_here=4,
                advertised=True,
                tag_advertised=True,
            )
        ],
    )


async def test_layers_that_containerd_threw_away_are_not_here() -> None:
    (one,) = (await told(holding([IMAGE.manifest, IMAGE.config]), named(NAME))).images
    assert (one.size_bytes, one.blobs, one.blobs_here) == (IMAGE.size_bytes, 4, 2)
    assert (one.advertised, one.tag_advertised) == (False, False)


async def test_an_index_counts_with_the_platforms_that_are_here() -> None:
    _, here = INDEX.images
    (one,) = (await told(holding([INDEX.manifest, *here]), named(NAME, INDEX.manifest.digest))).images
    assert one.size_bytes == len(INDEX.manifest.content) + here.size_bytes
    assert (one.blobs, one.blobs_here) == (5, 5)


@pytest.mark.parametrize(
    ("here", "digest"),
    [
        ([], IMAGE.manifest.digest),
        ([INDEX.manifest], INDEX.manifest.digest),
        ([IMAGE.config], IMAGE.config.digest),
        ([IMAGE.layers[0]], IMAGE.layers[0].digest),
    ],
    ids=["nothing", "index", "config", "layer"],
)
async def test_without_a_manifest_here_the_size_is_not_known(here: list[Blob], digest: str) -> None:
    (one,) = (await told(holding(here), named(NAME, digest))).images
    assert (one.size_bytes, one.blobs, one.blobs_here) == (None, None, None)


async def test_documents_that_cannot_be_opened_are_not_known() -> None:
    store = holding(IMAGE)
    store.go_away("containerd restarts")
    (one,) = (await told(store, named(NAME))).images
    assert one.size_bytes is None


class OpenedStore(MemoryStore):
    """Remembers what was opened."""

    def __init__(self, *blobs: bytes) -> None:
        super().__init__(*blobs, has_files=True)
        self.opened: list[tuple[Digest, StoreBlob]] = []

    async def open(self, digest: Digest) -> StoreBlob:
        blob = await super().open(digest)
        self.opened.append((digest, blob))
        return blob


async def test_a_document_is_opened_once_an_answer_and_closed() -> None:
    store = OpenedStore(*(blob.content for blob in IMAGE))
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    await told(store, named(NAME), named("reg.example/app:v2"))
    assert [str(digest) for digest, _ in store.opened] == [IMAGE.manifest.digest]
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


async def test_what_is_too_large_for_a_document_is_not_opened() -> None:
    data = bytes(MANIFEST_MAX_BYTES + 1)
    store = OpenedStore(data)
    (one,) = (await told(store, named(NAME, Digest.of(data)))).images
    assert (one.size_bytes, store.opened) == (None, [])


async def test_a_second_question_waits_for_the_first_answer() -> None:
    steps = []

    async def listed() -> Sequence[NamedImage]:
        steps.append("asked")
        return [named(NAME)]

    images = ImageList(ImagePorts(holding(IMAGE), listed, lambda _: False, lambda _: False))

    async def answered() -> None:
        await images.answer()
        steps.append("answered")

    await asyncio.gather(answered(), answered())
    assert steps == ["asked", "answered"] * 2


def test_names_that_only_cri_gave_are_left_out() -> None:
    digest = IMAGE.manifest.digest
    other = named(f"reg.example:5000/other@{digest}")
    images = [
        named(f"sha256:{'1' * 64}"),
        named(f"reg.example:5000/app@{digest}"),
        named("reg.example:5000/app:v2"),
        named("reg.example:5000/app:v1", INDEX.manifest.digest),
        named(f"reg.example:5000/app@{INDEX.manifest.digest}", INDEX.manifest.digest),
        other,
    ]
    assert [one.name for one in without_doubles(images)] == [
        "reg.example:5000/app:v1",
        "reg.example:5000/app:v2",
        other.name,
    ]


async def test_more_images_than_the_cap_are_cut_by_name_and_counted() -> None:
    images = [named(f"reg.example/app:v{number:05}") for number in range(IMAGES_MAX_COUNT + 5)]
    found = await told(holding(IMAGE), *reversed(images))
    assert (found.total, found.truncated, len(found.images)) == (IMAGES_MAX_COUNT + 5, True, IMAGES_MAX_COUNT)
    assert found.images[-1].name == images[IMAGES_MAX_COUNT - 1].name


async def test_beyond_so_many_documents_sizes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [build_image(seed, [10]) for seed in (73, 74, 75)]
    store = holding(blob for one in others for blob in one)
    monkeypatch.setattr(image_list, "DOCUMENTS_MAX_COUNT", 2)
    images = [named(f"reg.example/{number}:v1", one.manifest.digest) for number, one in enumerate(others)]
    sizes = [one.size_bytes for one in (await told(store, *images)).images]
    assert sizes == [others[0].size_bytes, others[1].size_bytes, None]


async def test_a_directory_has_no_images() -> None:
    ports = ImagePorts(holding([]), None, lambda _: False, lambda _: False)
    assert await ImageList(ports).answer() == Images(store="directory", total=0, truncated=False, images=[])


async def test_a_containerd_that_is_away_is_no_empty_list() -> None:
    async def away() -> Sequence[NamedImage]:
        raise StoreUnavailable("not there")

    ports = ImagePorts(holding([]), away, lambda _: False, lambda _: False)
    with pytest.raises(StoreUnavailable):
        await ImageList(ports).answer()
