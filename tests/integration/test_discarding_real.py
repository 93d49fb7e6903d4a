"""Layers that real containerds do not keep: cached before they are gone, on the first pull as on any other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from containerd.client import Client
from mirror.ingest.containerd_ingests import ContainerdIngests
from mirror.keep.containerd_fates import ContainerdFates
from mirror.keep.fates import Fate
from mirror.keep.layer_keeper import LayerKeeper
from mirror.oci.digest import Digest
from mirror.store.cached_store import CachedStore
from mirror.store.containerd_store import ContainerdStore
from tests.support.bed_containerds import Containerds
from tests.support.bed_hosts_toml import HostEntry, hosts_toml, install
from tests.support.containerd_calls import collect_garbage
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.directory_stores import files, name_of
from tests.support.herd_bed import discarding
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Journal, RecordingHost, Shelf
from tests.support.store_beds import Follower, cache_running, cached_store, content_of, eventually

pytestmark = pytest.mark.containerd

NAMESPACE = "k8s.io"
# The small ones are deleted some hundredths of a second after their commit.
LAYERS_BYTES = [3_000_000, 200_000, 1_000]
_SEEDS = count(77_000)


@dataclass
class RecordedFates:
    """What a containerd told."""

    asked: ContainerdFates
    told: dict[Digest, Fate] = field(default_factory=dict)

    async def fates(self, digests: Collection[Digest]) -> Mapping[Digest, Fate]:
        answer = await self.asked.fates(digests)
        self.told.update(answer)
        return answer


@dataclass(frozen=True, slots=True)
class Bed:
    containerd: RealContainerd
    client: Client
    store: CachedStore
    fates: RecordedFates
    folder: Path

    async def pull(self, image: Image) -> str:
        """Its name. Garbage was collected when it returns."""
        shelf = Shelf()
        shelf.add(image, "lib/app", "v1")
        async with RecordingHost("origin", shelf, Journal()) as origin:
            install(self.containerd.certs_dir, origin.authority, hosts_toml(HostEntry(origin.url)))
            name = f"{origin.authority}/lib/app:v1"
            assert isinstance(await cri_pull(self.containerd, name), Pulled)
        await collect_garbage(self.client, NAMESPACE)
        return name

    async def until_cached(self, image: Image) -> None:
        await eventually(
            lambda: all(self.store.is_cached(digest) for digest in layers(image)),
            lambda: (
                str({str(d)[:15]: (len(c), self.store.is_cached(d)) for d, c in layers(image).items()})
                + str(self.fates.told)
            ),
        )

    def kept_by_containerd(self, image: Image) -> set[Digest]:
        blobs = self.containerd.content_root / "blobs" / "sha256"
        return {digest for digest in layers(image) if (blobs / digest.encoded).exists()}


@asynccontextmanager
async def bed_over(containerd: RealContainerd, folder: Path) -> AsyncIterator[Bed]:
    runtime = ContainerdStore(containerd.socket, namespaces=[NAMESPACE], content_path=None)
    store = cached_store(runtime, folder)
    ingests = ContainerdIngests(lambda: containerd.content_root, namespaces=[NAMESPACE])
    fates = RecordedFates(ContainerdFates(containerd.socket, namespaces=[NAMESPACE]))
    async with Client(containerd.socket) as client, cache_running(store), asyncio.TaskGroup() as group:
        keeper = LayerKeeper(store, ingests, fates, lambda: containerd.content_root, time.monotonic)
        tasks = [group.create_task(ingests.run()), group.create_task(keeper.run())]
        await eventually(lambda: ingests.unavailable is None)
        yield Bed(containerd, client, store, fates, folder)
        for task in tasks:
            task.cancel()


def layers(image: Image) -> dict[Digest, bytes]:
    return {Digest.parse(layer.digest): layer.content for layer in image.layers}


def having(wanted: Mapping[Digest, int]) -> Callable[[Mapping[Digest, int]], bool]:
    return lambda known: wanted.items() <= known.items()


def fresh_image() -> Image:
    return build_image(next(_SEEDS), LAYERS_BYTES)


async def discarding_containerd(containerds: Containerds, version: str) -> RealContainerd:
    major, minor = version.split(".")
    return await containerds.get(
        version, variant="-discarding", extra_config=discarding((int(major), int(minor)))
    )


async def test_layers_that_are_discarded_are_served_and_announced(
    containerds: Containerds, version: str, tmp_path: Path
) -> None:
    async with bed_over(await discarding_containerd(containerds, version), tmp_path) as bed:
        follower = Follower(bed.store)
        await follower.take()
        images = [fresh_image(), fresh_image()]
        for image in images:
            name = await bed.pull(image)
            assert bed.kept_by_containerd(image) == set(), "as the setting says"
            wanted = {Digest.parse(blob.digest): len(blob.content) for blob in image}
            await bed.until_cached(image)
            await follower.take_until(having(wanted))
            for digest, content in layers(image).items():
                assert await content_of(bed.store, digest) == content
            assert files(bed.folder).items() >= {
                (name_of(digest), wanted[digest]) for digest in layers(image)
            }
            await bed.client.cri.remove_image(name)
        assert len(files(bed.folder)) == 2 * len(LAYERS_BYTES), "layers alone"
        # The user deleted both; others may still want them.
        await collect_garbage(bed.client, NAMESPACE)
        assert all(bed.store.is_cached(digest) for image in images for digest in layers(image))


async def test_layers_that_are_kept_are_not_stored_twice(containerd: RealContainerd, tmp_path: Path) -> None:
    async with bed_over(containerd, tmp_path) as bed:
        image = fresh_image()
        await bed.pull(image)
        assert bed.kept_by_containerd(image) == layers(image).keys()
        await eventually(lambda: layers(image).keys() <= bed.fates.told.keys())
        assert {bed.fates.told[digest] for digest in layers(image)} == {Fate.STAYS}
        assert files(bed.folder) == {}


async def test_when_containerd_begins_to_keep_layers_the_cache_gives_them_up(
    containerds: Containerds, tmp_path: Path
) -> None:
    containerd = await containerds.get("2.1", variant="-switching", extra_config=discarding((2, 1)))
    image = fresh_image()
    async with bed_over(containerd, tmp_path) as bed:
        name = await bed.pull(image)
        await bed.until_cached(image)
        await bed.client.cri.remove_image(name)
        await collect_garbage(bed.client, NAMESPACE)
        await containerd.stop()
        containerd.extra_config = ""
        await containerd.start()
        await eventually(lambda: bed.store.unavailable is None)
        await bed.pull(image)
        assert bed.kept_by_containerd(image) == layers(image).keys()
        await eventually(lambda: files(bed.folder) == {})
        for digest, content in layers(image).items():
            assert await content_of(bed.store, digest) == content
