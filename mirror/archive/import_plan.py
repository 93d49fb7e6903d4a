"""What an import will do, all of it known and judged before the first byte is written. Values, and a check of names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.archive.container import CHUNK_BYTES, Container
from mirror.archive.documents import Reference
from mirror.archive.errors import ArchiveInvalid, ImageNameInvalid
from mirror.archive.names import normalised
from mirror.oci.digest import Digest

# Manifests and configs, which are held until they are written, of all images of an archive: some kilobytes each.
HELD_MAX_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class BlobToWrite:
    """`data`: the bytes; None: they are the file `entry` of `container`. `labels` are for containerd."""

    digest: Digest
    size_bytes: int
    container: Container
    entry: str = ""
    data: bytes | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def chunks(self) -> Iterator[bytes]:
        """Blocks. Raises: ArchiveInvalid."""
        if self.data is None:
            return self.container.chunks(self.entry)
        data = self.data
        return (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))


@dataclass(frozen=True, slots=True)
class ImageToImport:
    """`names` are normalised; empty: it has none yet. `absent`: platforms of its index that the archive
    does not have."""

    target: Reference
    blobs: tuple[Digest, ...]
    names: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImportPlan:
    images: tuple[ImageToImport, ...]
    blobs: Mapping[Digest, BlobToWrite]

    @property
    def size_bytes(self) -> int:
        return sum(blob.size_bytes for blob in self.blobs.values())

    def in_order(self) -> list[BlobToWrite]:
        """Files of each archive in the order in which they are read best, then documents, which are in memory."""
        found: list[BlobToWrite] = []
        for container in {id(blob.container): blob.container for blob in self.blobs.values()}.values():
            by_entry: dict[str, list[BlobToWrite]] = {}
            for blob in self.blobs.values():
                if blob.container is container and blob.data is None:
                    by_entry.setdefault(blob.entry, []).append(blob)
            found += [blob for entry in container.in_order(by_entry) for blob in by_entry[entry]]
        return found + [blob for blob in self.blobs.values() if blob.data is not None]


def check_held(blobs: Mapping[Digest, BlobToWrite]) -> None:
    """Raises: ArchiveInvalid."""
    if sum(len(blob.data) for blob in blobs.values() if blob.data is not None) > HELD_MAX_BYTES:
        raise ArchiveInvalid(f"it has more than {HELD_MAX_BYTES} bytes of manifests and configs")


def named(plans: Sequence[tuple[str, ImportPlan]], name: str | None) -> ImportPlan:
    """All archives as one plan, every image with a name. `plans`: with the title of each archive. `name`: the user's.
    Raises: ImageNameInvalid."""
    images = [(title, image) for title, plan in plans for image in plan.images]
    if name is not None:
        images = _renamed(images, name)
    owners: dict[str, Digest] = {}
    for title, image in images:
        if not image.names:
            raise ImageNameInvalid(
                f"{title}: the image {image.target.digest} has no name: give it one with --name"
                + ("" if len(images) == 1 else ", from an archive of its own")
            )
        for one in image.names:
            if owners.setdefault(one, image.target.digest) != image.target.digest:
                raise ImageNameInvalid(
                    f"{title}: {one} is the name of two images, {owners[one]} and {image.target.digest}"
                )
    return ImportPlan(
        tuple(_merged(image for _, image in images)),
        {digest: blob for _, plan in plans for digest, blob in plan.blobs.items()},
    )


def _renamed(images: list[tuple[str, ImageToImport]], name: str) -> list[tuple[str, ImageToImport]]:
    digests = {image.target.digest for _, image in images}
    if len(digests) != 1:
        raise ImageNameInvalid(f"--name {name[:200]} is one name, and there are {len(digests)} images")
    new = normalised(name, *digests)
    return [(title, replace(image, names=(new,))) for title, image in images]


def _merged(images: Iterable[ImageToImport]) -> list[ImageToImport]:
    """Each target once, with all its names, and with the platforms that any archive has."""
    found: dict[Digest, ImageToImport] = {}
    for image in images:
        before = found.get(image.target.digest)
        if before is not None:
            image = ImageToImport(
                image.target,
                tuple(dict.fromkeys((*before.blobs, *image.blobs))),
                tuple(dict.fromkeys((*before.names, *image.names))),
                tuple(one for one in before.absent if one in image.absent),
            )
        found[image.target.digest] = image
    return list(found.values())
