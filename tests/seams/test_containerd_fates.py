"""What becomes of layers, asked of a containerd: by the labels that its pulls leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from mirror.errors import StoreUnavailable
from mirror.keep.containerd_fates import ContainerdFates
from mirror.keep.fates import Fate
from mirror.oci.digest import Digest
from tests.support.fake_containerd import FakeContainerd
from tests.support.fake_containerd_state import REFERS
from tests.support.oci_image import Image, build_image

NAMESPACE = "k8s.io"
GOES, STAYS = Fate.GOES, Fate.STAYS
_SEEDS = count(91_000)


@pytest.fixture
async def containerd(tmp_path: Path) -> AsyncIterator[FakeContainerd]:
    async with FakeContainerd(tmp_path) as fake:
        yield fake


@pytest.fixture
def fates(containerd: FakeContainerd) -> ContainerdFates:
    return ContainerdFates(containerd.socket, namespaces=[NAMESPACE, "other"])


def fresh_image() -> Image:
    return build_image(next(_SEEDS), [100, 200])


def layers(image: Image) -> list[Digest]:
    return [Digest.parse(layer.digest) for layer in image.layers]


def pull(
    containerd: FakeContainerd, image: Image, *, keeps_layers: bool, namespace: str = NAMESPACE
) -> list[Digest]:
    """As far as the manifest."""
    labels = {f"{REFERS}.config": image.config.digest}
    if keeps_layers:
        labels |= {f"{REFERS}.l.{number}": layer.digest for number, layer in enumerate(image.layers)}
    containerd.state.add_blob(namespace, image.manifest.content, labels)
    return layers(image)


def forget_documents(containerd: FakeContainerd) -> None:
    """From now on only what was read before is known."""
    for path in (containerd.content_root / "blobs" / "sha256").iterdir():
        path.unlink()
        path.write_bytes(b"?")


async def test_layers_go_where_the_manifest_does_not_refer_to_them(
    containerd: FakeContainerd, fates: ContainerdFates
) -> None:
    kept = pull(containerd, fresh_image(), keeps_layers=True)
    image = fresh_image()
    gone = pull(containerd, image, keeps_layers=False)
    unknown = Digest.of(b"unknown")
    told = await fates.fates([*kept, *gone, unknown])
    assert told == dict.fromkeys(kept, STAYS) | dict.fromkeys(gone, GOES)
    of_the_rest = [Digest.parse(blob.digest) for blob in (image.manifest, image.config)]
    assert await fates.fates(of_the_rest) == dict.fromkeys(of_the_rest, STAYS)


async def test_an_index_is_none_that_goes(containerd: FakeContainerd, fates: ContainerdFates) -> None:
    """Known at once, and not asked about again."""
    containerd.state.add_blob(NAMESPACE, b"index", {f"{REFERS}.m.0": str(Digest.of(b"manifest"))})
    assert await fates.fates([Digest.of(b"index")]) == {Digest.of(b"index"): STAYS}


async def test_a_layer_that_another_namespace_keeps_stays(
    containerd: FakeContainerd, fates: ContainerdFates
) -> None:
    image = fresh_image()
    digests = pull(containerd, image, keeps_layers=False)
    assert await fates.fates(digests) == dict.fromkeys(digests, GOES)
    pull(containerd, image, keeps_layers=True, namespace="other")
    assert await fates.fates(digests) == dict.fromkeys(digests, STAYS)


async def test_a_namespace_that_is_not_watched_says_nothing(
    containerd: FakeContainerd, fates: ContainerdFates
) -> None:
    digests = pull(containerd, fresh_image(), keeps_layers=False, namespace="moby")
    assert await fates.fates(digests) == {}


async def test_what_changes_its_labels_changes_its_fate(
    containerd: FakeContainerd, fates: ContainerdFates
) -> None:
    """The setting was switched off, and the image pulled again."""
    image = fresh_image()
    digests = pull(containerd, image, keeps_layers=False)
    await fates.fates(digests)
    del containerd.state.namespaces[NAMESPACE].content[image.manifest.digest]
    pull(containerd, image, keeps_layers=True)
    assert await fates.fates(digests) == dict.fromkeys(digests, STAYS)


@pytest.mark.parametrize(
    "document",
    [b"no JSON", b"[]", json.dumps({"config": {}, "layers": []}).encode(), b'{"manifests": []}'],
    ids=["text", "list", "damaged", "empty"],
)
async def test_a_document_that_is_no_manifest_is_passed_over(
    containerd: FakeContainerd, fates: ContainerdFates, document: bytes
) -> None:
    digests = pull(containerd, fresh_image(), keeps_layers=False)
    # The newest is read first.
    containerd.state.add_blob(NAMESPACE, document, {f"{REFERS}.config": str(Digest.of(b"config"))})
    assert await fates.fates(digests) == dict.fromkeys(digests, GOES)


async def test_many_images_are_read_once(containerd: FakeContainerd, fates: ContainerdFates) -> None:
    first, *later = [pull(containerd, fresh_image(), keeps_layers=False) for _ in range(10)]
    assert await fates.fates(first) == dict.fromkeys(first, GOES)
    forget_documents(containerd)
    wanted = [digest for digests in later for digest in digests]
    assert await fates.fates(wanted) == dict.fromkeys(wanted, GOES)


async def test_no_more_is_read_than_what_tells(containerd: FakeContainerd, fates: ContainerdFates) -> None:
    older = pull(containerd, fresh_image(), keeps_layers=False)
    newest = pull(containerd, fresh_image(), keeps_layers=False)
    assert await fates.fates(newest) == dict.fromkeys(newest, GOES)
    forget_documents(containerd)
    assert await fates.fates(older) == {}


async def test_a_containerd_that_is_away_is_told(tmp_path: Path) -> None:
    fates = ContainerdFates(tmp_path / "c.sock", namespaces=[NAMESPACE])
    with pytest.raises(StoreUnavailable, match="what containerd keeps cannot be told"):
        await fates.fates([Digest.of(b"x")])
