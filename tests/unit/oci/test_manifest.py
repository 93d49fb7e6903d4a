import json

import pytest

from mirror.oci.digest import Digest
from mirror.oci.errors import ErrorCode, error_body
from mirror.oci.manifest import (
    DOCKER_MANIFEST,
    MANIFEST_MAX_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ManifestInvalid,
    parse_manifest,
)

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(Digest.of(b"c")), "size": 1}
LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": str(Digest.of(b"l")),
    "size": 7,
}


def encode(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, **fields}).encode()


def test_children_come_in_document_order() -> None:
    manifest = parse_manifest(encode(mediaType=OCI_MANIFEST, config=CONFIG, layers=[LAYER, LAYER]))
    assert [child.digest for child in manifest.children] == [
        Digest.of(b"c"),
        Digest.of(b"l"),
        Digest.of(b"l"),
    ]
    assert manifest.children[1] == Descriptor(LAYER["mediaType"], Digest.of(b"l"), 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (encode(mediaType=DOCKER_MANIFEST, config=CONFIG, layers=[]), DOCKER_MANIFEST),
        (encode(config=CONFIG, layers=[]), OCI_MANIFEST),
        (encode(manifests=[]), OCI_INDEX),
        (encode(mediaType=OCI_INDEX, manifests=[LAYER]), OCI_INDEX),
    ],
)
def test_the_media_type_comes_from_the_document(data: bytes, media_type: str) -> None:
    assert parse_manifest(data).media_type == media_type


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        encode(config=CONFIG),
        encode(layers=[LAYER]),
        encode(mediaType="text/html", config=CONFIG, layers=[]),
        encode(schemaVersion=1, fsLayers=[]),
        encode(config={**CONFIG, "digest": "sha256:short"}, layers=[]),
        encode(config={**CONFIG, "size": -1}, layers=[]),
        encode(config={**CONFIG, "size": "1"}, layers=[]),
        encode(config=CONFIG, layers=[]).ljust(MANIFEST_MAX_BYTES + 1),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        parse_manifest(data)


def test_an_error_body_has_the_shape_of_the_specification() -> None:
    body = json.loads(error_body(ErrorCode.BLOB_UNKNOWN, "why"))
    assert body == {
        "errors": [{"code": "BLOB_UNKNOWN", "message": "blob unknown to registry", "detail": "why"}]
    }


def test_no_status_that_containerd_retries_is_meant_for_containerd() -> None:
    """401, 408 and 429 make containerd ask the same host again (measured)."""
    for_peers = {ErrorCode.UNAUTHORIZED, ErrorCode.TOOMANYREQUESTS, ErrorCode.VERSION_UNSUPPORTED}
    assert not [code for code in ErrorCode if code.status in (401, 408, 429) and code not in for_peers]
