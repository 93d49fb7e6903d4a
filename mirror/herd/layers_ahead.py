"""The layers of the images that the own containerd reads: which transfers fetch before it asks. Knows all transfers;
makes one where `mirror.steer.ahead` says that its layer will be asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from mirror.herd.transfer import Transfer
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.relay.spool import Spool
from mirror.steer.ahead import Ahead
from mirror.store.base import ContentStore


class LayersAhead:
    """`transfer`: that of a layer of a registry's, found or made. `boundary`: a defect in one ends that one."""

    def __init__(
        self,
        transfers: Mapping[Digest, Transfer],
        sizes_bytes: Mapping[Digest, int],
        store: ContentStore,
        spool: Spool,
        *,
        transfer: Callable[[Digest, str], Transfer],
        boundary: Callable[[Digest], AbstractContextManager[None]],
    ) -> None:
        self._ahead = Ahead()
        # What is read, and how many requests read it.
        self._read: Counter[Digest] = Counter()
        self._transfers = transfers
        self._sizes_bytes = sizes_bytes
        self._store = store
        self._spool = spool
        self._transfer = transfer
        self._boundary = boundary

    def learn(self, manifest: Manifest) -> None:
        if manifest.layers:
            self._ahead.learn(layer.digest for layer in manifest.layers)

    def asked(self, digest: Digest) -> None:
        """By a GET."""
        self._read[digest] += 1
        self._ahead.asked(digest)

    def left(self, digest: Digest) -> None:
        """By one that asked."""
        self._read[digest] -= 1
        if not self._read[digest]:
            del self._read[digest]

    def fed(self, digest: Digest) -> None:
        """What will be asked for with it is fetched meanwhile, from those who have this one."""
        fed = self._transfers.get(digest)
        if fed is None:
            return
        peers, new_bytes = fed.ahead.peers(), 0
        for one in self._ahead.wanted_with(digest):
            if self._store.size_bytes(one) is not None:
                continue
            if one not in self._transfers:
                new_bytes += self._sizes_bytes.get(one, 0)
                if not self._spool.is_roomy(new_bytes):
                    return
            with self._boundary(one):
                self._transfer(one, fed.registry).ahead.begin(peers)

    def has_spare(self) -> bool:
        """What is fetched ahead takes nothing from what is read."""
        for digest in self._read:
            transfer = self._transfers.get(digest)
            if transfer is not None and transfer.ahead.is_hungry:
                return False
        return True

    def sweep(self) -> None:
        """To be called every few seconds."""
        for digest in self._ahead.unread(self._is_read):
            transfer = self._transfers.get(digest)
            if transfer is not None:
                with self._boundary(digest):
                    transfer.ahead.stop()

    def _is_read(self, digest: Digest) -> bool:
        transfer = self._transfers.get(digest)
        return transfer is not None and transfer.ahead.is_read
