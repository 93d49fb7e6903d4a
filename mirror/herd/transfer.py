"""One digest at this host: joins the ladder, the swarm, the neighbours and the own ingest, and carries the ladder's
orders out.

Events go through one queue: what an order brings about is handled after the event that ordered it. Decides nothing that
the ladder or the swarm decides; what it works out itself is what each is to be told of the other (`_report`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeGuard, cast, get_args

import mirror.steer.commands as do
import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.errors import StoreUnavailable
from mirror.herd.claiming import Claiming
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import NOTHING, Mesh
from mirror.herd.own_bytes import OwnBytes, Portion
from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import WHOLE_FIRST_MAX_BYTES, Event, TransferPorts
from mirror.herd.reading import Reading
from mirror.herd.readings import Readings
from mirror.herd.swarming import Swarming
from mirror.herd.trial import Trial
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import news
from mirror.peer.channel import Channel
from mirror.peer.errors import PeerError, PeerStalled, PeerUnreachable
from mirror.peer.frames import BLOB_MAX_BYTES
from mirror.steer.claims import NamedPeer, name_of
from mirror.steer.ladder import Ladder

log = logging.getLogger(__name__)

# A disk that did not take a blob is not tried again for so long.
ASIDE_S = 30.0

_STEERING = get_args(on.Event)
# These change nothing that the other side is to know.
_UNREPORTED = (swarming.ReaderMoved, swarming.RunProgress, swarming.PrefixHashed)
_NOTHING_KNOWN = on.SourceProgress(0, 0, None, is_rooted=False)


class Transfer:
    """Made and kept by `Herd`. `size_bytes`: as a manifest says; None: not known. `registry`: of the image; empty: not
    known."""

    def __init__(
        self,
        digest: Digest,
        ladder: Ladder,
        ports: TransferPorts,
        rng: random.Random,
        size_bytes: int | None,
        registry: str = "",
    ) -> None:
        self.digest = digest
        self.used_at = ports.clock()
        self._ladder = ladder
        self._ports = ports
        self._rng = rng
        self._vouched_bytes = size_bytes
        self._swarming: Swarming | None = None
        self._readings = Readings()
        self._mesh = Mesh(
            digest,
            ports.channels,
            rng,
            tell=self._tell,
            size_told=self._size_told,
            settled=self._settled,
            spawn=self._spawn,
            clock=ports.clock,
            avoided=ports.avoided,
            params=ports.params,
        )
        self._own_ingest = OwnIngest(
            digest,
            registry,
            ports,
            begin=self._begin_own,
            put=self._put,
            settle=self._pump,
            spawn=self._spawn,
        )
        self._trial = Trial(digest, ports, wrong=self._streamed_wrong, spawn=self._spawn)
        self._lone = LoneStreams(
            digest,
            ports,
            self._mesh,
            self._readings,
            self._trial,
            swarming=lambda: self._swarming,
            is_fed=self._is_fed_otherwise,
            fall_back=self._fall_back,
            settle=self._settled,
            spawn=self._spawn,
        )
        self._queue: deque[Event] = deque()
        self._is_pumping = False
        self._is_changed = False
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Whom the ladder's names mean.
        self._named: dict[bytes, NamedPeer] = {}
        self._claiming = Claiming(digest, ports.claims, tell=self._tell, note_names=self._note_names)
        self._told_progress = _NOTHING_KNOWN
        self._is_gone_told = True
        self._is_finding_size = False
        self._tried_bytes: set[int] = set()
        self._aside_until = 0.0
        if size_bytes:
            self._begin(size_bytes)

    # -- questions -------------------------------------------------------------------------------------------------

    def size_bytes(self) -> int | None:
        return None if self._swarming is None else self._swarming.layout.size_bytes

    @property
    def is_idle(self) -> bool:
        """Nothing is lost for the own containerd if it is closed."""
        return self._ladder.is_idle and not len(self._readings) and not self._trial.is_open

    @property
    def is_aside(self) -> bool:
        """The disk did not take it lately: requests are misses."""
        return self._ports.clock() < self._aside_until

    @property
    def own(self) -> OwnBytes | None:
        return None if self._swarming is None else self._swarming.own

    def portions(self, span: ByteSpan) -> list[Portion] | None:
        return None if self._swarming is None else self._swarming.portions(span)

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext() if self._swarming is None else self._swarming.own.hold()

    def lend(self, span: ByteSpan) -> list[Portion] | None:
        """For a peer; None: not all of it may be offered."""
        self.used_at = self._ports.clock()
        return None if self._swarming is None else self._swarming.lend(span)

    # -- requests of the own containerd ----------------------------------------------------------------------------

    def ask(
        self, request_id: int, byte_range: ByteRange | None, *, is_head: bool, at_fallback: bool
    ) -> Reading:
        reading = Reading(
            self.digest, request_id, byte_range, is_head=is_head, at_fallback=at_fallback, transfer=self
        )
        if not is_head:
            self._trial.asked_again()
        self._readings.add(reading)
        size_bytes = self.size_bytes()
        if size_bytes is None or reading.open(size_bytes) is not None:
            self._claiming.note_joining()
            self._tell(on.Asked(request_id, is_head, reading.range_start, at_fallback))
        return reading

    def left(self, reading: Reading) -> None:
        """The request is over, however it ended."""
        reading.stream_ended()
        self._lone.left(reading)
        if self._readings.remove(reading.request_id) is None:
            return
        self.used_at = self._ports.clock()
        self._put(swarming.ReaderClosed(reading.request_id))
        self._tell(on.Left(reading.request_id))

    def moved(self, reading: Reading, *, is_first: bool) -> None:
        self._put(swarming.ReaderMoved(reading.request_id, reading.position))
        if is_first:
            self._put(on.Fed(reading.request_id, reading.position))
        self._pump()

    def stretch_stop(self, reading: Reading) -> int:
        return self._lone.stretch_stop(reading)

    def streamed(self, reading: Reading, span: ByteSpan, waited_s: float) -> None:
        if self._lone.streamed(span, waited_s):
            self._tell(on.Fed(reading.request_id, reading.position))

    def leave_stream(self, reading: Reading) -> None:
        self._lone.leave(reading)

    def broke(self, reading: Reading, exc: PeerError) -> None:
        self._lone.broke(reading, exc)

    def starved(self, reading: Reading) -> None:
        self._tell(on.Starved(reading.request_id, reading.position))

    def refused(self, event: on.OriginRefused) -> None:
        self._tell(event)

    async def read(self, span: ByteSpan) -> bytes:
        assert self._swarming is not None
        return await self._swarming.own.read(span)

    # -- the own containerd's file ---------------------------------------------------------------------------------

    def born(self, total_bytes: int | None) -> None:
        self._trial.replaced()
        self._own_ingest.born(total_bytes)

    def grew(self, size_bytes: int) -> None:
        self._trial.grew(size_bytes, self.size_bytes())
        self._own_ingest.grew(size_bytes)

    def vanished(self) -> None:
        self._trial.vanished()
        self._own_ingest.vanished()

    def committed(self) -> None:
        self._trial.committed()
        if not self._is_closed:
            self._own_ingest.committed()

    # -- neighbours ------------------------------------------------------------------------------------------------

    def heard(self, channel: Channel, told: news.News) -> None:
        match told:
            case news.PieceDigestsAsked(_, first, stop):
                self._spawn(self._answer_digests(channel, first, stop))
            case news.PieceDigestsTold(_, _, _, digests):
                self._put(swarming.PieceDigests(str(channel.peer), digests))
            case news.PeerLoad() | news.ChannelDown():
                self._mesh.heard(channel, told)
            case _:
                self.used_at = self._ports.clock()
                self._mesh.heard(channel, told)
        self._pump()

    def distrust(self, source_id: swarming.SourceId) -> None:
        """It sent wrong bytes of another digest. What nobody was handed yet is dropped; who reads is served on, and
        judged by the hash."""
        self._mesh.failed(source_id)
        self._put(swarming.Lied(source_id))
        if not len(self._readings):
            self._put(swarming.SourceGone(source_id, swarming.GoneReason.REPLACED))
        self._pump()

    async def _answer_digests(self, channel: Channel, first: int, stop: int) -> None:
        digests: dict[int, bytes] = {}
        if self._swarming is not None:
            digests = await self._swarming.piece_digests(range(first, stop))
        channel.answer_digests(self.digest, first, stop, digests)

    # -- the size --------------------------------------------------------------------------------------------------

    def vouch(self, size_bytes: int) -> None:
        """A manifest names the size: better than a peer's word."""
        self._vouched_bytes = size_bytes
        self._resize(size_bytes)
        self._pump()

    def _size_told(self, size_bytes: int) -> None:
        """By a peer, while nobody vouches for another one."""
        if self._vouched_bytes in (None, size_bytes):
            self._begin(size_bytes)

    def _begin(self, size_bytes: int | None) -> Swarming | None:
        """The swarm, made where the size is new; None: there is none of that size."""
        found = self._swarming
        if found is not None:
            return found if size_bytes in (None, found.layout.size_bytes) else None
        if self._is_closed or not size_bytes or not 0 < size_bytes <= BLOB_MAX_BYTES:
            return None
        self._tried_bytes.add(size_bytes)
        found = self._swarming = Swarming(
            self.digest,
            size_bytes,
            self._ports,
            self._rng,
            self._mesh,
            self._readings,
            put=self._put,
            tell=self._tell,
            no_room=self._no_room,
            search=self._begin_search,
            spawn=self._spawn,
        )
        self._mesh.begin(found.layout)
        for reading in self._readings:
            self._open_reader(reading)
        return found

    def _begin_own(self, size_bytes: int | None) -> Swarming | None:
        """As the own containerd says: it has read the manifest."""
        if size_bytes and self._vouched_bytes is None:
            self._vouched_bytes = size_bytes
            return self._resize(size_bytes)
        return self._begin(size_bytes)

    def _resize(self, size_bytes: int) -> Swarming | None:
        """Whatever was said of the size before."""
        former = self._swarming
        if former is None or former.is_verified or former.layout.size_bytes == size_bytes:
            return self._begin(size_bytes)
        log.info("%s has %d bytes, not %d", self.digest, size_bytes, former.layout.size_bytes)
        self._swarming = None
        former.close()
        # What is queued for the swarm is of the former one.
        self._queue = deque(event for event in self._queue if _is_steering(event))
        for reading in self._readings:
            reading.forget_size()
            if reading.is_begun:
                self._put(on.BytesWrong())
        found = self._begin(size_bytes)
        self._own_ingest.swarm_replaced()
        return found

    def _other_size_bytes(self) -> int | None:
        """Nobody has a blob of the size that was named first, and nobody vouches for it."""
        if self._swarming is None or self._vouched_bytes is not None:
            return None
        return next(iter(sorted(self._mesh.sizes() - self._tried_bytes)), None)

    async def _ask_size(self) -> None:
        """Nobody has named it: those are asked who are said to have it whole."""
        try:
            for peer in self._mesh.completes():
                if self._swarming is not None:
                    return
                try:
                    size_bytes = await self._ports.client.size_bytes(peer, self.digest)
                except PeerError as exc:
                    log.debug("%s", exc, extra={"digest": str(self.digest)})
                    if isinstance(exc, PeerUnreachable | PeerStalled):
                        self._ports.avoided.unreachable(peer)
                    self._mesh.failed(str(peer))
                else:
                    self._mesh.told_size(str(peer), size_bytes)
                    self._size_told(size_bytes)
        finally:
            self._is_finding_size = False
            self._pump()

    def _no_room(self, why: str) -> None:
        """The disk does not take it: this host's containerd goes to the origin by itself."""
        if not self.is_aside:
            log.info("%s is left to the registry: %s", self.digest, why)
        self._aside_until = self._ports.clock() + ASIDE_S
        self._readings.let_go(why)

    # -- the pump --------------------------------------------------------------------------------------------------

    def _put(self, event: Event) -> None:
        self._queue.append(event)

    def _settled(self) -> None:
        """Neighbours came or went without an event."""
        self._is_changed = True
        self._pump()

    def _tell(self, event: Event) -> None:
        self._queue.append(event)
        self._pump()

    def _pump(self) -> None:
        if self._is_pumping or self._is_closed:
            return
        self._is_pumping = True
        try:
            while True:
                while self._queue and not self._is_closed:
                    self._handle(self._queue.popleft())
                if self._is_closed:
                    return
                if not self._is_changed:
                    break
                self._is_changed = False
                self._report()
                self._lone.look()
            if self._swarming is not None:
                is_hash_wanted = bool(len(self._readings)) and not self._own_ingest.is_committed
                self._swarming.settle(is_hash_wanted=is_hash_wanted)
        finally:
            self._is_pumping = False

    def _handle(self, event: Event) -> None:
        now = self._ports.clock()
        self._is_changed = self._is_changed or not isinstance(event, _UNREPORTED)
        if _is_steering(event):
            for order in self._ladder.handle(event, now):
                self._carry_out(order)
        elif self._swarming is not None:
            self._swarming.handle(cast(swarming.Event, event), now)

    def _report(self) -> None:
        """What the ladder is to know of the swarm, and the neighbours of both."""
        is_fed = self._ladder.is_fed_from_origin
        progress = _NOTHING_KNOWN
        if self._swarming is None:
            self._mesh.offer(NOTHING)
        else:
            progress = self._lone.seen(self._swarming.progress(is_fed_from_origin=is_fed))
            self._mesh.offer(
                self._swarming.offer(is_fed_from_origin=is_fed and not self._own_ingest.is_committed)
            )
        told, is_any = self._told_progress, _is_any(progress)
        is_same = not is_any and not _is_any(told) and progress.prefix_bytes == told.prefix_bytes
        is_hopeful = self._mesh.is_hopeful(self._is_useless)
        if is_same and is_hopeful:
            # Somebody is being asked, or has nothing yet: that is no end.
            return
        if is_any:
            self._is_gone_told = False
        elif not self._is_gone_told and not is_hopeful:
            other_bytes = self._other_size_bytes()
            if other_bytes is not None:
                self._is_changed = True
                self._resize(other_bytes)
                return
            # Before the progress, which alone would say that they have no more just now.
            self._is_gone_told = True
            self._put(on.SourcesGone())
        if progress != told:
            self._told_progress = progress
            self._put(progress)

    def _is_useless(self, source_id: swarming.SourceId) -> bool:
        if self._ports.avoided.has_lied(source_id):
            return True
        return self._swarming is not None and self._swarming.is_useless(source_id)

    # -- the ladder's orders ---------------------------------------------------------------------------------------

    def _carry_out(self, order: do.Command) -> None:
        match order:
            case do.SetTimer(at):
                self._arm(at)
            case do.Feed(request_id):
                reading = self._readings.get(request_id)
                if reading is not None:
                    reading.feed()
                    self._open_reader(reading)
            case do.Answer404(request_id):
                self._readings.miss(request_id, "nobody here has it, or the origin is to be asked")
            case do.EndByFin(request_id):
                self._readings.end(request_id)
            case do.Pause(request_id):
                self._readings.pause(request_id)
            case do.Resume(request_id):
                self._readings.resume(request_id)
            case do.AskClaim() | do.RenewClaim():
                self._spawn(self._claiming.ask(order))
            case do.ReleaseClaim():
                self._spawn(self._claiming.release(order))
            case do.FindProviders():
                self._spawn(self._find_for_head())
            case do.StartSwarm(sources):
                self._start_swarm(sources)
            case do.StopSwarm():
                if self._swarming is not None:
                    self._swarming.rest()
            case do.Tail(is_judged):
                self._own_ingest.tail(is_judged=is_judged)
            case do.AbortIngest():
                self._spawn(self._abort_ingest())
            case do.Remember404(for_s, at_both):
                self._ports.remember(self.digest, for_s, at_both)

    def _open_reader(self, reading: Reading) -> None:
        size_bytes = self.size_bytes()
        if size_bytes is None or not reading.is_fed:
            return
        span = reading.open(size_bytes)
        if span is None or span.stop > size_bytes:
            # Begun while another size was believed: its end is on its way.
            return
        # A HEAD of a layer wants its size alone.
        if not reading.is_head or size_bytes <= WHOLE_FIRST_MAX_BYTES:
            assert self._swarming is not None
            # Since the last request left it rests. The ladder, which knows what neighbours have, names nobody anew.
            self._swarming.resume()
            if not self._lone.takes(reading):
                self._put(swarming.ReaderOpened(reading.request_id, span))

    def _fall_back(self, reading: Reading) -> None:
        """The swarm brings the rest. What went past it before is had from the own containerd's file."""
        assert reading.span is not None
        if reading.position > reading.span.start:
            self._own_ingest.show(reading.position)
        self._put(swarming.ReaderOpened(reading.request_id, ByteSpan(reading.position, reading.span.stop)))

    def _is_fed_otherwise(self) -> bool:
        return self._ladder.is_fed_from_origin or (self._swarming is not None and self._swarming.own.has_own)

    def _streamed_wrong(self, source_id: swarming.SourceId | None) -> None:
        log.warning("containerd was streamed wrong bytes of %s: what it has is thrown away", self.digest)
        if source_id is not None:
            self._put(swarming.Lied(source_id))
        self._tell(on.BytesWrong())

    def _start_swarm(self, sources: tuple[bytes, ...]) -> None:
        self._is_gone_told = False
        if self._swarming is not None:
            self._swarming.resume()
        self._call(named for name in sources if (named := self._named.get(name)) is not None)
        if self._swarming is None and not self._is_finding_size and self._mesh.completes():
            self._is_finding_size = True
            self._spawn(self._ask_size())

    def _call(self, named: Iterable[NamedPeer]) -> None:
        for one in named:
            if one.is_complete:
                self._mesh.complete(one.peer)
            else:
                self._mesh.call(one.peer)

    async def _find_for_head(self) -> None:
        found = await self._ports.find(self.digest)
        self._note_names(found)
        self._tell(on.ProvidersKnown(tuple(name_of(one.peer) for one in found)))

    def _begin_search(self) -> None:
        self._spawn(self._search())

    async def _search(self) -> None:
        found = await self._ports.find(self.digest)
        self._note_names(found)
        if self._swarming is not None and not self._swarming.is_resting:
            self._call(found)
        self._tell(swarming.SearchEnded())

    def _note_names(self, found: Iterable[NamedPeer]) -> None:
        for named in found:
            self._named[name_of(named.peer)] = named

    async def _abort_ingest(self) -> None:
        try:
            await self._ports.discard_ingest(self.digest)
        except StoreUnavailable as exc:
            log.warning("what containerd holds of %s could not be thrown away: %s", self.digest, exc)

    def _arm(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is not None:
            delay_s = max(0.0, at - self._ports.clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tell, on.Timer())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._ports.spawn(self.digest, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- the end ---------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """A defect: whoever waits goes to the origin."""
        self._readings.let_go("this host's mirror failed")
        self.close()

    def close(self) -> None:
        """Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        self._mesh.close()
        self._own_ingest.close()
        if self._swarming is not None:
            self._swarming.close()


def _is_steering(event: Event) -> TypeGuard[on.Event]:
    return isinstance(event, _STEERING)


def _is_any(progress: on.SourceProgress) -> bool:
    """Somebody has more than this host."""
    return progress.is_rooted or progress.frontier_bytes > progress.prefix_bytes
