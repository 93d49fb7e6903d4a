"""From an archive to a plan: which of the three kinds it is, by what is in it, and what it holds. Blocking.

Rules
1. `oci-layout` and `index.json` make an OCI layout, also where docker save has written a manifest.json besides; else
   `manifest.json` makes a docker-archive. Names of files decide nothing.
2. A manifest needs its config and its layers; only those that may not be given on can be absent. An index needs one
   manifest that is whole: other platforms are told as absent, and what there is of them is imported.
3. Documents are verified here, layers and configs when they are written: nothing refers to them before.
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.archive.container import Container
from mirror.archive.docker_archive import plan_docker_archive
from mirror.archive.documents import (
    DOCKER_INDEX,
    DOCUMENT_MAX_BYTES,
    Reference,
    check_marker,
    parse_docker_index,
    parse_layout_index,
)
from mirror.archive.errors import ArchiveInvalid
from mirror.archive.gc_labels import gc_labels
from mirror.archive.image_tree import ImageTree, Node
from mirror.archive.import_plan import BlobToWrite, ImageToImport, ImportPlan, check_held
from mirror.archive.names import names_of
from mirror.oci.digest import Digest
from mirror.oci.layout import LAYOUT_INDEX, LAYOUT_MARKER, blob_entry

_MARKER_MAX_BYTES = 4096
# More images than any archive has; each is walked.
IMAGES_MAX_COUNT = 1000


def plan_import(container: Container) -> ImportPlan:
    """Raises: ArchiveInvalid, ImageNameInvalid."""
    try:
        return _plan(container)
    except ArchiveInvalid as exc:
        text = str(exc)
        if text.startswith(f"{container.title}: "):
            raise
        raise ArchiveInvalid(f"{container.title}: {text}") from exc


def _plan(container: Container) -> ImportPlan:
    marker = container.read(LAYOUT_MARKER, _MARKER_MAX_BYTES)
    index = container.read(LAYOUT_INDEX, DOCUMENT_MAX_BYTES) if marker is not None else None
    docker_index = container.read(DOCKER_INDEX, DOCUMENT_MAX_BYTES)
    if marker is not None and index is not None:
        check_marker(marker)
        roots = parse_layout_index(index)
        if not roots:
            raise ArchiveInvalid("it has no image: index.json is empty")
        return _plan_layout(container, roots, _tags_by_config(docker_index))
    if docker_index is None:
        raise ArchiveInvalid(
            "neither an OCI layout (oci-layout and index.json) nor a docker-archive (manifest.json)"
        )
    images = parse_docker_index(docker_index)
    if not images:
        raise ArchiveInvalid("it has no image: manifest.json is empty")
    _check_count(len(images))
    return plan_docker_archive(container, images)


def _plan_layout(
    container: Container, roots: tuple[Reference, ...], tags: dict[str, tuple[str, ...]]
) -> ImportPlan:
    _check_count(len(roots))
    blobs: dict[Digest, BlobToWrite] = {}
    images = []
    for root in roots:
        tree = ImageTree(root)
        while wanted := tree.wanted():
            for one in wanted:
                tree.put(one.digest, container.read(blob_entry(one.digest), DOCUMENT_MAX_BYTES))
        if root.digest in tree.absent:
            raise ArchiveInvalid(f"{root.digest}, which index.json names, is not in it")
        found, absent = _blobs(container, tree)
        blobs |= found
        check_held(blobs)
        names = names_of(root, [tag for node in tree.manifests() for tag in tags.get(_config_of(node), ())])
        images.append(ImageToImport(root, tuple(found), names, absent))
    return ImportPlan(tuple(images), blobs)


def _blobs(container: Container, tree: ImageTree) -> tuple[dict[Digest, BlobToWrite], tuple[str, ...]]:
    """And the platforms that are absent."""
    found: dict[Digest, BlobToWrite] = {}
    lacking: dict[Digest, Reference] = {}
    for node in tree.nodes.values():
        found[node.reference.digest] = BlobToWrite(
            node.reference.digest,
            node.reference.size_bytes,
            container,
            data=node.data,
            labels=gc_labels(node.document),
        )
        for leaf in _leaves(node):
            size_bytes = container.size_bytes(blob_entry(leaf.digest))
            if size_bytes is None:
                if not node.document.is_index and not leaf.is_foreign:
                    lacking.setdefault(node.reference.digest, leaf)
                continue
            if size_bytes != leaf.size_bytes:
                raise ArchiveInvalid(
                    f"{leaf.digest} has {size_bytes} bytes, and {node.reference.digest} says {leaf.size_bytes}"
                )
            found[leaf.digest] = BlobToWrite(
                leaf.digest, leaf.size_bytes, container, entry=blob_entry(leaf.digest)
            )
    if all(node.reference.digest in lacking for node in tree.manifests()):
        for digest, leaf in lacking.items():
            raise ArchiveInvalid(f"{leaf.digest}, a part of {digest}, is not in it")
        raise ArchiveInvalid(f"{tree.root.digest} is an index without any manifest that is in it")
    incomplete = [tree.nodes[digest].reference for digest in lacking]
    absent = [_platform(one) for one in (*tree.absent.values(), *incomplete)]
    return found, tuple(dict.fromkeys(absent))


def _leaves(node: Node) -> Iterator[Reference]:
    for child in node.document.children:
        if not (node.document.is_index and child.is_document):
            yield child


def _platform(manifest: Reference) -> str:
    return str(manifest.platform) if manifest.platform is not None else str(manifest.digest)


def _config_of(node: Node) -> str:
    assert node.document.config is not None
    return str(node.document.config.digest)


def _tags_by_config(docker_index: bytes | None) -> dict[str, tuple[str, ...]]:
    """Of an OCI layout that docker save wrote: names of configs are those of blobs."""
    if docker_index is None:
        return {}
    tags: dict[str, tuple[str, ...]] = {}
    for image in parse_docker_index(docker_index):
        _, algorithm, encoded = f"//{image.config}".rsplit("/", 2)
        key = f"{algorithm}:{encoded}"
        tags[key] = (*tags.get(key, ()), *image.tags)
    return tags


def _check_count(count: int) -> None:
    if count > IMAGES_MAX_COUNT:
        raise ArchiveInvalid(
            f"it has {count} images, more than the {IMAGES_MAX_COUNT} that are taken at once"
        )
