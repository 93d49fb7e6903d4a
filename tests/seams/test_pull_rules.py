"""The pull rules of the OCI distribution specification, request by request, against the real registry server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES, OCI_MANIFEST
from tests.support.mirror_host import Answer, MirrorHost, ask, mirror_host

LAYER = bytes(range(256)) * 40
CONFIG = b'{"architecture":"amd64"}'
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(CONFIG)),
            "size": len(CONFIG),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": str(Digest.of(LAYER)),
                "size": len(LAYER),
            }
        ],
    }
).encode()
HUGE = b"{" + b" " * MANIFEST_MAX_BYTES + b"}"
BLOB_PATH = f"/v2/team/app/blobs/{Digest.of(LAYER)}"
MANIFEST_PATH = f"/v2/team/app/manifests/{Digest.of(MANIFEST)}"
UNKNOWN = Digest.of(b"nobody has this")


@pytest.fixture(params=["file", "chunks", "peer"])
async def host(request: pytest.FixtureRequest) -> AsyncIterator[MirrorHost]:
    """The same rules hold for a local file, for a store without files, and for content that a peer holds."""
    contents = (LAYER, CONFIG, MANIFEST, HUGE, b"")
    if request.param != "peer":
        async with mirror_host(*contents, has_files=request.param == "file") as made:
            yield made
        return
    async with mirror_host(*contents) as other, mirror_host(peers=[other.peer]) as made:
        yield made


def code(answer: Answer) -> str:
    assert answer.headers["Content-Type"].startswith("application/json")
    errors = json.loads(answer.body)["errors"]
    assert set(errors[0]) == {"code", "message", "detail"}
    return str(errors[0]["code"])


async def test_end_1_the_base_answers_200(host: MirrorHost) -> None:
    for path in ("/v2/", "/v2", "/fallback/v2/"):
        answer = await ask(host.registry_url + path)
        assert (answer.status, answer.headers["Docker-Distribution-API-Version"]) == (200, "registry/2.0")


async def test_end_2_a_blob(host: MirrorHost) -> None:
    answer = await ask(host.registry_url + BLOB_PATH)
    assert (answer.status, answer.body) == (200, LAYER)
    assert answer.headers["Content-Length"] == str(len(LAYER))
    assert answer.headers["Docker-Content-Digest"] == str(Digest.of(LAYER))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Accept-Ranges"] == "bytes"


async def test_a_blob_is_never_compressed(host: MirrorHost) -> None:
    """containerd 2.1 offers codings for layers too, and would decode what it gets."""
    answer = await ask(host.registry_url + BLOB_PATH, Accept_Encoding="zstd;q=1.0, gzip;q=0.8, deflate;q=0.5")
    assert "Content-Encoding" not in answer.headers
    assert answer.body == LAYER


async def test_an_empty_blob(host: MirrorHost) -> None:
    answer = await ask(f"{host.registry_url}/v2/team/app/blobs/{Digest.of(b'')}")
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize(("path", "size_bytes"), [(BLOB_PATH, len(LAYER)), (MANIFEST_PATH, len(MANIFEST))])
async def test_head_tells_what_get_would_send(host: MirrorHost, path: str, size_bytes: int) -> None:
    head, get = await ask(host.registry_url + path, "HEAD"), await ask(host.registry_url + path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["Content-Length"] == str(size_bytes)
    for name in ("Content-Type", "Docker-Content-Digest", "Content-Length", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]


async def test_end_3_a_manifest_has_its_media_type(host: MirrorHost) -> None:
    answer = await ask(
        host.registry_url + MANIFEST_PATH, Accept="application/vnd.docker.distribution.manifest.v2+json"
    )
    assert (answer.status, answer.body) == (200, MANIFEST)
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    assert answer.headers["Docker-Content-Digest"] == str(Digest.of(MANIFEST))


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-", 0, len(LAYER)),
        ("bytes=8192-", 8192, len(LAYER)),
        ("bytes=10-19", 10, 20),
        ("bytes=-7", len(LAYER) - 7, len(LAYER)),
        ("bytes=10-999999", 10, len(LAYER)),
    ],
)
async def test_a_range_is_a_206(host: MirrorHost, header: str, start: int, stop: int) -> None:
    answer = await ask(host.registry_url + BLOB_PATH, Range=header)
    assert (answer.status, answer.body) == (206, LAYER[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(LAYER)}"


async def test_a_range_of_a_manifest_is_a_206(host: MirrorHost) -> None:
    """containerd 2.1 with parallel layer fetch asks for manifests with `bytes=0-` and wants a 206."""
    answer = await ask(host.registry_url + MANIFEST_PATH, Range="bytes=0-")
    assert (answer.status, answer.body) == (206, MANIFEST)


@pytest.mark.parametrize("path", [BLOB_PATH, MANIFEST_PATH])
async def test_a_range_outside_is_a_416_with_the_size(host: MirrorHost, path: str) -> None:
    size_bytes = len(LAYER if path == BLOB_PATH else MANIFEST)
    answer = await ask(host.registry_url + path, Range=f"bytes={size_bytes}-")
    assert (answer.status, answer.headers["Content-Range"], code(answer)) == (
        416,
        f"bytes */{size_bytes}",
        "RANGE_INVALID",
    )


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "lines=0-1", "bytes=5-2", "bytes=x-"])
async def test_a_range_that_is_not_understood_is_ignored(host: MirrorHost, header: str) -> None:
    answer = await ask(host.registry_url + BLOB_PATH, Range=header)
    assert (answer.status, answer.body) == (200, LAYER)


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        (f"/v2/team/app/blobs/{UNKNOWN}", 404, "BLOB_UNKNOWN"),
        (f"/v2/team/app/manifests/{UNKNOWN}", 404, "MANIFEST_UNKNOWN"),
        (f"/fallback/v2/team/app/manifests/{UNKNOWN}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/team/app/manifests/{Digest.of(LAYER)}", 404, "MANIFEST_UNKNOWN"),
        (f"/v2/team/app/manifests/{Digest.of(HUGE)}", 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/app/manifests/latest", 404, "MANIFEST_UNKNOWN"),
        ("/v2/team/app/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("/", 404, "NAME_UNKNOWN"),
        ("/v2/team/app/blobs/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/team/app/blobs/latest", 400, "DIGEST_INVALID"),
        (f"/v2/Team/app/blobs/{UNKNOWN}", 400, "NAME_INVALID"),
        (f"/v2/team/%2e%2e/app/blobs/{UNKNOWN}", 400, "NAME_INVALID"),
        (f"/v2/team/app/blobs/{UNKNOWN}?ns=a/b", 400, "NAME_INVALID"),
        ("/v2/team/app/manifests/-x", 400, "MANIFEST_INVALID"),
    ],
)
async def test_an_error_has_its_code(host: MirrorHost, path: str, status: int, expected: str) -> None:
    get, head = await ask(host.registry_url + path), await ask(host.registry_url + path, "HEAD")
    assert (get.status, code(get)) == (status, expected)
    assert (head.status, head.body) == (status, b"")


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
async def test_a_push_is_unsupported(host: MirrorHost, method: str) -> None:
    answer = await ask(host.registry_url + BLOB_PATH, method)
    assert (answer.status, code(answer), answer.headers["Allow"]) == (405, "UNSUPPORTED", "GET, HEAD")


@pytest.mark.parametrize("query", ["?ns=docker.io", "?ns=reg.example%3A8443", ""])
async def test_any_namespace_gives_the_same_bytes(host: MirrorHost, query: str) -> None:
    assert (await ask(host.registry_url + BLOB_PATH + query)).body == LAYER


async def test_the_namespace_may_stand_in_the_path(host: MirrorHost) -> None:
    """Docker, Podman and CRI-O cannot send `ns`."""
    answer = await ask(f"{host.registry_url}/v2/ghcr.io/team/app/manifests/{Digest.of(MANIFEST)}")
    assert answer.body == MANIFEST
