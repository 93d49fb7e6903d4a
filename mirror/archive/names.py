"""Under which name an image of an archive is known on a host. Pure.

Rules
1. A name is normalised as Docker does: `app` is `docker.io/library/app:latest`. What follows must be a name that a
   registry can have and containerd can pull; a name with a digest must have the image's own.
2. The annotation with the whole name wins over OCI's reference name, which counts only where it is more than a tag.
   What no annotation names has the tags that manifest.json gives to its config.

Source: distribution/reference, `ParseNormalizedNamed`; containerd, `archive.FilterRefPrefix`, and what `ctr images
export` and `docker save` were seen to write.
"""

from __future__ import annotations

from collections.abc import Sequence

from mirror.archive.documents import Reference
from mirror.archive.errors import ImageNameInvalid
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.distribution import DOCKER_HUB, NameInvalid, canonical_registry, is_repository, is_tag

_OFFICIAL = "library"
_DEFAULT_TAG = "latest"
_SHOWN_CHARACTERS = 200


def normalised(text: str, digest: Digest | None = None) -> str:
    """`digest`: of the image, where it is known. Raises: ImageNameInvalid."""
    name, at, stated = text.partition("@")
    registry, repository, tag = _split(name, text)
    if not at:
        return f"{registry}/{repository}:{tag or _DEFAULT_TAG}"
    if tag:
        raise _invalid(text, "has a tag and a digest: give one of them")
    try:
        found = Digest.parse(stated)
    except DigestInvalid as exc:
        raise _invalid(text, str(exc)) from exc
    if digest not in (None, found):
        raise _invalid(text, f"has another digest than its image, {digest}")
    return f"{registry}/{repository}@{found}"


def names_of(reference: Reference, tags_of_config: Sequence[str]) -> tuple[str, ...]:
    """`tags_of_config`: from manifest.json. Empty: it has none. Raises: ImageNameInvalid."""
    found: Sequence[str] = tags_of_config
    if reference.name:
        found = [reference.name]
    elif "/" in reference.ref or ":" in reference.ref or "@" in reference.ref:
        found = [reference.ref]
    return tuple(dict.fromkeys(normalised(one, reference.digest) for one in found))


def tag_of(name: str) -> str:
    """Of a normalised name; empty for one with a digest."""
    return "" if "@" in name else name.rpartition(":")[2]


def _split(name: str, text: str) -> tuple[str, str, str]:
    first, slash, rest = name.partition("/")
    is_registry = slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    registry, path = (first, rest) if is_registry else (DOCKER_HUB, name)
    try:
        if canonical_registry(registry) == DOCKER_HUB:
            registry = DOCKER_HUB
    except NameInvalid as exc:
        raise _invalid(text, str(exc)) from exc
    repository, colon, tag = path.partition(":")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"{_OFFICIAL}/{repository}"
    if not is_repository(repository):
        raise _invalid(text, f"{repository[:_SHOWN_CHARACTERS]!r} is not a repository name (lower case only)")
    if colon and not is_tag(tag):
        raise _invalid(text, f"{tag[:_SHOWN_CHARACTERS]!r} is not a tag")
    return registry, repository, tag


def _invalid(text: str, message: str) -> ImageNameInvalid:
    return ImageNameInvalid(f"the image name {text[:_SHOWN_CHARACTERS]!r} cannot be used: {message}")
