"""What the ladder of one digest is to know of the swarm, and the neighbours of both. Compares with what was told last.

Decides nothing but what is news.
"""

from __future__ import annotations

from collections.abc import Callable

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import NOTHING, Mesh
from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.sizes import Sizes
from mirror.herd.swarming import Swarming
from mirror.steer.ladder import Ladder

_NOTHING_KNOWN = on.SourceProgress(0, 0, None, is_rooted=False)


class Reports:
    """`resize` begins again with another size than was believed."""

    def __init__(
        self,
        ladder: Ladder,
        ports: TransferPorts,
        mesh: Mesh,
        pump: Pump,
        lone: LoneStreams,
        sizes: Sizes,
        own_ingest: OwnIngest,
        *,
        swarming: Callable[[], Swarming | None],
        resize: Callable[[int], Swarming | None],
    ) -> None:
        self._ladder = ladder
        self._ports = ports
        self._mesh = mesh
        self._pump = pump
        self._lone = lone
        self._sizes = sizes
        self._own_ingest = own_ingest
        self._swarming = swarming
        self._resize = resize
        self._told = _NOTHING_KNOWN
        self._is_gone_told = True

    def named_anew(self) -> None:
        """The ladder named sources: it is to hear when they are of no use, too."""
        self._is_gone_told = False

    def look(self) -> None:
        """After each round of events."""
        self._look()
        self._lone.look()

    def _look(self) -> None:
        progress = self._offer()
        told, is_any = self._told, progress.is_any
        # Looks at all neighbours: not while somebody has more, after each piece.
        is_hopeful = not is_any and self._mesh.is_hopeful(self._is_useless)
        if is_hopeful and not told.is_any and progress.prefix_bytes == told.prefix_bytes:
            # Somebody is being asked, or has nothing yet: that is no end.
            return
        if is_any:
            self._is_gone_told = False
        elif not self._is_gone_told and not is_hopeful:
            other_bytes = self._sizes.other_bytes()
            if other_bytes is not None:
                self._pump.changed()
                self._resize(other_bytes)
                return
            # Before the progress, which alone would say that they have no more just now.
            self._is_gone_told = True
            self._pump.put(on.SourcesGone())
        if progress != told:
            self._told = progress
            self._pump.put(progress)

    def _offer(self) -> on.SourceProgress:
        """To the neighbours; the rest is for the ladder."""
        swarm, is_fed = self._swarming(), self._ladder.is_fed_from_origin
        if swarm is None:
            self._mesh.offer(NOTHING)
            return _NOTHING_KNOWN
        self._mesh.offer(swarm.offer(is_fed_from_origin=is_fed and not self._own_ingest.is_committed))
        return self._lone.seen(swarm.progress(is_fed_from_origin=is_fed))

    def _is_useless(self, source_id: swarming.SourceId) -> bool:
        if self._ports.avoided.has_lied(source_id):
            return True
        swarm = self._swarming()
        return swarm is not None and swarm.is_useless(source_id)
