"""Which tag an image name of containerd names, and whether its content came from there. Pure.

Rules
1. `registry/repository:tag` is a tag, with docker.io in one spelling. `…@sha256:…`, `sha256:…`, and names without a
   registry, as imports may have, are none.
2. Content came from a registry's repository where containerd's label says so: pulls write it, builds, imports and
   renames do not. The label leaves out the port, so registries on two ports of one host cannot be told apart.

3. A name was imported where the image's own label says so, with the digest that it had then: what the name was moved to
   since was not. That label is written by an import of ours, and says nothing of a registry.

Source: containerd, `docker.AppendDistributionSourceLabel`; seen on 1.6, 1.7 and 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.distribution import ByTag, NameInvalid, canonical_registry, parse_path
from mirror.origin.base import Repository
from mirror.tags.base import TagName

IMPORTED_LABEL = "peili.io/imported"
SOURCE_LABEL = "containerd.io/distribution.source."

# A registry of 255, a repository of 255 and a tag of 128 characters, and what joins them.
NAME_MAX_LENGTH = 640


def parse_tag_name(text: str) -> TagName | None:
    """None: the name of something else."""
    registry, slash, rest = text.partition("/")
    repository, colon, tag = rest.rpartition(":")
    if not (slash and colon) or "@" in text or "/" in tag or len(text) > NAME_MAX_LENGTH:
        return None
    if not ("." in registry or ":" in registry or registry == "localhost"):
        return None
    try:
        asked = parse_path(f"/v2/{repository}/manifests/{tag}", registry)
    except MirrorError:
        return None
    # A repository whose first part repeats the registry is taken for a mirror's path there: it would be another's here.
    if asked.repository != repository or not isinstance(asked.reference, ByTag):
        return None
    return TagName(Repository(asked.registry, repository), tag)


def came_from(labels: Mapping[str, str], repository: Repository) -> bool:
    """`labels` are those of the content that the image points to."""
    host = _without_port(repository.registry)
    return any(
        _canonical(key.removeprefix(SOURCE_LABEL)) == host and repository.name in value.split(",")
        for key, value in labels.items()
        if key.startswith(SOURCE_LABEL)
    )


def was_imported(labels: Mapping[str, str], digest: Digest) -> bool:
    """`labels` are those of the image, not of its content."""
    return labels.get(IMPORTED_LABEL) == str(digest)


def _without_port(registry: str) -> str:
    if registry.startswith("["):
        return registry[1:].partition("]")[0]
    return registry.partition(":")[0]


def _canonical(host: str) -> str:
    try:
        return canonical_registry(host)
    except NameInvalid:  # An IPv6 address, which stands here without brackets.
        return host.lower()
