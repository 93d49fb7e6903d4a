"""What an image is made of: walks from its name's target down, as documents are given to it. Pure.

The caller asks `wanted`, reads these documents, and gives each to `put`; None for one that is not there. Depth and
count are bounded, and no document is wanted twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mirror.archive.documents import DOCUMENT_MAX_BYTES, Document, Reference, parse_document
from mirror.archive.errors import ArchiveInvalid
from mirror.oci.digest import Digest

# An index of indexes is seen in the wild, and nothing deeper.
DEPTH_MAX_COUNT = 4
# Platforms, and an attestation for each; the largest official images have some 20.
DOCUMENTS_MAX_COUNT = 1000
# Of all of them, in memory. A manifest has some kilobytes.
DOCUMENTS_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Node:
    """A document that is there."""

    reference: Reference
    data: bytes
    document: Document


@dataclass(slots=True)
class ImageTree:
    root: Reference
    nodes: dict[Digest, Node] = field(default_factory=dict)
    absent: dict[Digest, Reference] = field(default_factory=dict)
    _wanted: dict[Digest, tuple[Reference, int]] = field(default_factory=dict)
    _held_bytes: int = 0

    def __post_init__(self) -> None:
        self._want(self.root, 0)

    def wanted(self) -> tuple[Reference, ...]:
        return tuple(reference for reference, _ in self._wanted.values())

    def put(self, digest: Digest, data: bytes | None) -> None:
        """Raises: ArchiveInvalid, also where the bytes are not those of the digest."""
        reference, depth = self._wanted.pop(digest)
        if data is None:
            self.absent[digest] = reference
            return
        if len(data) != reference.size_bytes:
            raise ArchiveInvalid(
                f"{digest} has {len(data)} bytes, and what refers to it says {reference.size_bytes}"
            )
        if not digest.matches(data):
            raise ArchiveInvalid(f"{digest} has other bytes than its digest says: the archive is damaged")
        self._held_bytes += len(data)
        if self._held_bytes > DOCUMENTS_MAX_BYTES:
            raise ArchiveInvalid(f"{self.root.digest} has more than {DOCUMENTS_MAX_BYTES} bytes of manifests")
        document = parse_document(data, reference.media_type, str(digest))
        self.nodes[digest] = Node(reference, data, document)
        if document.is_index:
            for child in document.children:
                # An index may name other things besides, which are no images.
                if child.is_document:
                    self._want(child, depth + 1)

    def manifests(self) -> Iterator[Node]:
        """Those that are there, in document order."""
        seen: set[Digest] = set()
        waiting = [self.root.digest]
        while waiting:
            node = self.nodes.get(waiting.pop(0))
            if node is None or node.reference.digest in seen:
                continue
            seen.add(node.reference.digest)
            if node.document.is_index:
                waiting = [child.digest for child in node.document.children] + waiting
            else:
                yield node

    def _want(self, reference: Reference, depth: int) -> None:
        if not reference.is_document:
            raise ArchiveInvalid(
                f"{reference.digest} has the media type {reference.media_type[:100]!r}, where an image must be"
            )
        if reference.size_bytes > DOCUMENT_MAX_BYTES:
            raise ArchiveInvalid(
                f"{reference.digest} has {reference.size_bytes} bytes, over the limit of {DOCUMENT_MAX_BYTES}"
            )
        if depth > DEPTH_MAX_COUNT:
            raise ArchiveInvalid(f"{reference.digest}: indexes are nested more than {DEPTH_MAX_COUNT} deep")
        if reference.digest in self.nodes or reference.digest in self.absent:
            return
        if len(self.nodes) + len(self.absent) + len(self._wanted) >= DOCUMENTS_MAX_COUNT:
            raise ArchiveInvalid(f"{self.root.digest} has more than {DOCUMENTS_MAX_COUNT} manifests")
        self._wanted.setdefault(reference.digest, (reference, depth))
