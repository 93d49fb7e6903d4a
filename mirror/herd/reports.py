"""What the ladder of one digest is to know of the swarm, and the neighbours of both. Compares with what was told last.

Decides nothing but what is news.

Rules
1. Nothing is looked at where nothing changed that it is made of, but for what changes by time alone.
2. While somebody has more and only numbers grow, the ladder is told of them every PROGRESS_EVERY_S, and before it
   hears of anything else by which it decides (`owed`). All else it is told at once, and all where it drains.
3. Neighbours are offered each piece at once: their channels put together what comes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.alarm import Alarm
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import NOTHING, Mesh
from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.sizes import Sizes
from mirror.herd.swarming import Swarming
from mirror.steer.ladder import Ladder

# What is judged by these numbers takes seconds; each time costs some half a millisecond.
PROGRESS_EVERY_S = 0.25
# A ban ends by time alone.
LOOK_EVERY_S = 1.0

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
        self._told_at = 0.0
        # The last that was found and is not told yet.
        self._owed: on.SourceProgress | None = None
        self._alarm = Alarm(ports.clock, self._time_has_come)
        # What the last look was made of, while somebody has more; and until when it holds.
        self._seen: object = None
        self._look_at = 0.0
        self._is_gone_told = True

    def named_anew(self) -> None:
        """The ladder named sources: it is to hear when they are of no use, too."""
        self._is_gone_told = False
        self._seen = None

    def look(self) -> None:
        """After each round of events."""
        swarm, is_fed = self._swarming(), self._ladder.is_fed_from_origin
        if swarm is None:
            seen: object = None
        else:
            seen = (swarm, swarm.version, is_fed, self._own_ingest.is_committed, self._lone.is_open)
        now = self._ports.clock()
        if seen is None or seen != self._seen or now >= self._look_at:
            self._seen, self._look_at = seen, now + LOOK_EVERY_S
            self._look(swarm, now, is_fed=is_fed)
        self._lone.look()

    def owed(self) -> list[on.Event]:
        """What the ladder was not told. It is then."""
        owed, self._owed = self._owed, None
        if owed is None:
            return []
        self._told, self._told_at = owed, self._ports.clock()
        return [owed]

    def close(self) -> None:
        self._alarm.set(None)

    def _look(self, swarm: Swarming | None, now: float, *, is_fed: bool) -> None:
        progress = self._offer(swarm, is_fed=is_fed)
        told, is_any = self._told, progress.is_any
        if not is_any:
            # Whether there is hope is not only the swarm's matter.
            self._seen = None
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
        self._tell(progress, now)

    def _tell(self, progress: on.SourceProgress, now: float) -> None:
        self._owed = None
        if progress == self._told:
            return
        due_at = self._told_at + PROGRESS_EVERY_S
        if now < due_at and not self._ladder.is_draining and progress.is_mere_growth(self._told):
            self._owed = progress
            self._alarm.set(due_at)
            return
        self._told, self._told_at = progress, now
        self._pump.put(progress)

    def _time_has_come(self) -> None:
        for event in self.owed():
            self._pump.tell(event)

    def _offer(self, swarm: Swarming | None, *, is_fed: bool) -> on.SourceProgress:
        """To the neighbours; the rest is for the ladder."""
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
