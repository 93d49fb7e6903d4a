"""What the relay hands to be kept: all that it verified, and nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mirror.oci.digest import Digest
from mirror.origin.base import Repository
from mirror.relay.errors import RelayMismatch
from tests.support.oci_image import Blob, build_image
from tests.support.relay_bed import relay_bed
from tests.support.token_origin import Good, TokenOrigin

NAME = "team/app"
REPOSITORY = Repository("registry.example", NAME)
IMAGE = build_image(71, [3_000_000, 10_000])
LARGE, SMALL = IMAGE.layers


class Kept(dict[Digest, bytes]):
    def __call__(self, digest: Digest, size_bytes: int, descriptor: int) -> None:
        self[digest] = os.pread(descriptor, size_bytes + 1, 0)


async def test_what_was_verified_is_kept(tmp_path: Path) -> None:
    kept = Kept()
    async with TokenOrigin() as origin, relay_bed(tmp_path, f"{origin.url}/v2", keep=kept) as bed:
        origin.add(IMAGE, NAME, "v1")
        await bed.relay.manifest(REPOSITORY, "v1")
        for blob in (IMAGE.config, *IMAGE.layers):
            await bed.read(REPOSITORY, Digest.parse(blob.digest))
    assert kept == {Digest.parse(blob.digest): blob.content for blob in IMAGE}


async def test_a_part_is_not_kept(tmp_path: Path) -> None:
    """It is not verified either."""
    kept = Kept()
    async with TokenOrigin() as origin, relay_bed(tmp_path, f"{origin.url}/v2", keep=kept) as bed:
        origin.add(IMAGE, NAME, "v1")
        await bed.read(REPOSITORY, Digest.parse(LARGE.digest), "bytes=2000000-")
        assert kept == {}
        # The whole is, and with it what came before.
        await bed.read(REPOSITORY, Digest.parse(LARGE.digest))
        assert list(kept.values()) == [LARGE.content]


async def test_what_cannot_be_kept_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_descriptors(name: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", out_of_descriptors)
    kept = Kept()
    async with TokenOrigin() as origin, relay_bed(tmp_path, f"{origin.url}/v2", keep=kept) as bed:
        origin.add(IMAGE, NAME, "v1")
        assert (await bed.relay.manifest(REPOSITORY, "v1")).data == IMAGE.manifest.content
    assert kept == {}


@pytest.mark.parametrize("blob", [LARGE, SMALL], ids=["large", "small"])
async def test_wrong_bytes_are_not_kept(tmp_path: Path, blob: Blob) -> None:
    kept = Kept()
    async with TokenOrigin() as origin, relay_bed(tmp_path, f"{origin.url}/v2", keep=kept) as bed:
        origin.add(IMAGE, NAME, "v1")
        origin.behave(Good(is_corrupt=True), "blob")
        with pytest.raises(RelayMismatch):
            await bed.read(REPOSITORY, Digest.parse(blob.digest))
        assert kept == {}
