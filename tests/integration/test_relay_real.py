"""The relay against real servers: docker-registry, and nginx with ranges, without them, and behind a redirect."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.origin.addresses import Place
from mirror.origin.base import Repository
from tests.support.bed_registry import RealRegistry
from tests.support.nginx_origin import nginx_origin
from tests.support.oci_image import build_image
from tests.support.relay_bed import marked_file, relay_bed
from tests.support.skips import tool_bin

NAME = "team/app"
REPOSITORY = Repository("registry.example", NAME)
LAYER_BYTES = 64 << 20


async def test_a_real_registry(tmp_path: Path) -> None:
    image = build_image(41, [9_000_000, 100_000])
    async with (
        RealRegistry(tool_bin("docker-registry"), tmp_path / "registry") as registry,
        relay_bed(tmp_path, f"{registry.url}/v2") as bed,
    ):
        await registry.push(image, NAME, "v1")
        fetched = await bed.relay.manifest(REPOSITORY, "v1")
        assert (str(fetched.digest), fetched.data) == (image.manifest.digest, image.manifest.content)
        for blob in (image.config, *image.layers):
            digest = Digest.parse(blob.digest)
            assert await bed.relay.size_bytes(REPOSITORY, digest) == len(blob.content)
            assert await bed.read(REPOSITORY, digest) == blob.content
        layer = image.layers[0]
        half = len(layer.content) // 2
        first, second = await asyncio.gather(
            bed.read(REPOSITORY, Digest.parse(layer.digest), f"bytes=0-{half - 1}"),
            bed.read(REPOSITORY, Digest.parse(layer.digest), f"bytes={half}-"),
        )
        assert first + second == layer.content
        assert bed.received_bytes == sum(len(blob.content) for blob in (image.config, *image.layers))


@pytest.mark.parametrize("is_redirecting", [False, True], ids=["straight", "redirected"])
async def test_nginx_sends_each_byte_once(tmp_path: Path, is_redirecting: bool) -> None:
    digest = marked_file(tmp_path / "layer", LAYER_BYTES)
    async with nginx_origin(tool_bin("nginx"), tmp_path / "nginx", is_redirecting=is_redirecting) as origin:
        (tmp_path / "layer").rename(origin.blob_path(NAME, digest))
        places = [Place("127.0.0.1", origin.storage_port)]
        async with relay_bed(tmp_path, origin.base, redirect_places=places) as bed:
            assert await bed.sha256(REPOSITORY, digest) == digest.encoded
            assert bed.received_bytes == LAYER_BYTES
    answered = [line for line in origin.log() if line[1] != 307]
    serving_port = origin.storage_port if is_redirecting else origin.port
    assert {(port, status) for port, status, _, _ in answered} == {(serving_port, 206)}
    assert sum(sent_bytes for _, _, _, sent_bytes in answered) == LAYER_BYTES
    assert len(answered) == len({asked for _, _, asked, _ in answered}) > 2


async def test_nginx_that_ignores_ranges_sends_the_blob_once(tmp_path: Path) -> None:
    digest = marked_file(tmp_path / "layer", LAYER_BYTES)
    async with nginx_origin(tool_bin("nginx"), tmp_path / "nginx", ignores_range=True) as origin:
        (tmp_path / "layer").rename(origin.blob_path(NAME, digest))
        async with relay_bed(tmp_path, origin.base) as bed:
            got = await bed.read(REPOSITORY, digest, "bytes=1000000-")
            assert len(got) == LAYER_BYTES - 1_000_000
            assert await bed.sha256(REPOSITORY, digest) == digest.encoded
            assert bed.received_bytes == LAYER_BYTES
    assert [(status, sent_bytes) for _, status, _, sent_bytes in origin.log()] == [(200, LAYER_BYTES)]
