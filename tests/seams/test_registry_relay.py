"""What no peer has, fetched from the origin: for containerd, and whole or not at all for clients that choose once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mirror.oci.scope import ImageScope
from mirror.origin.base import Standing
from tests.support.mirror_host import ask
from tests.support.oci_image import build_image, build_index
from tests.support.recording_mirror import Status
from tests.support.registry_bed import CLOSED, OPEN, RegistryBed, own_tag, registry_bed

IMAGE = build_image(5, [3_000_000, 30_000])
INDEX = build_index(6, [30_000])
BY_DIGEST = f"manifests/{IMAGE.manifest.digest}"
EVERYTHING = [blob.content for blob in IMAGE]


async def pulled_by_podman(bed: RegistryBed, reference: str) -> list[bytes]:
    """In its order; stops at the first refusal."""
    wanted = [f"manifests/{reference}", *(f"blobs/{blob.digest}" for blob in (IMAGE.config, *IMAGE.layers))]
    bodies = []
    for what in wanted:
        answer = await bed.by_podman(OPEN, what)
        if answer.status != 200:
            break
        bodies.append(answer.body)
    return bodies


async def test_containerd_gets_what_no_peer_has(tmp_path: Path) -> None:
    async with registry_bed(IMAGE, spool_in=tmp_path) as bed:
        for blob in (IMAGE.config, *IMAGE.layers):
            assert (await bed.at_first(OPEN, f"blobs/{blob.digest}", "HEAD")).headers[
                "Content-Length"
            ] == str(len(blob.content))
            assert (await bed.at_first(OPEN, f"blobs/{blob.digest}")).body == blob.content
        assert (await bed.at_first(OPEN, BY_DIGEST)).body == IMAGE.manifest.content
        value = bed.host.metrics.value
        assert value("peili_requests_total", kind="manifest", outcome="origin") == 1
        assert value("peili_bytes_total", source="origin") == IMAGE.size_bytes


async def test_a_range_of_a_relayed_blob(tmp_path: Path) -> None:
    layer = IMAGE.layers[0]
    async with registry_bed(IMAGE, spool_in=tmp_path) as bed:
        url = f"{bed.host.registry_url}/v2/{OPEN.name}/blobs/{layer.digest}?ns={OPEN.registry}"
        answer = await ask(url, Range="bytes=1000000-1000099")
        assert (answer.status, answer.body) == (206, layer.content[1_000_000:1_000_100])


async def test_what_only_credentials_open_is_a_miss_without_them(tmp_path: Path) -> None:
    async with registry_bed(IMAGE, spool_in=tmp_path) as bed:
        assert (await bed.at_first(CLOSED, BY_DIGEST)).status == 404
        assert (await bed.at_first(CLOSED, f"blobs/{IMAGE.layers[0].digest}")).status == 404


async def test_nothing_is_relayed_at_the_fallback_host(tmp_path: Path) -> None:
    """Which is asked because the origin has just failed this host."""
    async with registry_bed(IMAGE, spool_in=tmp_path) as bed:
        assert (await bed.at_fallback(OPEN, f"blobs/{IMAGE.layers[1].digest}", "GET")).status == 404
        assert bed.origin.of("blob") == []


@pytest.mark.parametrize("reference", ["1", IMAGE.manifest.digest])
async def test_podman_pulls_through_a_relay(tmp_path: Path, reference: str) -> None:
    async with registry_bed(IMAGE, spool_in=tmp_path) as bed:
        wanted = [blob.content for blob in (IMAGE.manifest, IMAGE.config, *IMAGE.layers)]
        assert await pulled_by_podman(bed, reference) == wanted


async def test_podman_pulls_an_index_through_a_relay(tmp_path: Path) -> None:
    async with registry_bed(INDEX, spool_in=tmp_path) as bed:
        answer = await bed.by_podman(OPEN, "manifests/1")
        assert (answer.status, answer.body) == (200, INDEX.manifest.content)
        child = INDEX.images[1].manifest
        assert (await bed.by_podman(OPEN, f"manifests/{child.digest}")).body == child.content


async def test_podman_is_sent_on_for_what_is_private(tmp_path: Path) -> None:
    """It goes to the registry itself, with its own credentials."""
    async with registry_bed(IMAGE, held=EVERYTHING, spool_in=tmp_path) as bed:
        assert (await bed.by_podman(CLOSED, "manifests/1")).status == 404


async def test_podman_gets_no_manifest_whose_blobs_would_fail(tmp_path: Path) -> None:
    held = [IMAGE.manifest.content, IMAGE.config.content]
    for spool_in in (None, tmp_path):
        async with registry_bed(IMAGE, held=held, spool_in=spool_in) as bed:
            bed.origin.behave(Status(503))
            assert await pulled_by_podman(bed, IMAGE.manifest.digest) == []


@pytest.mark.parametrize("held_count", [2, len(EVERYTHING)])
async def test_podman_gets_an_older_tag_whole_or_not_at_all(tmp_path: Path, held_count: int) -> None:
    held = [blob.content for blob in (IMAGE.manifest, IMAGE.config, *IMAGE.layers)][:held_count]
    async with registry_bed(IMAGE, held=held, own=[own_tag(OPEN, IMAGE)], spool_in=tmp_path) as bed:
        bed.memory.note(OPEN, "1", Standing.PUBLIC, time.time() - 60.0)
        bed.origin.behave(Status(503))
        bodies = await pulled_by_podman(bed, "1")
        assert len(bodies) == (len(EVERYTHING) if held_count == len(EVERYTHING) else 0)


async def test_podman_needs_no_relay_for_what_is_all_here() -> None:
    async with registry_bed(IMAGE, held=EVERYTHING) as bed:
        assert len(await pulled_by_podman(bed, IMAGE.manifest.digest)) == len(EVERYTHING)
        assert bed.origin.journal == []


async def test_podman_gets_no_index_without_a_relay() -> None:
    """Which of its images is wanted nobody knows here."""
    async with registry_bed(INDEX, held=[blob.content for blob in INDEX]) as bed:
        assert (await bed.by_podman(OPEN, f"manifests/{INDEX.manifest.digest}")).status == 404


async def test_a_relay_protects_manifests_too(tmp_path: Path) -> None:
    async with registry_bed(IMAGE, protected=[ImageScope(OPEN.registry, "")], spool_in=tmp_path) as bed:
        assert (await bed.at_first(OPEN, BY_DIGEST)).status == 404
        assert (await bed.at_first(OPEN, f"blobs/{IMAGE.manifest.digest}")).status == 404
        for blob in (IMAGE.config, *IMAGE.layers):
            assert (await bed.at_first(OPEN, f"blobs/{blob.digest}")).body == blob.content
