"""Whom the names of a ladder mean, and who else has the digest as discovery knows it. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.mesh import Mesh
from mirror.herd.ports import Event, TransferPorts
from mirror.oci.digest import Digest
from mirror.steer.claims import NamedPeer, name_of


class Named:
    """`is_resting`: nobody is to be called now."""

    def __init__(
        self,
        digest: Digest,
        ports: TransferPorts,
        mesh: Mesh,
        *,
        tell: Callable[[Event], None],
        is_resting: Callable[[], bool],
    ) -> None:
        self._digest = digest
        self._ports = ports
        self._mesh = mesh
        self._tell = tell
        self._is_resting = is_resting
        self._by_name: dict[bytes, NamedPeer] = {}

    def note(self, found: Iterable[NamedPeer]) -> None:
        for named in found:
            self._by_name[name_of(named.peer)] = named

    def call(self, names: Iterable[bytes]) -> None:
        self._call(named for name in names if (named := self._by_name.get(name)) is not None)

    def _call(self, found: Iterable[NamedPeer]) -> None:
        for one in found:
            if one.is_complete:
                self._mesh.complete(one.peer)
            else:
                self._mesh.call(one.peer)

    async def find_for_head(self) -> None:
        found = await self._ports.find(self._digest)
        self.note(found)
        self._tell(on.ProvidersKnown(tuple(name_of(one.peer) for one in found)))

    async def search(self) -> None:
        """For the swarm."""
        found = await self._ports.find(self._digest)
        self.note(found)
        if not self._is_resting():
            self._call(found)
        self._tell(swarming.SearchEnded())
