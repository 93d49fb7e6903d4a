"""Bodies that come from one complete peer past the swarm: opens their streams, and hands over to the swarm where it is
to bring the rest. Whether to stream is `mirror.swarm.lone_stream`'s to decide; bytes are moved by whoever reads.

At most one of a digest at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from mirror.herd.mesh import Mesh
from mirror.herd.ports import WHOLE_FIRST_MAX_BYTES, TransferPorts
from mirror.herd.reading import PORTION_MAX_BYTES, Reading
from mirror.herd.readings import Readings
from mirror.herd.runs import Spawn
from mirror.herd.swarming import Swarming
from mirror.herd.trial import Trial
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.errors import PeerBusy, PeerDisagrees, PeerError, PeerStalled, PeerUnreachable
from mirror.peer.streams import PeerStream
from mirror.steer.events import SourceProgress
from mirror.swarm.events import SourceId
from mirror.swarm.lone_stream import Answer, Here, choose, is_alone, is_slow

log = logging.getLogger(__name__)

# The ladder hears that a body goes on when this much of it was handed over: at once, also on a slow link.
FIRST_STRETCH_BYTES = 256 * 1024


class LoneStreams:
    """`fall_back` is called with a reading whose bytes, from its position on, are the swarm's to bring. `is_fed`: this
    host's containerd gets it from the origin. `settle` runs the transfer's queue."""

    def __init__(
        self,
        digest: Digest,
        ports: TransferPorts,
        mesh: Mesh,
        readings: Readings,
        trial: Trial,
        *,
        swarming: Callable[[], Swarming | None],
        is_fed: Callable[[], bool],
        fall_back: Callable[[Reading], None],
        settle: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        self._digest = digest
        self._ports = ports
        self._mesh = mesh
        self._readings = readings
        self._trial = trial
        self._swarming = swarming
        self._is_fed = is_fed
        self._fall_back = fall_back
        self._settle = settle
        self._spawn = spawn
        # Whose stream is open, or about to be.
        self._reading: Reading | None = None
        self._stream: PeerStream | None = None
        self._failed: set[SourceId] = set()
        self._changed = asyncio.Event()
        self._count_bytes = 0
        self._waited_s = 0.0

    def takes(self, reading: Reading) -> bool:
        """False: the swarm is to bring it. True: it comes from here, or falls back."""
        if self._ports.streams is None or self._ports.ingests.unavailable is not None:
            return False
        if self._reading is not None or self._choose(reading) is Answer.SWARM:
            return False
        self._reading = reading
        self._spawn(self._open(reading))
        return True

    @property
    def is_open(self) -> bool:
        """A body comes this way."""
        return self._stream is not None

    def look(self) -> None:
        """Something changed."""
        if self._reading is not None:
            self._changed.set()

    def seen(self, progress: SourceProgress) -> SourceProgress:
        """A stream that goes on is a source, whatever else is known."""
        if self._stream is None or progress.size_bytes is None:
            return progress
        return replace(progress, frontier_bytes=progress.size_bytes, is_rooted=True)

    def left(self, reading: Reading) -> None:
        if self._reading is reading:
            self._end()

    # -- opening ---------------------------------------------------------------------------------------------------

    def _here(self, reading: Reading, swarm: Swarming) -> Here:
        assert reading.span is not None
        ahead = swarm.own.mask >> swarm.layout.piece_at(reading.position)
        return Here(
            size_bytes=swarm.layout.size_bytes,
            left_bytes=reading.span.stop - reading.position,
            readers_count=sum(not one.is_head for one in self._readings),
            is_watched=self._ports.ingests.total_bytes(self._digest) == swarm.layout.size_bytes,
            is_fed=self._is_fed(),
            is_held=bool(ahead),
            is_suspect=self._trial.is_suspect,
        )

    def _choose(self, reading: Reading) -> Answer | SourceId:
        swarm = self._swarming()
        if swarm is None or reading.span is None or reading.is_head:
            return Answer.SWARM
        here, standing = self._here(reading, swarm), self._mesh.standing(swarm.is_useless)
        return choose(here, standing, WHOLE_FIRST_MAX_BYTES, self._failed)

    async def _open(self, reading: Reading) -> None:
        stream = None
        try:
            source_id = await self._chosen(reading)
            if source_id is not None:
                stream = await self._ask(source_id, reading)
        except BaseException:
            self._end()
            raise
        if self._reading is not reading:  # it was left meanwhile
            if stream is not None:
                stream.close()
        elif stream is None or self._choose(reading) is Answer.SWARM:
            if stream is not None:
                stream.close()
            self._give_up(reading)
        else:
            self._stream = stream
            self._count_bytes, self._waited_s = 0, 0.0
            reading.streams(stream)
        self._settle()

    async def _chosen(self, reading: Reading) -> SourceId | None:
        """None: nobody, or it took too long to know."""
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        while isinstance(answer := self._choose(reading), Answer):
            ends_at_s = since_s + answer.wait_max_s
            if loop.time() >= ends_at_s:
                return None
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at_s):
                    await self._changed.wait()
        return answer

    async def _ask(self, source_id: SourceId, reading: Reading) -> PeerStream | None:
        swarm, peer = self._swarming(), self._mesh.peer(source_id)
        assert self._ports.streams is not None and swarm is not None and reading.span is not None
        if peer is None:
            return None
        size_bytes = swarm.layout.size_bytes
        stop = None if reading.span.stop == size_bytes else reading.span.stop
        try:
            stream = await self._ports.streams.open(peer, self._digest, reading.position, stop)
            if stream.size_bytes != size_bytes:
                stream.close()
                self._mesh.told_size(source_id, stream.size_bytes)
                told = f"says {stream.size_bytes} bytes of {self._digest}, not {size_bytes}"
                raise PeerDisagrees(source_id, told)
        except PeerError as exc:
            self._note(source_id, exc)
            return None
        return stream

    def _note(self, source_id: SourceId, exc: PeerError) -> None:
        log.debug("%s", exc, extra={"digest": str(self._digest)})
        self._failed.add(source_id)
        if isinstance(exc, PeerBusy):
            return
        peer = self._mesh.peer(source_id)
        if peer is not None and isinstance(exc, PeerUnreachable | PeerStalled):
            self._ports.avoided.unreachable(peer)
        self._mesh.failed(source_id)

    # -- a body that goes on ---------------------------------------------------------------------------------------

    def stretch_stop(self, reading: Reading) -> int:
        """How far its stream may bring it now; where it stands: the rest comes otherwise."""
        swarm, stream = self._swarming(), self._stream
        assert reading.span is not None
        if swarm is None or stream is None:
            return reading.position
        step_bytes = max(swarm.layout.piece_bytes, PORTION_MAX_BYTES)
        if reading.position == reading.span.start:
            return min(reading.span.stop, reading.position + FIRST_STRETCH_BYTES)
        if reading.position % swarm.layout.piece_bytes == 0:
            here, standing = self._here(reading, swarm), self._mesh.standing(swarm.is_useless)
            source_id = str(stream.peer)
            if not is_alone(here, standing) or is_slow(
                self._count_bytes, self._waited_s, standing, source_id
            ):
                self.leave(reading)
                return reading.position
        return min(reading.span.stop, reading.position // step_bytes * step_bytes + step_bytes)

    def streamed(self, span: ByteSpan, waited_s: float) -> None:
        """These bytes came."""
        stream = self._stream
        if stream is None:  # the transfer is closed
            return
        self._ports.count_bytes(stream.peer, span.length_bytes)
        self._count_bytes += span.length_bytes
        self._waited_s += waited_s
        self._trial.fed(str(stream.peer), span)

    def broke(self, reading: Reading, exc: PeerError) -> None:
        """Another stream, or the swarm, goes on from where the reading stands."""
        log.info("%s; its body goes on from elsewhere", exc, extra={"digest": str(self._digest)})
        if self._stream is not None:
            self._note(str(self._stream.peer), exc)
        self.leave(reading)

    def leave(self, reading: Reading) -> None:
        """What brings the rest begins where the reading stands."""
        self._end()
        reading.stream_ended()
        if not self.takes(reading):
            self._give_up(reading)
        self._settle()

    def _give_up(self, reading: Reading) -> None:
        self._reading = None
        if reading.request_id in self._readings:
            self._fall_back(reading)

    def _end(self) -> None:
        """The reading closes its stream."""
        self._reading = self._stream = None
