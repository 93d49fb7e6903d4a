"""Which layers of an image this host's containerd will ask for, though it has not yet. Pure; fetches nothing.

containerd asks for three layers at a time, from 2.x on in no order, and holds a place with each that it waits for. So
hosts that start together read different layers, while the origin brings others: what they lack, they have no place for.

Rules
1. containerd fetches all layers from the first on that it has not unpacked (its unpacker, 1.6 to 2.1): those above the
   lowest that it asked for are certain to be wanted. Of those below nothing is known.
2. Nothing is certain before it was given bytes of one of them: who is sent to the origin fetches all there.
3. When it reads none of them any more, its pull is over or was given up: nothing more is wanted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from mirror.oci.digest import Digest

# Images that are pulled at one time.
IMAGES_MAX_COUNT = 64
# Each has a swarm, and a file once a piece of it comes. The claimant's containerd reads three at a time, and any of an
# image's layers may be among them: few images have more.
AHEAD_MAX_COUNT = 16


@dataclass(slots=True)
class _Image:
    layers: tuple[Digest, ...]
    asked: set[int] = field(default_factory=set)


class Ahead:
    def __init__(self) -> None:
        self._images: OrderedDict[tuple[Digest, ...], _Image] = OrderedDict()
        # Of several images with the same layer the one whose manifest was asked for last.
        self._by_layer: dict[Digest, _Image] = {}

    def learn(self, layers: Iterable[Digest]) -> None:
        """The layers of an image whose manifest was just asked for, the lowest first."""
        key = tuple(dict.fromkeys(layers))
        self._forget(self._images.pop(key, None))
        image = self._images[key] = _Image(key)
        for layer in key:
            self._by_layer[layer] = image
        while len(self._images) > IMAGES_MAX_COUNT:
            self._forget(self._images.popitem(last=False)[1])

    def asked(self, layer: Digest) -> None:
        image = self._by_layer.get(layer)
        if image is not None:
            image.asked.add(image.layers.index(layer))

    def wanted_with(self, layer: Digest) -> Sequence[Digest]:
        """It is being read: what else will be asked for, the lowest first."""
        image = self._by_layer.get(layer)
        return () if image is None else _ahead(image)

    def unread(self, is_read: Callable[[Digest], bool]) -> list[Digest]:
        """What was wanted with layers of which none is read any more."""
        return [
            layer
            for image in self._images.values()
            if not any(map(is_read, image.layers))
            for layer in _ahead(image)
        ]

    def _forget(self, image: _Image | None) -> None:
        for layer in () if image is None else image.layers:
            if self._by_layer.get(layer) is image:
                del self._by_layer[layer]


def _ahead(image: _Image) -> list[Digest]:
    if not image.asked:
        return []
    first = min(image.asked)
    later = [
        layer for number, layer in enumerate(image.layers) if number > first and number not in image.asked
    ]
    return later[:AHEAD_MAX_COUNT]
