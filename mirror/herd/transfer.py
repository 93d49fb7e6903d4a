"""One digest at this host: joins the ladder, the swarm, the neighbours and the own ingest, and carries the ladder's
orders out. Decides nothing that these decide; what it works out itself is what each is to be told of the other.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from typing import Any, cast, get_args

import mirror.steer.commands as do
import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.alarm import Alarm
from mirror.herd.claiming import Claiming
from mirror.herd.fetch_ahead import FetchAhead
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh
from mirror.herd.named import Named
from mirror.herd.own_bytes import OwnBytes, Portion
from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import WHOLE_FIRST_MAX_BYTES, Event, TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.reading import Reading
from mirror.herd.readings import Readings
from mirror.herd.reports import Reports
from mirror.herd.requests import Requests
from mirror.herd.sizes import Sizes
from mirror.herd.swarming import Swarming, answer_digests
from mirror.herd.trial import Trial
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.peer import news
from mirror.peer.channel import Channel
from mirror.peer.frames import BLOB_MAX_BYTES
from mirror.steer.ladder import Ladder

log = logging.getLogger(__name__)

# A disk that did not take a blob is not tried again for so long.
ASIDE_S = 30.0

_STEERING = frozenset(get_args(on.Event))
# These bring about nothing, and change nothing that the other side is to know.
_NOTES = frozenset((swarming.ReaderMoved, swarming.RunProgress, swarming.PrefixHashed))
# What comes often: the ladder hears it without all that it is owed, which is a quarter of a second old at most.
_GROWTH = frozenset((on.SourceProgress, on.IngestGrew, on.Fed))


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
        self.registry = registry
        self.used_at = ports.clock()
        self._ladder = ladder
        self._ports = ports
        self._rng = rng
        self._swarming: Swarming | None = None
        self._readings = Readings()
        self._pump = Pump(self._handle, lambda: self._reports.look(), self._settle, _NOTES)
        self._mesh = Mesh(
            digest,
            ports.channels,
            rng,
            tell=self._pump.tell,
            size_told=lambda size_bytes: self._sizes.told(size_bytes),
            settled=self._pump.settled,
            spawn=self._spawn,
            clock=ports.clock,
            avoided=ports.avoided,
            lending=ports.lending,
            params=ports.params,
        )
        self._sizes = Sizes(
            digest,
            ports,
            self._mesh,
            size_bytes,
            begin=self._begin,
            is_known=lambda: self._swarming is not None,
            settle=self._pump.run,
            spawn=self._spawn,
        )
        self._named = Named(
            digest,
            ports,
            self._mesh,
            tell=self._pump.tell,
            is_resting=lambda: self._swarming is None or self._swarming.is_resting,
        )
        self._own_ingest = OwnIngest(
            digest,
            registry,
            ports,
            begin=self._begin_own,
            readings=self._readings,
            put=self._pump.put,
            settle=self._pump.run,
            spawn=self._spawn,
        )
        self.expects = self._own_ingest.expects
        self.is_growth_awaited = self._own_ingest.is_growth_awaited
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
            settle=self._pump.settled,
            spawn=self._spawn,
        )
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm = Alarm(ports.clock, lambda: self._pump.tell(on.Timer()))
        self._claiming = Claiming(digest, ports.claims, tell=self._pump.tell, note_names=self._named.note)
        self._requests = Requests(
            digest,
            self._pump,
            self._mesh,
            self._readings,
            self._lone,
            self._trial,
            self._claiming,
            ports,
            is_keen=lambda: self._ladder.is_draining,
            swarming=lambda: self._swarming,
        )
        self._reports = Reports(
            ladder,
            ports,
            self._mesh,
            self._pump,
            self._lone,
            self._sizes,
            self._own_ingest,
            swarming=lambda: self._swarming,
            resize=self._resize,
        )
        self.ahead = FetchAhead(
            ports, self._mesh, self._pump, self._readings, self._lone, swarming=lambda: self._swarming
        )
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

    def lend(self, span: ByteSpan) -> list[Portion] | None:
        """For a peer; None: not all of it may be offered."""
        self.used_at = self._ports.clock()
        return None if self._swarming is None else self._swarming.lend(span)

    # -- requests of the own containerd ----------------------------------------------------------------------------

    def ask(
        self, request_id: int, byte_range: ByteRange | None, *, is_head: bool, at_fallback: bool
    ) -> Reading:
        return self._requests.ask(request_id, byte_range, is_head=is_head, at_fallback=at_fallback)

    def left(self, reading: Reading) -> None:
        """The request is over, however it ended."""
        self.used_at = self._ports.clock()
        self._requests.left(reading)

    # -- the own containerd's file ---------------------------------------------------------------------------------

    def born(self, total_bytes: int | None) -> None:
        self._trial.replaced()
        self._own_ingest.born(total_bytes)

    def grew(self, size_bytes: int) -> None:
        self._trial.grew(size_bytes, self.size_bytes())
        self._own_ingest.grew(size_bytes)

    def vanished(self) -> None:
        self._trial.vanished(self.size_bytes())
        self._own_ingest.vanished()

    def committed(self) -> None:
        self._trial.committed()
        if not self._is_closed:
            self._own_ingest.committed()

    def provided(self) -> None:
        self._pump.tell(on.Provided())

    # -- neighbours ------------------------------------------------------------------------------------------------

    def heard(self, channel: Channel, told: news.News) -> None:
        match told:
            case news.PieceDigestsAsked(_, first, stop):
                self._spawn(answer_digests(self._swarming, channel, self.digest, first, stop))
            case news.PieceDigestsTold(_, _, _, digests):
                self._pump.put(swarming.PieceDigests(str(channel.peer), digests))
            case _:
                if not isinstance(told, news.PeerLoad | news.ChannelDown):
                    self.used_at = self._ports.clock()
                self._mesh.heard(channel, told)
        if not isinstance(told, news.PeerHas):  # of which all was told to the pump
            self._pump.run()

    def distrust(self, source_id: swarming.SourceId) -> None:
        """It sent wrong bytes of another digest. What nobody was handed yet is dropped; who reads is served on, and
        judged by the hash."""
        self._mesh.failed(source_id)
        self._pump.put(swarming.Lied(source_id))
        if not len(self._readings):
            self._pump.put(swarming.SourceGone(source_id, swarming.GoneReason.REPLACED))
        self._pump.run()

    # -- the size --------------------------------------------------------------------------------------------------

    def vouch(self, size_bytes: int) -> None:
        """A manifest names the size: better than a peer's word."""
        self._sizes.vouched_bytes = size_bytes
        self._resize(size_bytes)
        self._pump.run()

    def _begin(self, size_bytes: int | None) -> Swarming | None:
        """The swarm, made where the size is new; None: there is none of that size."""
        found = self._swarming
        if found is not None:
            return found if size_bytes in (None, found.layout.size_bytes) else None
        if self._is_closed or not size_bytes or not 0 < size_bytes <= BLOB_MAX_BYTES:
            return None
        self._sizes.tried(size_bytes)
        found = self._swarming = Swarming(
            self.digest,
            size_bytes,
            self._ports,
            self._rng,
            self._mesh,
            self._readings,
            put=self._pump.put,
            tell=self._pump.tell,
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
        if size_bytes and self._sizes.vouched_bytes is None:
            self._sizes.vouched_bytes = size_bytes
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
        self._pump.keep(lambda event: type(event) in _STEERING)
        for reading in self._readings:
            reading.forget_size()
            if reading.is_begun:
                self._pump.put(on.BytesWrong())
        found = self._begin(size_bytes)
        self._own_ingest.swarm_replaced()
        return found

    def _no_room(self, why: str) -> None:
        """The disk does not take it: this host's containerd goes to the origin by itself."""
        if self.ahead.is_on:
            # It did not ask yet: there may be room when it does.
            self.ahead.stop()
            return
        if not self.is_aside:
            log.info("%s is left to the registry: %s", self.digest, why)
        self._aside_until = self._ports.clock() + ASIDE_S
        self._readings.let_go(why)

    # -- the pump --------------------------------------------------------------------------------------------------

    def _handle(self, event: Event) -> bool:
        kind = type(event)
        if kind in _STEERING:
            if kind not in _GROWTH:
                self._catch_up()
            return self._steer(cast(on.Event, event)) or kind not in _GROWTH
        swarm, is_note = self._swarming, kind in _NOTES
        if swarm is not None and is_note:
            swarm.note(cast(swarming.Event, event), self._ports.clock())
        elif swarm is not None:
            self.ahead.look()
            swarm.handle(cast(swarming.Event, event), self._ports.clock())
        return not is_note

    def _steer(self, event: on.Event) -> bool:
        """Whether the ladder ordered anything."""
        orders = self._ladder.handle(event, self._ports.clock())
        for order in orders:
            self._carry_out(order)
        return bool(orders)

    def _catch_up(self) -> None:
        """What the ladder was not told of it knows before it decides."""
        for event in (*self._reports.owed(), *self._requests.owed()):
            self._steer(event)

    def _settle(self) -> None:
        if self._swarming is not None:
            is_wanted = self.ahead.is_on or len(self._readings) > 0
            self._swarming.settle(is_hash_wanted=is_wanted and not self._own_ingest.is_committed)

    # -- the ladder's orders ---------------------------------------------------------------------------------------

    def _carry_out(self, order: do.Command) -> None:
        match order:
            case do.SetTimer(at):
                self._alarm.set(at)
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
                self._spawn(self._named.find_for_head())
            case do.StartSwarm(sources):
                self._start_swarm(sources)
            case do.StopSwarm():
                if self._swarming is not None:
                    self._swarming.rest()
            case do.Tail(is_judged):
                self._own_ingest.tail(is_judged=is_judged)
            case do.AbortIngest():
                self._spawn(self._own_ingest.abort())
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
                self._pump.put(swarming.ReaderOpened(reading.request_id, span))

    def _fall_back(self, reading: Reading) -> None:
        """The swarm brings the rest. What went past it before is had from the own containerd's file."""
        assert reading.span is not None
        if reading.position > reading.span.start:
            self._own_ingest.show(reading.position)
        self._pump.put(
            swarming.ReaderOpened(reading.request_id, ByteSpan(reading.position, reading.span.stop))
        )

    def _is_fed_otherwise(self) -> bool:
        return self._ladder.is_fed_from_origin or (self._swarming is not None and self._swarming.own.has_own)

    def _streamed_wrong(self, source_id: swarming.SourceId | None) -> None:
        log.warning("containerd was streamed wrong bytes of %s: what it has is thrown away", self.digest)
        if source_id is not None:
            self._pump.put(swarming.Lied(source_id))
        self._pump.tell(on.BytesWrong())

    def _start_swarm(self, sources: tuple[bytes, ...]) -> None:
        self._reports.named_anew()
        if self._swarming is not None:
            self._swarming.resume()
        self._named.call(sources)
        self._sizes.ask()

    def _begin_search(self) -> None:
        self._spawn(self._named.search())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._ports.spawn(self.digest, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def close(self) -> None:
        """Whoever waits goes to the origin. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._readings.let_go("this host's mirror has ended it")
        self._pump.close()
        self._alarm.set(None)
        self._requests.close()
        self._reports.close()
        for task in list(self._tasks):
            task.cancel()
        self._mesh.close()
        self._own_ingest.close()
        if self._swarming is not None:
            self._swarming.close()
