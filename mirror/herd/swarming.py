"""The swarm of one digest, carried out: its bytes, its requests to peers, its hash. Begins when the size is known.

Decides nothing: `mirror.swarm` does. What it finds out goes into the transfer's queue.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.alarm import Alarm
from mirror.herd.digesting import Digesting
from mirror.herd.mesh import NOTHING, Mesh, Offer
from mirror.herd.own_bytes import OwnBytes, Portion
from mirror.herd.ports import OWN, WHOLE_FIRST_MAX_BYTES, Put, TransferPorts
from mirror.herd.readings import Readings
from mirror.herd.runs import PeerRuns, Spawn
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.channel import Channel
from mirror.peer.frames import BLOB_MAX_BYTES, DIGESTS_MAX_COUNT
from mirror.swarm.bitfield import Bitfield, mask_of, ones_from
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.swarm import Phase, Swarm

log = logging.getLogger(__name__)


class Swarming:
    """`no_room` is called where the disk does not take the blob, `search` when the swarm wants more sources."""

    def __init__(
        self,
        digest: Digest,
        size_bytes: int,
        ports: TransferPorts,
        rng: random.Random,
        mesh: Mesh,
        readings: Readings,
        *,
        put: Put,
        tell: Callable[[swarming.Event], None],
        no_room: Callable[[str], None],
        search: Callable[[], None],
        spawn: Spawn,
    ) -> None:
        assert 0 < size_bytes <= BLOB_MAX_BYTES, size_bytes
        self._digest = digest
        self._ports = ports
        self._mesh = mesh
        self._readings = readings
        self._put = put
        self._tell = tell
        self._search = search
        self.layout = layout = PieceLayout.of(size_bytes)
        self.own = own = OwnBytes(layout, lambda: ports.make_space(digest, size_bytes))
        self._runs = PeerRuns(
            digest,
            layout,
            own,
            ports.client,
            tell=tell,
            failed=mesh.failed,
            disagreed=mesh.told_size,
            no_room=no_room,
            count_bytes=ports.count_bytes,
            clock=ports.clock,
            spawn=spawn,
        )
        self.digesting = Digesting(digest, layout, own, tell)
        self._hashing = spawn(self.digesting.run())
        is_whole_first = size_bytes <= WHOLE_FIRST_MAX_BYTES
        self._swarm = Swarm(
            layout, ports.params, rng, ports.clock(), is_whole_first=is_whole_first, is_for_readers=True
        )
        self.is_resting = False
        self._is_ahead = False
        # As a source; it may be on its way to the swarm.
        self._is_own_told = False
        self._alarm = Alarm(ports.clock, lambda: tell(swarming.Timer()))

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def held(self) -> Bitfield:
        return self._swarm.held

    @property
    def version(self) -> object:
        """As long as it is the same `progress` and `offer` are, but for what changes by time alone."""
        return self._swarm.version

    @property
    def is_fetching(self) -> bool:
        return self._swarm.phase is Phase.FETCHING

    @property
    def is_verified(self) -> bool:
        return self._swarm.phase is Phase.DONE

    def portions(self, span: ByteSpan) -> list[Portion] | None:
        return self.own.portions(span)

    def lend(self, span: ByteSpan) -> list[Portion] | None:
        """Of what may be offered to peers."""
        if span.stop > self.layout.size_bytes or span.start == span.stop:
            return None
        pieces = self.layout.touched(span)
        if mask_of(pieces.start, pieces.stop) & ~self._swarm.offered.mask:
            return None
        return self.own.portions(span)

    async def piece_digests(self, pieces: range) -> dict[int, bytes]:
        """Of those that may be offered."""
        offered = self._swarm.offered
        return await self.own.piece_digests([piece for piece in pieces if piece in offered])

    def is_useless(self, source_id: swarming.SourceId) -> bool:
        return self._swarm.is_useless(source_id, self._ports.clock())

    def progress(self, *, is_fed_from_origin: bool) -> on.SourceProgress:
        """What the ladder is to know."""
        layout, held = self.layout, self._swarm.held
        others = self._swarm.reach(self._ports.clock())
        reached = held.mask | others.mask
        together = ones_from(reached, 0)
        return on.SourceProgress(
            prefix_bytes=layout.start(held.prefix_count),
            frontier_bytes=layout.size_bytes if others.is_complete else layout.start(together),
            size_bytes=layout.size_bytes,
            is_rooted=others.is_complete
            or others.is_fed_from_origin
            or is_fed_from_origin
            or held.is_complete,
            reached_bytes=min(layout.size_bytes, reached.bit_count() * layout.piece_bytes),
        )

    def offer(self, *, is_fed_from_origin: bool) -> Offer:
        """What peers may be told."""
        return Offer(self.layout.size_bytes, self._swarm.offered, is_fed_from_origin)

    def has_choice(self) -> bool:
        """Somebody may be asked now for what nobody was asked for yet."""
        return not self.is_resting and self._swarm.has_choice(self._ports.clock())

    # -- events ----------------------------------------------------------------------------------------------------

    def note(self, event: swarming.Event, now: float) -> None:
        """For one that brings about nothing."""
        commands = self._swarm.handle(event, now)
        assert not commands, (event, commands)

    def handle(self, event: swarming.Event, now: float) -> None:
        if isinstance(event, swarming.ReaderOpened):
            # Whether anybody is to be fed is the ladder's to decide, also after this swarm gave up.
            self._handle(swarming.BeginAgain(), now)
        self._handle(event, now)

    def _handle(self, event: swarming.Event, now: float) -> None:
        for command in self._swarm.handle(event, now):
            self._execute(command)

    def fetch_ahead(self, is_wanted: bool) -> None:
        """Whether pieces are to be had though nobody here reads. Asked before each event, and seldom another answer."""
        if is_wanted is self._is_ahead:
            return
        self._is_ahead = is_wanted
        self._handle(swarming.FetchAhead(is_wanted), self._ports.clock())

    def take_own(self, descriptor: int) -> None:
        """A file of the own containerd's, owned from now on: as far as `own_reaches` says."""
        self.own.take_own(descriptor)

    def lose_own(self) -> None:
        self._is_own_told = False
        if self.own.has_own:
            self._put(swarming.SourceGone(OWN, swarming.GoneReason.REPLACED))
            self.own.lose_own()

    def own_reaches(self, size_bytes: int) -> None:
        """So many bytes stand in it."""
        layout = self.layout
        pieces = layout.within(ByteSpan(0, min(size_bytes, layout.size_bytes)))
        if not self._is_own_told or not self._swarm.has_source(OWN):
            self._is_own_told = True
            kind = swarming.SourceKind.OWN_INGEST
            self._put(swarming.SourceFound(OWN, kind, is_complete=False, zone_distance=0))
        bitfield = Bitfield.prefix(layout.count, pieces.stop)
        self._put(swarming.SourceState(OWN, bitfield, 0.0, is_fed_from_origin=False))

    def committed(self) -> None:
        """containerd verified it: what is held is right."""
        if self.is_fetching and self.held.is_complete:
            self._put(swarming.DigestMatched({}))

    def settle(self, *, is_hash_wanted: bool) -> None:
        """After each round of events."""
        self.digesting.look(is_wanted=is_hash_wanted and self.is_fetching)
        at = None if self.is_resting else self._swarm.next_timer()
        self._alarm.set(at)

    def rest(self) -> None:
        """Nothing is to be fetched."""
        self.is_resting = True
        self._runs.cancel_all()
        self._mesh.rest()

    def begin_again(self) -> None:
        """Where it gave up."""
        self._put(swarming.BeginAgain())

    def resume(self) -> None:
        """Sources are heard of again."""
        self.begin_again()
        if self.is_resting:
            self.is_resting = False
            self._mesh.begin(self.layout)

    def close(self) -> None:
        self._alarm.set(None)
        self._runs.cancel_all()
        self._hashing.cancel()
        self.own.close()

    # -- commands --------------------------------------------------------------------------------------------------

    def _execute(self, command: swarming.Command) -> None:
        match command:
            case swarming.RequestRun():
                self._request(command)
            case swarming.TrimRun(run_id, stop):
                self._runs.trim(run_id, stop)
            case swarming.CancelRun(run_id):
                self._runs.cancel(run_id)
            case swarming.FindSources():
                self._search()
            case swarming.Release(reader_id, upto):
                self._readings.release(reader_id, upto)
            case swarming.EndReader():
                self._put(on.BytesWrong())
            case swarming.AskPieceDigests(source_ids):
                self._ask_digests(source_ids)
            case swarming.Ban(source_id):
                log.warning(
                    "%s sent wrong bytes and is left aside for a while",
                    source_id,
                    extra={"digest": str(self._digest)},
                )
                self._ports.lied(self._digest, source_id)
            case swarming.DropPieces(pieces):
                mask = 0
                for piece in pieces:
                    mask |= 1 << piece
                self.own.forget(mask)
                self.digesting.dropped(pieces)
            case swarming.Finish():
                pass
            case swarming.GiveUp(reason):
                log.info("%s is left to the registry: %s", self._digest, reason.name.lower())
                if reason is swarming.GiveUpReason.WRONG_BYTES:
                    self._put(on.BytesWrong())
                self._mesh.offer(NOTHING)

    def _request(self, request: swarming.RequestRun) -> None:
        if request.source_id == OWN:
            self._take_own_pieces(request)
            return
        peer = self._mesh.peer(request.source_id)
        if peer is None or self.is_resting:
            self._put(swarming.RunFailed(request.run_id, swarming.Failure.BROKE))
        else:
            self._runs.request(request, peer)

    def _take_own_pieces(self, request: swarming.RequestRun) -> None:
        """They are here already."""
        for piece in range(request.first, request.first + request.count):
            if not self.own.has_own:
                self._put(swarming.RunFailed(request.run_id, swarming.Failure.ABSENT))
                return
            self.own.owned(piece)
            self._put(swarming.PieceArrived(request.run_id, piece))

    def _ask_digests(self, source_ids: tuple[swarming.SourceId, ...]) -> None:
        stop = min(self.layout.count, DIGESTS_MAX_COUNT)
        for source_id in source_ids:
            channel = self._mesh.channel(source_id)
            if channel is None or not channel.ask_digests(self._digest, 0, stop):
                self._put(swarming.PieceDigests(source_id, {}))


async def answer_digests(
    swarm: Swarming | None, channel: Channel, digest: Digest, first: int, stop: int
) -> None:
    """What a neighbour asked; with nothing in it where there is no swarm."""
    digests = {} if swarm is None else await swarm.piece_digests(range(first, stop))
    channel.answer_digests(digest, first, stop, digests)
