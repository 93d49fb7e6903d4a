"""What this host does for one digest that it does not hold, from the first request of its containerd to the commit.

Pure: it is told of requests, rulings, the swarm and the own ingest, and orders what is to be done. It moves no byte,
finds nobody and reads no clock. One ladder a digest; of several ingests the farthest is told of.

Rules
1. Only a GET at the first host claims. The claimant answers 404 to every request for the digest, so that its own
   containerd reads from the origin, and tails its ingest. A HEAD is answered from what is known.
2. Everybody else waits and is fed. While another host's claim is alive nobody goes to the origin on his own; each
   request has its bound all the same (mirror.steer.timers).
3. A body whose sources are lost is paused, not closed. Who is granted the claim drains what the swarm has, ends its
   own bodies at the frontier and answers the next GET 404.
4. A 404 at the fallback host ends the pull: it is given only where nobody can, by the arbiter's word.
5. A claim that is not used is given back: nobody waits for a host that does nothing.
6. Wrong bytes: the ingest is aborted before a body is ended.
"""

from __future__ import annotations

from enum import Enum

import mirror.steer.events as on
from mirror.steer.claimant import Claimant
from mirror.steer.commands import AskReason, Command, ReleaseReason, SetTimer
from mirror.steer.events import Event
from mirror.steer.readers import Phase, Reader
from mirror.steer.refusals import counts, may_be_fed
from mirror.steer.timers import FIRST_BYTE_UNTOLD_S, PROVIDED_LATE_S


class State(Enum):
    """LOOKING: the arbiter was asked. WAITING: on a claimant. CLAIMED: the own containerd reads from the origin. FED:
    from providers, or from here. HANDING_OVER: what others have is drained first. REFUSED: the origin refuses
    everybody. GIVEN_UP: let through to the origin without a claim."""

    IDLE = "idle"
    LOOKING = "looking"
    WAITING = "waiting"
    CLAIMED = "claimed"
    FED = "fed"
    HANDING_OVER = "handing over"
    REFUSED = "refused"
    GIVEN_UP = "given up"


class Ladder(Claimant):
    """One digest at one host."""

    # -- what is known ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        if self._committed_at is not None:
            return State.FED
        if self._drain is not None:
            return State.HANDING_OVER
        if self._refused_until is not None:
            return State.REFUSED
        if self._ingest.steered_at is not None:
            return State.GIVEN_UP if self._asking.fence is None else State.CLAIMED
        if not len(self._readers):
            return State.IDLE
        if self._asking.is_waiting:
            return State.WAITING
        return State.FED if self._sources.is_any else State.LOOKING

    @property
    def is_idle(self) -> bool:
        """Nothing is lost if it is forgotten, but what Remember404 said."""
        return self._timer_at is None and not len(self._readers) and self._ingest.steered_at is None

    @property
    def is_draining(self) -> bool:
        """Each byte counts, and each moment without one: what is told late is decided late."""
        return self._drain is not None

    @property
    def is_fed_from_origin(self) -> bool:
        """Peers may count on this host: its containerd was sent to the origin and is not known to have failed."""
        return self._ingest.steered_at is not None

    # -- events ----------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """In the order in which they are to be carried out."""
        self._happened(event, now)
        self._advance(now)
        due_at = self._next_due(now)
        if due_at != self._timer_at:
            self._timer_at = due_at
            self._out.append(SetTimer(due_at))
        commands = list(self._out)
        self._out.clear()
        return commands

    def _happened(self, event: Event, now: float) -> None:
        match event:
            case on.SourceProgress():
                self._progressed(event, now)
            case on.IngestGrew(size_bytes):
                self._grew(size_bytes, now)
            case on.Asked():
                self._asked(event, now)
            case on.Left(request_id):
                self._serving.left(request_id, now)
            case on.Fed(request_id, offset):
                self._readers.sent(request_id, offset)
            case on.Starved(request_id, offset, since):
                # Once it stands here, only containerd itself is slow.
                if self._committed_at is None:
                    self._readers.starved(request_id, offset, now if since is None else since)
            case on.Ruled():
                self._ruled(event, now)
            case on.Replaced(ruling):
                self._out += self._asking.replaced(ruling)
            case on.ProvidersKnown(providers, is_alone):
                self._start_swarm(providers)
                self._heads.answered(is_any=bool(providers), is_alone=is_alone, now=now)
            case on.SourcesGone():
                self._sources_gone(now)
            case on.IngestBorn(total_bytes):
                self._ingest.born(total_bytes)
            case on.Committed():
                self._committed(now)
            case on.IngestVanished():
                if self._committed_at is None:
                    progress_bytes = self.progress_bytes
                    if self._serving.vanished():
                        self._release(ReleaseReason.VANISHED, progress_bytes)
            case on.IngestRight():
                self._serving.has_unverified = False
            case on.BytesWrong():
                self._release(ReleaseReason.WRONG)
                self._drain = None
                self._serving.wrong(now)
            case on.Provided():
                if self._committed_at is not None:
                    self._release(ReleaseReason.COMMITTED)
            case on.OriginRefused(request_id, kind):
                self._refused_by_origin(request_id, kind, now)
            case on.DaemonJoining(is_joining):
                self._is_joining = is_joining
                if not is_joining and self._asking.ask_at is not None:
                    self._asking.want(now)
            case on.Timer():
                self._timer_at = None

    # -- requests --------------------------------------------------------------------------------------------------

    def _asked(self, asked: on.Asked, now: float) -> None:
        is_judged = not (self._is_manifest and asked.at_fallback)
        reader = self._readers.add(asked, now, is_judged=is_judged)
        if self._committed_at is not None:
            self._feed_from_here(reader)
        elif self._memory.is_refused(now):
            self._serving.miss(reader, now)
        elif asked.is_head:
            if self._sources.is_rooted:
                self._serving.feed(reader)
            else:
                self._heads.look()
        elif asked.at_fallback:
            self._asked_at_fallback(reader, now)
        else:
            self._asked_at_first(reader, now)

    def _asked_at_first(self, reader: Reader, now: float) -> None:
        alive_until = self._ingest.alive_until()
        if alive_until is not None and now < alive_until:
            self._asked_while_steered(reader, now)
        elif self._memory.is_given_up(now):
            self._serving.miss(reader, now)
        else:
            if alive_until is not None:
                # It came back: whatever it did with the 404, it does not read from the origin.
                self._ingest.end()
                self._asking.fence = None
            self._hold(reader, now)

    def _asked_while_steered(self, reader: Reader, now: float) -> None:
        """Another part of the same download; or the origin's connection was lost: only then others may be farther."""
        start = reader.asked.range_start
        here = max(start, self._ingest.size_bytes)
        is_farther = self._sources.is_rooted and self._sources.frontier_bytes > here
        if is_farther and not self._memory.is_given_up(now):
            self._serving.feed(reader)
            return
        self._serving.miss(reader, now)
        is_lost = start > 0 and self._ingest.has_grown
        is_free = self._asking.fence is not None and not self._asking.is_in_flight
        if is_lost and is_free and not self._ingest.has_reconnected:
            self._ingest.has_reconnected = True
            self._out.append(self._asking.renew(self.progress_bytes, now))

    def _asked_at_fallback(self, reader: Reader, now: float) -> None:
        self._note_refusal(now)
        self._nobody.forget()
        if self._ingest.is_growing(now):
            self._out += self._sources.start((), has_own_bytes=True)
        self._hold(reader, now)

    def _note_loss(self, now: float) -> None:
        """The origin failed on the way: the ingest still grew when this host asked, and does not any more."""
        steered_at = self._ingest.steered_at
        if steered_at is None or not self._ingest.has_grown:
            return
        if any(reader.asked_at >= steered_at for reader in self._readers.at_fallback()):
            self._note_refusal(now)

    def _note_refusal(self, now: float) -> None:
        """By the origin, of a host that asks at the fallback host."""
        if counts(steered_at=self._ingest.steered_at, is_growing=self._ingest.is_growing(now), now=now):
            self._release(ReleaseReason.REFUSED)
            self._ingest.end()

    def _hold(self, reader: Reader, now: float) -> None:
        if self._sources.is_any:
            self._serving.feed(reader)
            if self._sources.is_started:
                return
            # Fetched ahead: no arbiter knows of this host yet.
        if self._drain is None and not self._asking.is_in_flight and self._asking.ask_at is None:
            self._asking.want(now)

    def _refused_by_origin(self, request_id: int, kind: on.RefusalKind, now: float) -> None:
        reader = self._readers.get(request_id)
        if reader is None or not reader.asked.at_fallback:
            return
        if not may_be_fed(kind, is_manifest=self._is_manifest):
            self._serving.let_through(reader, now)
            return
        reader.is_judged = True
        if self._committed_at is not None:
            self._feed_from_here(reader)
        elif self._sources.is_any:
            self._serving.feed(reader)

    def _feed_from_here(self, reader: Reader) -> None:
        """From the blob: no bound, and no pause."""
        self._serving.feed(reader)
        if reader.phase is not Phase.HELD:
            reader.silent_since = None

    # -- bytes -----------------------------------------------------------------------------------------------------

    def _progressed(self, event: on.SourceProgress, now: float) -> None:
        was_any = self._sources.is_any
        if self._sources.progressed(event, now):
            self._escape_at = None
            if self._drain is not None:
                self._drain.moved(now)
        if self._sources.is_any:
            self._escape_at = None
            self._nobody.forget()
            self._serving.feed_all()
        elif was_any:
            # They have no more than this host just now: no reason to do without them.
            self._asking.want_soon(now)

    def _sources_gone(self, now: float) -> None:
        self._sources.gone()
        if self._committed_at is None:
            self._heads.sources_gone(now)
        if self._drain is not None:
            self._drain.only(self._sources.prefix_bytes)
        if not len(self._readers) and self._ingest.steered_at is None:
            # Fetched ahead: nobody waited for them.
            return
        is_new, self._asking.has_sources_failed = not self._asking.has_sources_failed, True
        if is_new and self._asking.is_in_flight and self._asking.reason is AskReason.NEEDED:
            # Its answer would name them once more. A grant that it brings is given back.
            self._asking.drop()
        if self._asking.is_in_flight:
            return
        if is_new:
            self._asking.want(now)
        else:
            # Those who were named once more failed once more.
            self._asking.want_soon(now)

    def _grew(self, size_bytes: int, now: float) -> None:
        if not self._ingest.grew(size_bytes, now):
            return
        self._flow.own_grew(now)
        if self._ingest.steered_at is None:
            if not self._serving.is_adopted(now):
                return
            self._serving.steer(now, is_new=True)
            self._ingest.note_growth(now)
        if self._second_claim.is_in_vain(self._ingest, now):
            self._release(ReleaseReason.NO_GAIN)
            self._ingest.is_claimless = True

    def _committed(self, now: float) -> None:
        self._committed_at = now
        self._drain = None
        self._escape_at = self._refused_until = None
        self._ingest.end()
        self._asking.drop()
        for reader in self._readers:
            self._feed_from_here(reader)

    # -- time ------------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        if self._committed_at is not None:
            self._serving.pause(has_source=True)
            self._serving.bound(now)
            if now >= self._committed_at + PROVIDED_LATE_S:
                self._release(ReleaseReason.COMMITTED)
            return
        late = self._asking.late(now)
        if late is not None:
            self._ruled(late, now)
        self._sources.look(now)
        self._serving.queued_until = self._asking.queued_until
        busy_until = self._flow.busy_until()
        if busy_until is not None and self._ingest.is_queued:
            self._ingest.queue(min(now, busy_until))
        self._note_loss(now)
        self._memory.expire(now)
        if self._refused_until is not None and now >= self._refused_until:
            self._refused_until = None
        self._end_steering(now)
        self._hand_over(now)
        self._escape(now)
        self._nobody_can(now)
        self._serving.bound(now)
        self._serving.pause(has_source=self._sources.is_any)
        self._heads.advance(now)
        self._leave()
        self._talk(now)

    def _hand_over(self, now: float) -> None:
        if self._drain is None:
            return
        firsts = self._readers.at_first()
        if not firsts:
            self._drain = None
            self._release(ReleaseReason.UNUSED)
        elif self._drain.is_over(firsts, self._sources.frontier_bytes, now):
            self._take_over(now)

    def _end_steering(self, now: float) -> None:
        ingest = self._ingest
        if ingest.steered_at is None:
            return
        stuck_at = ingest.stuck_at()
        if stuck_at is not None and now >= stuck_at and self._serving.has_unverified:
            self._serving.has_unverified = False
            self._release(ReleaseReason.WRONG)
            self._serving.abort()
        untold_at = self._untold_at()
        if untold_at is not None and now >= untold_at:
            self._ingest.is_claimless = True
            self._release(ReleaseReason.SILENT)
        forgotten_at = ingest.forgotten_at()
        if forgotten_at is not None and now >= forgotten_at:
            ingest.end()
            self._release(ReleaseReason.UNUSED)

    def _untold_at(self) -> float | None:
        """Without a fallback host nobody tells that the origin refuses."""
        if self._has_fallback or self._asking.fence is None:
            return None
        return self._ingest.untold_at(FIRST_BYTE_UNTOLD_S)

    def _leave(self) -> None:
        """Nobody here needs anything any more."""
        if len(self._readers) or self._ingest.steered_at is not None:
            return
        self._release(ReleaseReason.UNUSED)
        self._escape_at = None
        self._nobody.forget()
        self._out += self._sources.stop()

    def _next_due(self, now: float) -> float | None:
        """Always later than now. None: nothing is to come."""
        if self._committed_at is not None:
            given_back_at = None if self._asking.fence is None else self._committed_at + PROVIDED_LATE_S
            ends = (at for at in (given_back_at, self._serving.bound_at()) if at is not None)
            return min(ends, default=None)
        dues: list[float | None] = [
            self._serving.bound_at(),
            self._memory.next_due(),
            self._refused_until,
            self._escape_at,
            self._heads.look_at,
            self._untold_at(),
            self._ingest.forgotten_at(),
            None if self._drain is None else self._drain.due_at(),
            *(self._asking.dues()),
        ]
        if self._serving.has_unverified:
            dues.append(self._ingest.stuck_at())
        if self._readers.at_fallback():
            dues += [self._nobody.sure_at(), self._ingest.alive_until(), self._ingest.growing_until()]
        if self._readers.at_first() and not self._asking.is_in_flight:
            dues.append(self._held_long_at())
            dues.append(self._second_claim.due_at(self._sources))
        return min((at for at in dues if at is not None and at > now), default=None)
