"""One digest at one simulated host: the real ladder and the real swarm, wired to each other as a daemon's shell would.

Refuses to decide anything: what the ladder orders is done by the swarm, the pull, the mesh and the arbiters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import mirror.steer.commands as do
import mirror.steer.events as on
import mirror.swarm.events as sw
from dht.claims.rulings import Ruling
from dht.wire.codec import AskReason, Fence, Verb
from mirror.discovery.dht_rulings import from_dht
from mirror.herd.own_word import OWN_WORD_S
from mirror.herd.reports import PROGRESS_EVERY_S
from mirror.oci.byterange import ByteSpan
from mirror.steer.ladder import Ladder
from mirror.swarm.bitfield import Bitfield, mask_of, ones_from
from mirror.swarm.swarm import Swarm
from tests.support.sim_fetches import Fetches
from tests.support.sim_mesh import Mesh, found, gone
from tests.support.sim_pull import Pull
from tests.support.sim_world import Blob, Host, World

# What goes on the wire with an ask.
ASK_REASONS: Final = {
    do.AskReason.HELD_LONG: AskReason.HELD_LONG,
    do.AskReason.SLOW_CLAIMANT: AskReason.SLOW_CLAIMANT,
}
OWN_INGEST: Final = "own ingest"
# The last piece goes into the digest, in a worker thread.
HASH_S: Final = 0.005
# A debounced announcement, and its datagrams.
PROVIDED_AFTER_S: Final = 0.35


class Reader:
    """A request that is fed."""

    __slots__ = ("is_paused", "is_starved", "released", "request_id", "sent")

    def __init__(self, request_id: int, start: int) -> None:
        self.request_id = request_id
        self.sent = start
        self.released = start
        self.is_paused = False
        self.is_starved = True


class Download:
    """`on_end` is called once, when the blob is committed."""

    def __init__(self, world: World, host: Host, blob: Blob, on_end: Callable[[], object]) -> None:
        self.world = world
        self.host = host
        self.blob = blob
        self.source_id = str(host.number)
        self.ladder = Ladder(host.rng, is_manifest=False)
        self.swarm = Swarm(blob.layout, world.plan.swarm, host.rng, world.clock.now)
        self.mesh = Mesh(self)
        self.pull = Pull(self)
        self._on_end = on_end
        self._fetches = Fetches(self)
        self._readers: dict[int, Reader] = {}
        # Where each request began.
        self._starts: dict[int, int] = {}
        # What sources have, and which of them get it from the origin.
        self._had: dict[Host, int] = {}
        self._fed: set[Host] = set()
        self._has_ingest = False
        self._timer_at: float | None = None
        self._swarm_timer_at: float | None = None
        self._is_progress_due = False
        self._is_matching = False
        # To peers.
        self.sent_bytes = 0
        # Events in turn: what one leads to comes after it.
        self._todo: deque[tuple[bool, on.Event | sw.Event]] = deque()
        self._is_busy = False
        if host.member.joined_at > world.clock.now:
            self.ladder_told(on.DaemonJoining(True))
            world.clock.at(host.member.joined_at, self._joined)

    def _joined(self) -> None:
        if self.host.is_alive:
            self.ladder_told(on.DaemonJoining(False))

    # -- what others see -------------------------------------------------------------------------------------------

    @property
    def offered(self) -> Bitfield:
        return self.swarm.offered

    @property
    def is_fed_from_origin(self) -> bool:
        return self.ladder.is_fed_from_origin

    # -- events ----------------------------------------------------------------------------------------------------

    def ladder_told(self, event: on.Event) -> None:
        if isinstance(event, on.Asked):
            self._starts[event.request_id] = event.range_start
        self._told(True, event)

    def swarm_told(self, event: sw.Event) -> None:
        self._told(False, event)

    def _told(self, is_ladders: bool, event: on.Event | sw.Event) -> None:
        todo = self._todo
        todo.append((is_ladders, event))
        if self._is_busy:
            return
        self._is_busy = True
        clock = self.world.clock
        while todo:
            is_ladders, event = todo.popleft()
            if is_ladders:
                for order in self.ladder.handle(event, clock.now):  # type: ignore[arg-type]
                    self._carry_out(order)
            else:
                for command in self.swarm.handle(event, clock.now):  # type: ignore[arg-type]
                    self._execute(command)
                if isinstance(event, sw.PieceArrived):
                    self._arrived()
        self._is_busy = False
        at = self.swarm.next_timer()
        if at is not None and (self._swarm_timer_at is None or at < self._swarm_timer_at):
            self._swarm_timer_at = at
            clock.at(at, self._swarm_timer)

    def _swarm_timer(self) -> None:
        self._swarm_timer_at = None
        if self.host.is_alive and self.swarm.next_timer() is not None:
            self.swarm_told(sw.Timer())

    def _arrived(self) -> None:
        self.mesh.news()
        self._progress_soon()
        if self.swarm.held.is_complete and not self.swarm.is_over and not self._is_matching:
            self._is_matching = True
            self.world.clock.after(HASH_S, self.swarm_told, sw.DigestMatched({}))

    # -- the swarm's commands --------------------------------------------------------------------------------------

    def _execute(self, command: sw.Command) -> None:
        match command:
            case sw.RequestRun(run_id, source_id, first, count):
                if source_id == OWN_INGEST:
                    for piece in range(first, first + count):
                        self.swarm_told(sw.PieceArrived(run_id, piece))
                else:
                    self._fetches.start(command, self.world.hosts[int(source_id)])
            case sw.TrimRun(run_id, stop):
                self._fetches.trim(run_id, stop)
            case sw.CancelRun(run_id):
                self._fetches.cancel(run_id)
            case sw.FindSources():
                self._find(lambda _: self.swarm_told(sw.SearchEnded()))
            case sw.Release(reader_id, upto):
                reader = self._readers.get(reader_id)
                if reader is not None:
                    reader.released = upto
                    self._send(reader)
            case sw.Finish():
                pass
            case sw.GiveUp():
                self.world.counts["gave up"] += 1
                self.ladder_told(on.SourcesGone())
            case sw.EndReader() | sw.AskPieceDigests() | sw.Ban() | sw.DropPieces():
                raise AssertionError(f"nobody lies here, but the swarm says {command}")
            case _:
                assert_never(command)

    def _find(self, told: Callable[[tuple[bytes, ...]], object]) -> None:
        """Discovery, and whom neighbours named."""
        world = self.world
        nodes = world.arbiters.providers(self.blob.key)
        for node in nodes:
            self.provider(world.by_node[node])
        # Two round trips: the lookup, and the call.
        world.clock.after(8 * self.host.member.half_rtt_s, told, nodes)

    # -- sources ---------------------------------------------------------------------------------------------------

    def source_found(self, host: Host, offered: Bitfield, is_fed: bool) -> None:
        if self.host.is_alive:
            self._had[host] = offered.mask
            if is_fed:
                self._fed.add(host)
            self.mesh.has(host, offered.mask)
            self._tell_found(host, offered)
            self._progress_soon()

    def provider(self, host: Host) -> None:
        """Said to have it whole: it may be asked without being a neighbour."""
        if host is self.host or host in self._had:
            return
        self.mesh.name((host,))
        self.world.clock.after(OWN_WORD_S, self._said_nothing, host)

    def _said_nothing(self, host: Host) -> None:
        if host not in self._had and self.host.is_alive:
            self._had[host] = mask_of(0, self.blob.layout.count)
            self.swarm_told(sw.SourceFound(str(host.number), sw.SourceKind.PEER, True, 0))

    def had(self, host: Host) -> int:
        return self._had.get(host, 0)

    def is_fed(self, host: Host) -> bool:
        """From the origin, as a neighbour says."""
        return host in self._fed

    def _tell_found(self, host: Host, offered: Bitfield) -> None:
        for event in found(str(host.number), offered, is_fed=host in self._fed):
            self.swarm_told(event)

    def source_told(self, host: Host, event: sw.Have | sw.SourceState, is_fed: bool) -> None:
        if host not in self._had or not self.host.is_alive:
            return
        if isinstance(event, sw.SourceState):
            self._had[host] = event.bitfield.mask
            self._fed.discard(host)
            if is_fed:
                self._fed.add(host)
        else:
            mask = self._had[host]
            for piece in event.pieces:
                mask |= 1 << piece
            self._had[host] = mask
        self.mesh.has(host, self._had[host])
        self.swarm_told(event)
        self._progress_soon()

    def source_gone(self, host: Host) -> None:
        if self._had.pop(host, None) is None or not self.host.is_alive:
            return
        self._fed.discard(host)
        self.swarm_told(gone(str(host.number)))
        self._fetches.end_of(host)
        self._progress_soon()
        if not self._had:
            self.ladder_told(on.SourcesGone())

    def died(self, *, has_said_so: bool) -> None:
        """The own host."""
        self._fetches.end_all()
        self.pull.stop()
        for host in self.mesh.told:
            host.downloads[self.blob.key]._fetches.source_died(self.host, has_said_so=has_said_so)
        self.mesh.host_died(has_said_so=has_said_so)

    def _progress_soon(self) -> None:
        if not self._is_progress_due and not self.pull.is_committed:
            self._is_progress_due = True
            self.world.clock.after(PROGRESS_EVERY_S, self._tell_progress)

    def _tell_progress(self) -> None:
        self._is_progress_due = False
        if not self.host.is_alive or self.pull.is_committed:
            return
        layout = self.blob.layout
        held = self.swarm.held.mask
        union = held
        is_rooted = self.ladder.is_fed_from_origin or bool(self._fed)
        for mask in self._had.values():
            union |= mask
            is_rooted = is_rooted or mask.bit_count() == layout.count
        prefix_count = ones_from(held, 0)
        self.swarm_told(sw.PrefixHashed(prefix_count))
        self.ladder_told(
            on.SourceProgress(
                max(layout.start(prefix_count), self.pull.ingest_bytes),
                layout.start(ones_from(union, 0)),
                layout.size_bytes,
                is_rooted,
            )
        )

    # -- bodies ----------------------------------------------------------------------------------------------------

    def _send(self, reader: Reader) -> None:
        """containerd takes at once what it may have."""
        if reader.is_paused or reader.released <= reader.sent:
            return
        reader.sent = reader.released
        self.pull.fed(reader.sent)
        self.swarm_told(sw.ReaderMoved(reader.request_id, reader.sent))
        self.ladder_told(on.Fed(reader.request_id, reader.sent))
        if reader.sent < self.blob.size_bytes:
            self.ladder_told(on.Starved(reader.request_id, reader.sent))
            return
        self._forget(reader.request_id)
        self.ladder_told(on.Left(reader.request_id))
        self.pull.commit()

    def _forget(self, request_id: int) -> bool:
        """Whether it was fed."""
        was_fed = self._readers.pop(request_id, None) is not None
        if was_fed:
            self.swarm_told(sw.ReaderClosed(request_id))
        return was_fed

    def committed(self) -> None:
        self.ladder_told(on.Committed())
        self.world.clock.after(PROVIDED_AFTER_S, self._provided)
        self.mesh.news()
        self._on_end()

    def _provided(self) -> None:
        if self.host.is_alive:
            self.world.arbiters.provide(self.host.member, self.blob.key)
            self.ladder_told(on.Provided())

    # -- the own ingest --------------------------------------------------------------------------------------------

    def ingest_born(self) -> None:
        self.ladder_told(on.IngestBorn(self.blob.size_bytes))

    def ingest_grew(self, size_bytes: int) -> None:
        if not self._has_ingest:
            self._has_ingest = True
            self.swarm_told(sw.SourceFound(OWN_INGEST, sw.SourceKind.OWN_INGEST, False, 0))
        layout = self.blob.layout
        prefix = Bitfield.prefix(layout.count, layout.piece_at(size_bytes))
        self.swarm_told(sw.SourceState(OWN_INGEST, prefix, 0.0, True))
        self.ladder_told(on.IngestGrew(size_bytes))

    # -- the ladder's orders ---------------------------------------------------------------------------------------

    def _carry_out(self, order: do.Command) -> None:
        clock = self.world.clock
        match order:
            case do.Answer404(request_id):
                self._forget(request_id)
                clock.after(0.0, self._missed)
            case do.Feed(request_id):
                start = self._starts[request_id]
                self._readers[request_id] = Reader(request_id, start)
                self.swarm_told(sw.BeginAgain())
                self.swarm_told(sw.ReaderOpened(request_id, ByteSpan(start, self.blob.size_bytes)))
            case do.Pause(request_id):
                if request_id in self._readers:
                    self._readers[request_id].is_paused = True
            case do.Resume(request_id):
                if request_id in self._readers:
                    self._readers[request_id].is_paused = False
                    self._send(self._readers[request_id])
            case do.EndByFin(request_id):
                self.world.counts["bodies ended"] += 1
                self._forget(request_id)
                self.pull.ended()
            case do.AskClaim(ask_id, progress_bytes, reason, known, wants_providers):
                self.world.counts[f"asked: {reason.value}"] += 1
                fence = None if known is None else Fence(known.arbiter, known.counter)
                why = ASK_REASONS.get(reason, AskReason.NEEDED)
                self._look(ask_id, Verb.ASK, fence, progress_bytes, why, wants_providers=wants_providers)
            case do.RenewClaim(ask_id, known, progress_bytes):
                fence = Fence(known.arbiter, known.counter)
                self._look(ask_id, Verb.RENEW, fence, progress_bytes, AskReason.NEEDED, wants_providers=True)
            case do.ReleaseClaim(known, progress_bytes, reason_):
                fence = Fence(known.arbiter, known.counter)
                self.world.arbiters.release(
                    self.host.member, self.blob.key, fence, progress_bytes, reason_.wire_value
                )
            case do.FindProviders():
                self._find(lambda nodes: self.ladder_told(on.ProvidersKnown(nodes)))
            case do.StartSwarm(sources):
                self.mesh.name(self.world.by_node[node] for node in sources)
            case do.SetTimer(at):
                self._timer_at = at
                if at is not None:
                    clock.at(at, self._timer, at)
            case do.StopSwarm() | do.Tail() | do.Remember404():
                pass
            case do.AbortIngest():
                raise AssertionError("nobody lies here, but an ingest is aborted")
            case _:
                assert_never(order)

    def _missed(self) -> None:
        if self.host.is_alive:
            self.mesh.news()
            self.pull.missed()

    def _timer(self, at: float) -> None:
        if self._timer_at == at and self.host.is_alive:
            self._timer_at = None
            self.ladder_told(on.Timer())

    def _look(
        self,
        ask_id: int,
        verb: Verb,
        fence: Fence | None,
        progress_bytes: int,
        reason: AskReason,
        *,
        wants_providers: bool,
    ) -> None:
        def ruled(ruling: Ruling | None, providers: tuple[bytes, ...], is_replaced: bool) -> None:
            if is_replaced:
                self.ladder_told(on.Replaced(from_dht(ruling)))
                return
            others = tuple(node for node in providers if node != self.host.member.contact.node)
            for node in others:
                self.provider(self.world.by_node[node])
            self.ladder_told(on.Ruled(ask_id, from_dht(ruling), others))

        self.world.arbiters.look(
            self.host.member,
            self.blob.key,
            verb,
            fence,
            progress_bytes,
            reason=reason,
            wants_providers=wants_providers,
            ruled=ruled,
        )
