"""Which images the admin API lists, and how much of each is here: read from their own documents, when somebody asks.

Rules
1. CRI gives a pull three names: by tag, by digest, and `sha256:` with its config's. The last is none that a person
   gave, and one by digest is listed only where no tag of its repository points to the same.
2. An index counts with those of its manifests that are here: a host has one platform of many.
3. Documents are read in a thread, one after the other, and each once an answer; answers are made one at a time. Nothing
   is kept between them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from mirror.admin.answers import Image, Images
from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES, Manifest, ManifestInvalid, parse_manifest
from mirror.store.base import ContentStore

# More than kubelet lets a host keep by far.
IMAGES_MAX_COUNT: Final = 1000
# An index and a manifest for each of them, and some more: each costs 0.2 ms, in a thread. Images beyond it are listed
# without their size.
DOCUMENTS_MAX_COUNT: Final = 3000

_CONFIG_NAME: Final = "sha256:"


class Named(Protocol):
    """As `mirror.store.containerd_images.NamedImage`."""

    @property
    def name(self) -> str: ...

    @property
    def namespace(self) -> str: ...

    @property
    def digest(self) -> Digest: ...


@dataclass(frozen=True, slots=True)
class ImagePorts:
    """`named` None: the store has no names. `is_advertised`: of a digest; `is_tag_advertised`: of an image's name."""

    store: ContentStore
    named: Callable[[], Awaitable[Sequence[Named]]] | None
    is_advertised: Callable[[Digest], bool]
    is_tag_advertised: Callable[[str], bool]


class ImageList:
    def __init__(self, ports: ImagePorts) -> None:
        self._ports = ports
        self._one_at_a_time = asyncio.Lock()

    async def answer(self) -> Images:
        """Raises: StoreUnavailable."""
        if self._ports.named is None:
            return Images(store="directory", total=0, truncated=False, images=[])
        async with self._one_at_a_time:
            shown = without_doubles(await self._ports.named())
            looking = _Looking(self._ports.store)
            images = [await self._image(one, looking) for one in shown[:IMAGES_MAX_COUNT]]
        return Images(store="containerd", total=len(shown), truncated=len(images) < len(shown), images=images)

    async def _image(self, one: Named, looking: _Looking) -> Image:
        blobs = await looking.blobs(one.digest)
        size_bytes = self._ports.store.size_bytes
        return Image(
            name=one.name,
            namespace=one.namespace,
            digest=str(one.digest),
            size_bytes=None if blobs is None else sum(blobs.values()),
            blobs=None if blobs is None else len(blobs),
            blobs_here=None if blobs is None else sum(size_bytes(digest) is not None for digest in blobs),
            advertised=self._ports.is_advertised(one.digest),
            tag_advertised=self._ports.is_tag_advertised(one.name),
        )


def without_doubles(named: Iterable[Named]) -> list[Named]:
    """By name, without those that only CRI gave."""
    images = sorted(named, key=lambda one: (one.name, one.namespace))
    tagged = {(_repository(one.name), one.namespace, one.digest) for one in images if "@" not in one.name}
    return [
        one
        for one in images
        if not one.name.startswith(_CONFIG_NAME)
        and ("@" not in one.name or (_repository(one.name), one.namespace, one.digest) not in tagged)
    ]


def _repository(name: str) -> str:
    """Of `repository:tag` and `repository@digest`; a port's colon is in another part."""
    path, at, _ = name.partition("@")
    head, slash, last = path.rpartition("/")
    return head + slash + (last if at else last.partition(":")[0])


class _Looking:
    """One answer's look into documents."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._read: dict[Digest, Manifest | None] = {}

    async def blobs(self, target: Digest) -> dict[Digest, int] | None:
        """The sizes of all blobs of what is here of an image, its documents included. None: nothing is."""
        manifest, size_bytes = await self._manifest(target), self._store.size_bytes(target)
        if manifest is None or size_bytes is None:
            return None
        blobs = {target: size_bytes}
        if not manifest.is_index:
            return blobs | {one.digest: one.size_bytes for one in manifest.children}
        is_any_here = False
        for one in manifest.children:
            inner = await self._manifest(one.digest)
            if inner is not None:
                is_any_here = True
                blobs[one.digest] = one.size_bytes
                blobs |= {child.digest: child.size_bytes for child in inner.children}
        return blobs if is_any_here else None

    async def _manifest(self, digest: Digest) -> Manifest | None:
        """None: it is not here, is none, or was not looked at any more."""
        if digest in self._read:
            return self._read[digest]
        size_bytes = self._store.size_bytes(digest)
        if size_bytes is None or size_bytes > MANIFEST_MAX_BYTES or len(self._read) >= DOCUMENTS_MAX_COUNT:
            return None
        self._read[digest] = found = await self._open(digest)
        return found

    async def _open(self, digest: Digest) -> Manifest | None:
        try:
            blob = await self._store.open(digest)
        except (ContentNotFound, StoreUnavailable):
            return None
        try:
            if blob.descriptor is not None:
                return await asyncio.to_thread(_parsed_file, blob.descriptor, blob.size_bytes)
            chunks = [chunk async for chunk in blob.chunks(ByteSpan(0, blob.size_bytes))]
            return await asyncio.to_thread(_parsed, b"".join(chunks))
        except (StoreUnavailable, OSError):
            return None
        finally:
            blob.close()


def _parsed_file(descriptor: int, size_bytes: int) -> Manifest | None:
    return _parsed(os.pread(descriptor, size_bytes, 0))


def _parsed(data: bytes) -> Manifest | None:
    try:
        return parse_manifest(data)
    except ManifestInvalid:
        return None
