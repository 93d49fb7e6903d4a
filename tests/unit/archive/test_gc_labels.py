"""The labels that lead containerd's collector; tests/integration/test_import_real.py compares them with its own."""

from __future__ import annotations

from mirror.archive.documents import DOCKER_CONFIG, OCI_CONFIG, Document, Reference
from mirror.archive.gc_labels import gc_labels
from mirror.oci.digest import Digest
from mirror.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

P = "containerd.io/gc.ref.content"


def document(*media_types: str) -> Document:
    children = tuple(
        Reference(media_type, Digest.of(bytes([number])), 1) for number, media_type in enumerate(media_types)
    )
    return Document("", None, children)


def labels(*media_types: str) -> list[str]:
    found = gc_labels(document(*media_types))
    assert [*found.values()] == [str(Digest.of(bytes([number]))) for number in range(len(media_types))]
    return list(found)


def test_each_kind_counts_from_zero() -> None:
    oci, docker = (
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
    )
    assert labels(OCI_CONFIG, oci, docker) == [f"{P}.config", f"{P}.l.0", f"{P}.l.1"]
    assert labels(DOCKER_CONFIG) == [f"{P}.config"]
    assert labels(OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST) == [f"{P}.m.0", f"{P}.0", f"{P}.m.1"]
    # An attestation.
    assert labels("application/vnd.oci.empty.v1+json", "application/vnd.in-toto+json") == [f"{P}.0", f"{P}.1"]
