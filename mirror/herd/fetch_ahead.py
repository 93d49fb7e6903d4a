"""Carries out `mirror.steer.ahead` for one digest: its swarm fetches though nobody here reads, while there is room on
the way. Never claims, never searches: it has what the neighbours of the layers that are read have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mirror.discovery.base import Peer
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh
from mirror.herd.ports import TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.readings import Readings
from mirror.herd.swarming import Swarming


class FetchAhead:
    def __init__(
        self,
        ports: TransferPorts,
        mesh: Mesh,
        pump: Pump,
        readings: Readings,
        lone: LoneStreams,
        *,
        swarming: Callable[[], Swarming | None],
    ) -> None:
        self._ports = ports
        self._mesh = mesh
        self._pump = pump
        self._readings = readings
        self._lone = lone
        self._swarming = swarming
        self.is_on = False

    def begin(self, peers: Iterable[Peer]) -> None:
        """The own containerd will ask for it. Again, when there are more peers. Without a size nothing is done."""
        swarm = self._swarming()
        if swarm is None or len(self._readings):
            return
        self.is_on = True
        swarm.resume()
        for peer in peers:
            self._mesh.call(peer)
        self._pump.settled()

    def peers(self) -> list[Peer]:
        """For other layers of the same image."""
        return self._mesh.known()

    def stop(self) -> None:
        """The own containerd will not ask, or the disk does not take it. What is here stays for a while."""
        swarm = self._swarming()
        if self.is_on and swarm is not None:
            self.is_on = False
            swarm.fetch_ahead(False)
            swarm.rest()
            self._pump.settled()

    def look(self) -> None:
        """Before each event of the swarm."""
        swarm = self._swarming()
        if not self.is_on or swarm is None:
            return
        if len(self._readings):
            # From here on it is a download as any other.
            self.is_on = False
        swarm.fetch_ahead(self.is_on and self._ports.has_spare())

    @property
    def is_read(self) -> bool:
        """The own containerd is being answered."""
        return any(not reading.is_head for reading in self._readings)

    @property
    def is_hungry(self) -> bool:
        """It is read, and more of it could be had than is asked for: what else is fetched now makes that slower."""
        if not len(self._readings):
            # The usual case, of any number of transfers, at each event of one that is fetched ahead.
            return False
        swarm = self._swarming()
        return swarm is not None and (self._lone.is_open or swarm.has_choice()) and self.is_read
