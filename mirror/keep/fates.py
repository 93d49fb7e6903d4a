"""What becomes of a blob once its image is unpacked, read from the labels that containerd's garbage collection goes by.
Pure.

containerd keeps what an image, a lease or a label refers to, and a layer hangs on its manifest by a label alone. A pull
labels the manifest with its children before it asks for the first of them; where it shall not keep layers
(`discard_unpacked_layers`, Talos' own pulls), it leaves the layers out. So a layer that a manifest lists and does not
refer to goes when its pull is over, and that can be read before its first byte is here.

Source: containerd, package `images` (SetChildrenMappedLabels, ChildGCLabelsFilterLayers); seen on 1.6, 1.7 and 2.1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Protocol

from mirror.oci.digest import Digest

_REFERS = "containerd.io/gc.ref.content."
CONFIG_LABEL = f"{_REFERS}config"
FIRST_MANIFEST_LABEL = f"{_REFERS}m.0"
_LAYER_LABEL = f"{_REFERS}l."


class Fate(Enum):
    STAYS = "stays"
    GOES = "goes"


class FateSource(Protocol):
    """The port to whoever knows."""

    async def fates(self, digests: Collection[Digest]) -> Mapping[Digest, Fate]:
        """Of those that can be told. Raises: StoreUnavailable."""
        ...


class Fates:
    """Gathered from the labels of one look. What one manifest keeps stays, whatever others say."""

    def __init__(self) -> None:
        self._stays: set[str] = set()
        self._goes: set[str] = set()

    def note(self, digest: str, labels: Mapping[str, str]) -> bool:
        """A document and its labels. True: it keeps its config and no layer, so tell of its layers."""
        self._stays.add(digest)
        self._stays.update(value for key, value in labels.items() if key.startswith(_REFERS))
        return CONFIG_LABEL in labels and not any(key.startswith(_LAYER_LABEL) for key in labels)

    def note_layers(self, layers: Collection[Digest]) -> None:
        """Those of a document that keeps none."""
        self._goes.update(str(layer) for layer in layers)

    def of(self, digest: Digest) -> Fate | None:
        text = str(digest)
        if text in self._stays:
            return Fate.STAYS
        return Fate.GOES if text in self._goes else None
