"""How requests of the own containerd are fed, let through or missed, and what follows for its ingest. Pure.

Refuses to decide which of the three: that is mirror.steer.ladder's.
"""

from __future__ import annotations

from mirror.steer.commands import (
    AbortIngest,
    Answer404,
    Command,
    EndByFin,
    Feed,
    Pause,
    Remember404,
    Resume,
    Tail,
)
from mirror.steer.ingest import Ingest
from mirror.steer.readers import Phase, Reader, Readers
from mirror.steer.refusals import Memory
from mirror.steer.timers import GIVE_UP_S, HEAD_MAX_S, WRONG_S, Rungs

# A growth so soon after a body of ours ended is what that body brought.
FED_LATELY_S = 5.0


class Serving:
    """`out`: where orders go."""

    def __init__(self, rungs: Rungs, out: list[Command]) -> None:
        self._rungs = rungs
        self._out = out
        self.readers = Readers()
        self.memory = Memory()
        self.ingest = Ingest()
        # The own ingest may hold bytes of the swarm's that nobody verified.
        self.has_unverified = False
        self._tail: Tail | None = None
        self._is_aborting = False
        self._fed_at: float | None = None
        # Until then the claimant counts as alive that has still to begin.
        self.queued_until: float | None = None

    # -- requests --------------------------------------------------------------------------------------------------

    def feed(self, reader: Reader) -> None:
        if reader.phase is Phase.HELD and reader.is_judged:
            reader.phase = Phase.READY
            self._out.append(Feed(reader.request_id))

    def feed_all(self) -> None:
        for reader in self.readers:
            self.feed(reader)

    def miss(self, reader: Reader, now: float) -> None:
        """404; after a GET at the first host the own containerd goes to the origin."""
        assert reader.phase is not Phase.BODY
        if not reader.asked.is_head and not reader.asked.at_fallback:
            self.steer(now)
        self.readers.remove(reader.request_id)
        self._out.append(Answer404(reader.request_id))

    def let_through(self, reader: Reader, now: float) -> None:
        """Ends it, whatever was sent. A body without a byte stays if such a one was ended lately."""
        if reader.phase is not Phase.BODY:
            self.miss(reader, now)
            return
        if reader.has_bytes:
            self.has_unverified = True
        elif self.memory.zero_byte_close_at(now) > now:
            return
        else:
            self.memory.closed_without_bytes(now)
        if not reader.asked.is_head and not reader.asked.at_fallback:
            self.memory.give_up(now + GIVE_UP_S)
            self._out.append(Remember404(GIVE_UP_S, at_both=False))
            self.steer(now)
        self.readers.remove(reader.request_id)
        self._out.append(EndByFin(reader.request_id))

    def left(self, request_id: int, now: float) -> None:
        reader = self.readers.remove(request_id)
        if reader is not None and reader.has_bytes:
            self._fed_at = now

    def pause(self, *, has_source: bool) -> None:
        for reader in self.readers.gets():
            if reader.phase is Phase.BODY and reader.is_paused is has_source:
                reader.is_paused = not has_source
                self._out.append(Resume(reader.request_id) if has_source else Pause(reader.request_id))

    def bound(self, now: float) -> None:
        """Nobody waits for ever."""
        for reader in self.readers:
            at = self._ends_at(reader)
            if at is not None and now >= at:
                self.let_through(reader, now)

    def bound_at(self) -> float | None:
        ends = (self._ends_at(reader) for reader in self.readers)
        return min((at for at in ends if at is not None), default=None)

    def _ends_at(self, reader: Reader) -> float | None:
        if reader.silent_since is None:
            return None
        if reader.phase is Phase.BODY:
            ends_at = reader.silent_since + self._rungs.silent_max_s
            return ends_at if reader.has_bytes else max(ends_at, self.memory.zero_byte_close_at(ends_at))
        if reader.asked.at_fallback:
            return reader.silent_since + self._rungs.fallback_max_s
        if reader.asked.is_head:
            return reader.silent_since + HEAD_MAX_S
        ends_at = reader.silent_since + self._rungs.silent_max_s
        if self.queued_until is None:
            return ends_at
        return max(ends_at, min(self.queued_until, reader.silent_since + self._rungs.queued_max_s))

    # -- the own ingest --------------------------------------------------------------------------------------------

    def steer(self, now: float, *, is_new: bool = False) -> bool:
        """The own containerd is sent to the origin: ordered before the 404 or the FIN, so that the ingest is seen at
        its birth. Whether this begins something new."""
        alive_until = self.ingest.alive_until()
        is_new = is_new or alive_until is None or now >= alive_until
        if is_new:
            self.ingest.steer(now)
            self._tail = None
        tail = Tail(self.has_unverified)
        if tail != self._tail:
            self._tail = tail
            self._out.append(tail)
        return is_new

    def is_adopted(self, now: float) -> bool:
        """Whether a growth of the ingest is the origin's doing though this host did not send its containerd there:
        before the daemon was started, say."""
        is_fed_here = any(reader.phase is not Phase.HELD for reader in self.readers.gets())
        was_fed_here = self._fed_at is not None and now - self._fed_at < FED_LATELY_S
        return not is_fed_here and not was_fed_here

    def abort(self) -> None:
        self._is_aborting = True
        self._out.append(AbortIngest())

    def vanished(self) -> bool:
        """Whether the own containerd's download ended with it. After an abort of ours it begins anew."""
        was_aborting, self._is_aborting = self._is_aborting, False
        self.ingest.size_bytes = 0
        if was_aborting:
            return False
        self.has_unverified = False
        self.ingest.end()
        self._tail = None
        if self.memory.forgive():
            self._out.append(Remember404(0.0, at_both=False))
        return True

    def wrong(self, now: float) -> None:
        """First the abort: what is ended before it leaves a bad ingest that no pull gets over."""
        self.abort()
        self.ingest.end()
        self.memory.refuse(now + WRONG_S)
        self._out.append(Remember404(WRONG_S, at_both=True))
        for reader in self.readers:
            self.let_through(reader, now)
        self.has_unverified = False
