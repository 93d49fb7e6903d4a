"""How large the blob of one transfer is: whose word counts. Makes no swarm.

Rules
1. A manifest's word, and the own containerd's, which has read it, count more than any peer's.
2. Without one the first size that a peer names is tried; where nobody has such a blob, the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mirror.herd.mesh import Mesh
from mirror.herd.ports import TransferPorts
from mirror.herd.runs import Spawn
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerError, PeerStalled, PeerUnreachable

log = logging.getLogger(__name__)


class Sizes:
    """`begin` makes the swarm of a size, if there is none; `is_known`: there is one. `settle` runs the transfer's
    queue."""

    def __init__(
        self,
        digest: Digest,
        ports: TransferPorts,
        mesh: Mesh,
        vouched_bytes: int | None,
        *,
        begin: Callable[[int], object],
        is_known: Callable[[], bool],
        settle: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self._digest = digest
        self._ports = ports
        self._mesh = mesh
        self._begin = begin
        self._is_known = is_known
        self._settle = settle
        self._spawn = spawn
        self.vouched_bytes = vouched_bytes
        self._tried_bytes: set[int] = set()
        self._is_asking = False

    def tried(self, size_bytes: int) -> None:
        self._tried_bytes.add(size_bytes)

    def told(self, size_bytes: int) -> None:
        """By a peer, while nobody vouches for another one."""
        if self.vouched_bytes in (None, size_bytes):
            self._begin(size_bytes)

    def other_bytes(self) -> int | None:
        """Nobody has a blob of the size that was named first, and nobody vouches for it."""
        if not self._is_known() or self.vouched_bytes is not None:
            return None
        return next(iter(sorted(self._mesh.sizes() - self._tried_bytes)), None)

    def ask(self) -> None:
        """Nobody has named it: those are asked who are said to have it whole."""
        if not self._is_known() and not self._is_asking and self._mesh.completes():
            self._is_asking = True
            self._spawn(self._ask())

    async def _ask(self) -> None:
        try:
            for peer in self._mesh.completes():
                if self._is_known():
                    return
                try:
                    size_bytes = await self._ports.client.size_bytes(peer, self._digest)
                except PeerError as exc:
                    log.debug("%s", exc, extra={"digest": str(self._digest)})
                    if isinstance(exc, PeerUnreachable | PeerStalled):
                        self._ports.avoided.unreachable(peer)
                    self._mesh.failed(str(peer))
                else:
                    self._mesh.told_size(str(peer), size_bytes)
                    self.told(size_bytes)
        finally:
            self._is_asking = False
            self._settle()
