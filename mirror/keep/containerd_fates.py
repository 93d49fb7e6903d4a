"""Asks this host's containerd what becomes of blobs: the labels of its manifests, and the layers that these list.

Connects for each question: there is one a pull, or a few, and none between.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path

from containerd.client import Client
from containerd.content import Content
from containerd.errors import ContainerdError, NotFound
from containerd.filters import present
from containerd.types import ContentInfo
from mirror.errors import StoreUnavailable
from mirror.keep.fates import CONFIG_LABEL, FIRST_MANIFEST_LABEL, Fate, Fates
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES, ManifestInvalid, parse_manifest

# Layers of so many manifests are remembered: some kilobytes each, and more images than kubelet lets a host have.
REMEMBERED_MAX_COUNT = 256

_DOCUMENTS = (present("labels", CONFIG_LABEL), present("labels", FIRST_MANIFEST_LABEL))


class ContainerdFates:
    """Implements `FateSource`."""

    def __init__(self, socket_path: Path, *, namespaces: Sequence[str]) -> None:
        self._socket_path = socket_path
        self._namespaces = tuple(namespaces)
        # The least recently used first.
        self._layers: OrderedDict[str, frozenset[Digest]] = OrderedDict()

    async def fates(self, digests: Collection[Digest]) -> Mapping[Digest, Fate]:
        try:
            async with Client(self._socket_path) as client:
                return await self._ask(client, digests)
        except ContainerdError as exc:
            raise StoreUnavailable(f"what containerd keeps cannot be told: {exc}") from exc

    async def _ask(self, client: Client, digests: Collection[Digest]) -> dict[Digest, Fate]:
        gathered = Fates()
        keepless: list[tuple[Content, ContentInfo]] = []
        for namespace in self._namespaces:
            content = client.content(namespace)
            async with aclosing(content.list(*_DOCUMENTS)) as infos:
                keepless += [
                    (content, info) async for info in infos if gathered.note(info.digest, info.labels)
                ]
        # The pull under way is among the newest, and most of the others are of no interest.
        keepless.sort(key=lambda found: found[1].created_at, reverse=True)
        for content, info in keepless:
            if all(gathered.of(digest) is not None for digest in digests):
                break
            gathered.note_layers(await self._layers_of(content, info))
        return {digest: fate for digest in digests if (fate := gathered.of(digest)) is not None}

    async def _layers_of(self, content: Content, info: ContentInfo) -> frozenset[Digest]:
        known = self._layers.pop(info.digest, None)
        if known is None:
            known = await _read_layers(content, info)
        self._layers[info.digest] = known
        if len(self._layers) > REMEMBERED_MAX_COUNT:
            self._layers.popitem(last=False)
        return known


async def _read_layers(content: Content, info: ContentInfo) -> frozenset[Digest]:
    """And the config, which stays: its manifest refers to it."""
    if info.size_bytes > MANIFEST_MAX_BYTES:
        return frozenset()
    try:
        async with aclosing(content.read(info.digest)) as chunks:
            document = b"".join([chunk async for chunk in chunks])
        return frozenset(child.digest for child in parse_manifest(document).children)
    except (NotFound, ManifestInvalid):
        # Gone since it was listed, or an artifact of a kind that no runtime unpacks.
        return frozenset()
