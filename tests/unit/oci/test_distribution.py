import pytest

from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.distribution import (
    ByDigest,
    ByTag,
    NameInvalid,
    PathUnknown,
    ReferenceInvalid,
    canonical_registry,
    parse_path,
)

D = Digest.of(b"d")


@pytest.mark.parametrize(
    ("path", "ns", "registry", "repository"),
    [
        (f"/v2/library/nginx/manifests/{D}", "docker.io", "docker.io", "library/nginx"),
        (f"/v2/library/nginx/manifests/{D}", None, "docker.io", "library/nginx"),
        (f"/v2/a/b/c/d/blobs/{D}", "reg.example:8443", "reg.example:8443", "a/b/c/d"),
        (f"/v2/ghcr.io/org/app/blobs/{D}", None, "ghcr.io", "org/app"),
        (f"/v2/reg.example:5000/app/blobs/{D}", None, "reg.example:5000", "app"),
        (f"/v2/localhost/app/blobs/{D}", None, "localhost", "app"),
        (f"/v2/reg.example__5000/app/blobs/{D}", None, "reg.example:5000", "app"),
        (f"/v2/reg__5000/app/blobs/{D}", None, "reg:5000", "app"),
        (f"/v2/reg.example__5000/app/blobs/{D}", "reg.example:5000", "reg.example:5000", "app"),
        (f"/v2/a__b/app/blobs/{D}", None, "docker.io", "a__b/app"),
        (f"/v2/a__5000/app/blobs/{D}", "ghcr.io", "ghcr.io", "a__5000/app"),
        (f"/v2/ghcr.io/org/app/blobs/{D}", "ghcr.io", "ghcr.io", "org/app"),
        (f"/v2/ghcr.io/org/app/blobs/{D}", "quay.io", "quay.io", "ghcr.io/org/app"),
        (f"/v2/library/nginx/blobs/{D}", "registry-1.docker.io", "docker.io", "library/nginx"),
        (f"/v2/library/nginx/blobs/{D}", "GHCR.io", "ghcr.io", "library/nginx"),
        (f"/v2/manifests/blobs/{D}", None, "docker.io", "manifests"),
        (f"/v2/x/manifests/manifests/{D}", None, "docker.io", "x/manifests"),
        (f"/v2/app/blobs/{D}", "[fd00::1]:5000", "[fd00::1]:5000", "app"),
    ],
)
def test_ns_wins_over_the_path(path: str, ns: str | None, registry: str, repository: str) -> None:
    wanted = parse_path(path, ns)
    assert (wanted.registry, wanted.repository, wanted.reference) == (registry, repository, ByDigest(D))
    assert wanted.is_manifest == (path.rsplit("/", 2)[1] == "manifests")


def test_a_tag_is_a_tag() -> None:
    wanted = parse_path("/v2/library/nginx/manifests/1.25-alpine", "docker.io")
    assert wanted.reference == ByTag("1.25-alpine")
    assert wanted.image_name == "docker.io/library/nginx:1.25-alpine"


def test_an_image_name_by_digest() -> None:
    assert parse_path(f"/v2/app/blobs/{D}", "ghcr.io").image_name == f"ghcr.io/app@{D}"


@pytest.mark.parametrize(
    ("path", "ns", "error"),
    [
        ("/v2/app/tags/list", None, PathUnknown),
        ("/v2/_catalog", None, PathUnknown),
        (f"/v2/manifests/{D}", None, PathUnknown),
        ("/v2/app/blobs/latest", None, DigestInvalid),
        ("/v2/app/manifests/sha256:zz", None, DigestInvalid),
        ("/v2/app/manifests/-bad", None, ReferenceInvalid),
        ("/v2/app/manifests/" + "t" * 129, None, ReferenceInvalid),
        (f"/v2/App/blobs/{D}", None, NameInvalid),
        (f"/v2/../etc/blobs/{D}", "ghcr.io", NameInvalid),
        (f"/v2/a//b/blobs/{D}", "ghcr.io", NameInvalid),
        (f"/v2/a/../b/blobs/{D}", "ghcr.io", NameInvalid),
        (f"/v2/{'a' * 300}/blobs/{D}", "ghcr.io", NameInvalid),
        (f"/v2/app/blobs/{D}", "evil.example/path", NameInvalid),
        (f"/v2/app/blobs/{D}", "..", NameInvalid),
        (f"/v2/app/blobs/{D}", "a b", NameInvalid),
        (f"/v2/app/blobs/{D}", "user@host", NameInvalid),
        (f"/v2/app/blobs/{D}", "host:port", NameInvalid),
    ],
)
def test_what_the_grammar_refuses(path: str, ns: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_path(path, ns)


@pytest.mark.parametrize("name", ["docker.io", "index.docker.io", "Registry-1.docker.io"])
def test_docker_hub_has_one_spelling(name: str) -> None:
    assert canonical_registry(name) == "docker.io"
