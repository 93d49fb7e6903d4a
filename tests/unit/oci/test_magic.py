from __future__ import annotations

import gzip

import pytest

from mirror.oci.magic import FIRST_BYTES_COUNT, fits

# The time in its header would be part of the names of tests, which both processes of a run must find alike.
GZIP = gzip.compress(b"layer", mtime=0)
ZSTD = bytes.fromhex("28b52ffd") + b"layer"
SKIPPABLE = bytes.fromhex("502a4d18") + b"layer"
LAST_SKIPPABLE = bytes.fromhex("5f2a4d18") + b"layer"
TAR = b"etc/\0\0\0\0"
PAGE = b"<!DOCTYPE html><title>Welcome to our network</title>"

GZIP_TYPES = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    "application/gzip",
    "application/x-gzip",
    "Application/Vnd.OCI.Image.Layer.v1.Tar+GZIP",
    "application/vnd.oci.image.layer.v1.tar+gzip; charset=binary",
]
ZSTD_TYPES = [
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/zstd",
]
OTHER_TYPES = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar+encrypted",
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    "application/octet-stream",
    "text/html",
    "",
]


@pytest.mark.parametrize("media_type", GZIP_TYPES)
def test_a_gzip_layer_begins_as_gzip(media_type: str) -> None:
    assert fits(media_type, GZIP)
    for other in (PAGE, TAR, ZSTD, b"", GZIP[:1], b"\x1f\x8c", b" " + GZIP):
        assert not fits(media_type, other)


@pytest.mark.parametrize("media_type", ZSTD_TYPES)
def test_a_zstd_layer_begins_as_zstd(media_type: str) -> None:
    for content in (ZSTD, SKIPPABLE, LAST_SKIPPABLE):
        assert fits(media_type, content)
    for other in (PAGE, TAR, GZIP, b"", ZSTD[:3], b"\x60\x2a\x4d\x18", b"\n" + ZSTD):
        assert not fits(media_type, other)


@pytest.mark.parametrize("media_type", OTHER_TYPES)
@pytest.mark.parametrize("content", [PAGE, TAR, GZIP, ZSTD, b""])
def test_what_has_no_sign_of_its_own_always_fits(media_type: str, content: bytes) -> None:
    assert fits(media_type, content)


@pytest.mark.parametrize("media_type", GZIP_TYPES + ZSTD_TYPES)
@pytest.mark.parametrize("content", [PAGE, TAR, GZIP, ZSTD, SKIPPABLE])
def test_the_first_bytes_tell_all(media_type: str, content: bytes) -> None:
    assert fits(media_type, content[:FIRST_BYTES_COUNT]) == fits(media_type, content)
