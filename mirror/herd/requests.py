"""The requests of the own containerd for one digest, between those who answer them and the transfer. Passes on what
each of them tells, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.claiming import Claiming
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh
from mirror.herd.own_bytes import Portion
from mirror.herd.ports import TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.reading import Reading
from mirror.herd.readings import Readings
from mirror.herd.silences import Silences
from mirror.herd.swarming import Swarming
from mirror.herd.trial import Trial
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerError

# What is fetched ahead of its asking hears so often that the own containerd is given bytes; and of new peers at once.
FED_EVERY_S = 0.25


class Requests:
    """Implements `Answering` for the readings that it makes. `is_keen`: the ladder is to know all of them at once."""

    def __init__(
        self,
        digest: Digest,
        pump: Pump,
        mesh: Mesh,
        readings: Readings,
        lone: LoneStreams,
        trial: Trial,
        claiming: Claiming,
        ports: TransferPorts,
        *,
        is_keen: Callable[[], bool],
        swarming: Callable[[], Swarming | None],
    ) -> None:
        self._digest = digest
        self._pump = pump
        self._mesh = mesh
        self._readings = readings
        self._lone = lone
        self._trial = trial
        self._claiming = claiming
        self._silences = Silences(ports.clock, tell=pump.tell, is_keen=is_keen)
        self._fed = ports.fed
        self._clock = ports.clock
        self._fed_again_at = 0.0
        self._known_count = 0
        self._swarming = swarming

    def ask(
        self, request_id: int, byte_range: ByteRange | None, *, is_head: bool, at_fallback: bool
    ) -> Reading:
        reading = Reading(
            self._digest, request_id, byte_range, is_head=is_head, at_fallback=at_fallback, transfer=self
        )
        if not is_head:
            self._trial.asked_again()
        self._readings.add(reading)
        size_bytes = self.size_bytes()
        if size_bytes is None or reading.open(size_bytes) is not None:
            self._claiming.note_joining()
            self._pump.tell(on.Asked(request_id, is_head, reading.range_start, at_fallback))
        return reading

    def left(self, reading: Reading) -> None:
        """The request is over, however it ended."""
        reading.stream_ended()
        self._silences.left(reading)
        self._lone.left(reading)
        if self._readings.remove(reading.request_id) is not None:
            self._pump.put(swarming.ReaderClosed(reading.request_id))
            self._pump.tell(on.Left(reading.request_id))

    def owed(self) -> list[on.Event]:
        """What the ladder was not told of them. It is then."""
        return self._silences.owed()

    def close(self) -> None:
        """The ladder hears no more."""
        self._silences.close()

    # -- as `Answering` --------------------------------------------------------------------------------------------

    def size_bytes(self) -> int | None:
        swarm = self._swarming()
        return None if swarm is None else swarm.layout.size_bytes

    def portions(self, span: ByteSpan) -> list[Portion] | None:
        swarm = self._swarming()
        return None if swarm is None else swarm.portions(span)

    def hold(self) -> AbstractContextManager[None]:
        swarm = self._swarming()
        return nullcontext() if swarm is None else swarm.own.hold()

    async def read(self, span: ByteSpan) -> bytes:
        swarm = self._swarming()
        assert swarm is not None
        return await swarm.own.read(span)

    def begun(self, reading: Reading) -> None:
        self._pump.tell(self._silences.begun(reading))
        # What was fetched ahead of another request may have been given up with that.
        self._fed_again_at = 0.0
        self._feeds()

    def moved(self, reading: Reading) -> None:
        self._pump.tell(swarming.ReaderMoved(reading.request_id, reading.position))
        self._tell(self._silences.moved(reading))
        self._feeds()

    def starved(self, reading: Reading) -> None:
        self._tell(self._silences.lacks(reading))

    def refused(self, event: on.OriginRefused) -> None:
        self._pump.tell(event)

    def stretch_stop(self, reading: Reading) -> int:
        return self._lone.stretch_stop(reading)

    def streamed(self, reading: Reading, span: ByteSpan, waited_s: float) -> None:
        self._lone.streamed(span, waited_s)
        self._tell(self._silences.moved(reading))

    def leave_stream(self, reading: Reading) -> None:
        self._lone.leave(reading)

    def broke(self, reading: Reading, exc: PeerError) -> None:
        self._lone.broke(reading, exc)

    def _tell(self, event: on.Event | None) -> None:
        if event is not None:
            self._pump.tell(event)

    def _feeds(self) -> None:
        now, known_count = self._clock(), self._mesh.known_count
        if now >= self._fed_again_at or known_count > self._known_count:
            self._fed_again_at, self._known_count = now + FED_EVERY_S, known_count
            self._fed(self._digest)
