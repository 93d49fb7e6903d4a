"""What an export writes, all of it known before the first byte is: which blobs of each image. What must be known for
that is asked of an `ImageSource`; `selection` decides.

An index goes as it is, so that its digest stays; manifests of platforms that are left out are then absent from the
archive, and importers take what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing

from mirror.archive.documents import (
    CONFIG_MAX_BYTES,
    DOCUMENT_MAX_BYTES,
    Platform,
    Reference,
    parse_config,
)
from mirror.archive.errors import ArchiveInvalid, ImageAbsent
from mirror.archive.image_source import ImageSource
from mirror.archive.image_tree import ImageTree, Node
from mirror.archive.selection import NO_PLATFORM, Choice, ImageToExport, ManifestToExport, select
from mirror.oci.digest import Digest


async def plan_export(
    source: ImageSource, texts: Sequence[str], choice: Choice | None
) -> tuple[ImageToExport, ...]:
    """Raises: ImageAbsent, ImageNameInvalid, ArchiveInvalid."""
    images: dict[str, ImageToExport] = {}
    for text in texts:
        found = await source.find(text)
        if found is None:
            raise ImageAbsent(f"there is no image {text[:200]!r} on this host")
        name, target = found
        if name not in images:
            try:
                images[name] = await _image(source, name, target, choice)
            except ArchiveInvalid as exc:
                raise ArchiveInvalid(f"{name} cannot be exported: {exc}") from exc
    return tuple(images.values())


async def _image(source: ImageSource, name: str, target: Reference, choice: Choice | None) -> ImageToExport:
    tree = ImageTree(target)
    while wanted := tree.wanted():
        for one in wanted:
            tree.put(one.digest, await _read(source, one.digest, DOCUMENT_MAX_BYTES))
    sizes = await _sizes(source, tree)
    platforms = {
        reference.digest: await _platform(source, tree, reference, sizes)
        for reference in (*(node.reference for node in tree.manifests()), *tree.absent.values())
    }
    selected, absent = select(name, tree, platforms, sizes, choice)
    blobs = {node.reference.digest: node.reference.size_bytes for node in _indexes(tree)}
    for node in _indexes(tree):
        for child in node.document.children:
            if not child.is_document and child.digest in sizes:
                blobs[child.digest] = child.size_bytes
    manifests = []
    for node in selected:
        config, *layers = node.document.children
        blobs[node.reference.digest] = node.reference.size_bytes
        blobs |= {one.digest: one.size_bytes for one in node.document.children if one.digest in sizes}
        manifests.append(
            ManifestToExport(node.reference, platforms[node.reference.digest], config, tuple(layers))
        )
    return ImageToExport(name, target, tuple(manifests), blobs, absent)


async def _sizes(source: ImageSource, tree: ImageTree) -> dict[Digest, int]:
    """Of leaves that are here."""
    leaves = {
        child.digest
        for node in tree.nodes.values()
        for child in node.document.children
        if not (node.document.is_index and child.is_document)
    }
    sizes = {}
    for digest in leaves:
        size_bytes = await source.size_bytes(digest)
        if size_bytes is not None:
            sizes[digest] = size_bytes
    return sizes


async def _platform(
    source: ImageSource, tree: ImageTree, reference: Reference, sizes: Mapping[Digest, int]
) -> Platform:
    if reference.platform is not None:
        return reference.platform
    node = tree.nodes.get(reference.digest)
    config = node.document.config if node is not None else None
    if config is None or config.digest not in sizes:
        return Platform(NO_PLATFORM, NO_PLATFORM)
    data = await _read(source, config.digest, CONFIG_MAX_BYTES)
    try:
        found = parse_config(data or b"", str(config.digest)).platform
    except ArchiveInvalid:  # Of something else than an image.
        return Platform(NO_PLATFORM, NO_PLATFORM)
    return found if found.os else Platform(NO_PLATFORM, NO_PLATFORM)


async def _read(source: ImageSource, digest: Digest, max_bytes: int) -> bytes | None:
    """Raises: ArchiveInvalid."""
    size_bytes = await source.size_bytes(digest)
    if size_bytes is None:
        return None
    if size_bytes > max_bytes:
        raise ArchiveInvalid(f"{digest} has {size_bytes} bytes, more than the {max_bytes} it may have")
    data = bytearray()
    async with aclosing(source.chunks(digest)) as chunks:
        async for chunk in chunks:
            data += chunk
    return bytes(data)


def _indexes(tree: ImageTree) -> list[Node]:
    return [node for node in tree.nodes.values() if node.document.is_index]
