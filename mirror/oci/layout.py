"""The words of an OCI image layout: names of its files, and of annotations that name an image.

Source: OCI image-spec image-layout.md, annotations.md; the first annotation is containerd's, and Docker's.
"""

from __future__ import annotations

from mirror.oci.digest import Digest

LAYOUT_MARKER = "oci-layout"
LAYOUT_INDEX = "index.json"
LAYOUT_VERSION = "1.0.0"
# Of index.json, what may be read at once: ten thousand names.
INDEX_MAX_BYTES = 4 * 1024 * 1024

# The whole name; and OCI's own, which may be a tag alone.
NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
# Ours: when an import wrote the name, in seconds since 1970.
IMPORTED_AT_ANNOTATION = "peili.io/imported-at"


def blob_entry(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"
