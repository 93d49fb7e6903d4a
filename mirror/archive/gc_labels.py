"""The labels by which containerd's garbage collection gets from a document to what it names. Pure.

Rules
1. As containerd's own importer sets them: `config` for an image's config, `l.N` for layers, `m.N` for manifests, and a
   bare number for all else, such as an index within an index or what an attestation holds. Each kind counts from 0.
2. What is absent is named, too: it is kept when it comes.

Source: containerd, `images.ChildGCLabels` and `SetChildrenMappedLabels`.
"""

from __future__ import annotations

from collections import Counter

from mirror.archive.documents import DOCKER_CONFIG, OCI_CONFIG, Document, Reference
from mirror.oci.manifest import DOCKER_MANIFEST, OCI_MANIFEST

PREFIX = "containerd.io/gc.ref.content."
_LAYER_PREFIXES = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")


def gc_labels(document: Document) -> dict[str, str]:
    labels: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for child in document.children:
        kind = _kind(child)
        number = counts[kind]
        counts[kind] += 1
        is_counted = number > 0 or kind != "config"
        labels[f"{PREFIX}{kind}{number if is_counted else ''}"] = str(child.digest)
    return labels


def _kind(child: Reference) -> str:
    if child.media_type in (OCI_CONFIG, DOCKER_CONFIG):
        return "config"
    if child.media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
        return "m."
    if child.media_type.startswith(_LAYER_PREFIXES):
        return "l."
    return ""
