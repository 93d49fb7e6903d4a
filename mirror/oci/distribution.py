"""What a request path of the registry API asks for. Answers nothing, touches nothing.

Rules
1. The namespace is the registry that the image name points to. `?ns=` wins over the path.
2. Without `ns`, a first path component that looks like a host (has a dot or a colon, or is `localhost`) is the
   namespace; else it is docker.io. Clients that cannot send `ns` (Docker, Podman, CRI-O) use this. Podman and CRI-O
   take no colon in a mirror's path (containers/image, seen with skopeo 1.9): there `registry.example__5000` means
   `registry.example:5000`.
3. Names follow the specification's grammar; a namespace follows `host[:port]`.

Source: OCI distribution-spec v1.1 "Pulling manifests" and "Pulling blobs"; containerd's `ns` parameter as traced on
1.6, 1.7 and 2.1 (a port arrives percent-encoded).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.errors import MirrorError
from mirror.oci.digest import Digest

DOCKER_HUB = "docker.io"
_HUB_SPELLINGS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})

# 255 bytes is what containerd and Docker accept for a whole repository name.
NAME_MAX_LENGTH = 255
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\])(?::[0-9]{{1,5}})?")


_SPELLED_PORT = re.compile(r"__([0-9]{1,5})$")


class NameInvalid(MirrorError):
    """A repository or registry name that the grammar refuses."""


class PathUnknown(MirrorError):
    """The path is none of a manifest or a blob."""


class ReferenceInvalid(MirrorError):
    """A tag or digest that the grammar refuses."""


@dataclass(frozen=True, slots=True)
class ByDigest:
    digest: Digest


@dataclass(frozen=True, slots=True)
class ByTag:
    tag: str


@dataclass(frozen=True, slots=True)
class DistributionRequest:
    """A manifest or a blob of `repository` at `registry`. A blob is always asked for by digest."""

    registry: str
    repository: str
    is_manifest: bool
    reference: ByDigest | ByTag

    @property
    def image_name(self) -> str:
        """What `--mirror` and `--filter` are matched against: `registry/repository:tag` or `…@digest`."""
        match self.reference:
            case ByTag(tag):
                return f"{self.registry}/{self.repository}:{tag}"
            case ByDigest(digest):
                return f"{self.registry}/{self.repository}@{digest}"


def canonical_registry(name: str) -> str:
    """Lower-case, docker.io in one spelling. Raises: NameInvalid."""
    if not _REGISTRY.fullmatch(name):
        raise NameInvalid(f"{name[:140]!r} is not a registry: expected host or host:port")
    lowered = name.lower()
    return DOCKER_HUB if lowered in _HUB_SPELLINGS else lowered


def is_repository(name: str) -> bool:
    return len(name) <= NAME_MAX_LENGTH and _NAME.fullmatch(name) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def parse_path(path: str, ns: str | None) -> DistributionRequest:
    """`path` is percent-decoded and begins with /v2/. Raises: PathUnknown, NameInvalid, ReferenceInvalid,
    DigestInvalid."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise PathUnknown(f"{path[:200]!r} is neither a manifest nor a blob")
    name, kind, reference = found["name"], found["kind"], found["reference"]
    first, slash, rest = name.partition("/")
    if ns:
        registry, repository = canonical_registry(ns), name
        # A client may send both: the mirror's path prefix and ns.
        if slash and _looks_like_host(first) and canonical_registry(_with_port(first)) == registry:
            repository = rest
    elif slash and _looks_like_host(first):
        registry, repository = canonical_registry(_with_port(first)), rest
    else:
        registry, repository = DOCKER_HUB, name
    if not is_repository(repository):
        raise NameInvalid(f"{repository[:140]!r} is not a repository name")
    return DistributionRequest(registry, repository, kind == "manifests", _reference(kind, reference))


def _reference(kind: str, text: str) -> ByDigest | ByTag:
    if ":" in text or kind == "blobs":
        return ByDigest(Digest.parse(text))
    if not _TAG.fullmatch(text):
        raise ReferenceInvalid(f"{text[:140]!r} is neither a tag nor a digest")
    return ByTag(text)


def _looks_like_host(component: str) -> bool:
    return (
        "." in component
        or ":" in component
        or component == "localhost"
        or _SPELLED_PORT.search(component) is not None
    )


def _with_port(component: str) -> str:
    return _SPELLED_PORT.sub(r":\1", component)
