"""Talking with the arbiter about one digest: one question at a time, the own fence, and what was told of others'.

Refuses to decide what an answer is good for. Pure.
"""

from __future__ import annotations

from mirror.steer.commands import AskClaim, AskReason, ReleaseClaim, ReleaseReason, RenewClaim
from mirror.steer.events import Ruled
from mirror.steer.rulings import Fence, Granted, Ruling, Unruled, Wait
from mirror.steer.timers import (
    ASK_AGAIN_S,
    CLAIM_FIRST_BYTE_S,
    CLAIM_HEARD_S,
    RENEW_EVERY_S,
    RULING_LATE_ALONE_S,
    RULING_LATE_S,
)


class Asking:
    def __init__(self) -> None:
        self._last_id = 0
        self._in_flight_id: int | None = None
        self._late_at: float | None = None
        self.asked_at: float | None = None
        # None: nothing is to be asked.
        self.ask_at: float | None = None
        self.renew_at: float | None = None
        self.fence: Fence | None = None
        # Another host's claim: the last that was told of, and until when it counts as alive.
        self.known: Fence | None = None
        self._known_until: float | None = None
        self._known_since: float | None = None
        # Its holder, and how far he said to be.
        self.holder: bytes | None = None
        self.holder_bytes = 0
        # The last word was to wait for it.
        self.is_waiting = False
        # Of the last question.
        self.reason = AskReason.NEEDED
        # The arbiter that granted the claim granted the one that was known before, too: that one has ended.
        self.is_known_ended = False
        # Providers that were told of were of no use.
        self.has_sources_failed = False

    @property
    def is_in_flight(self) -> bool:
        return self._in_flight_id is not None

    def is_claim_alive(self, now: float) -> bool:
        """Another host's."""
        return self._known_until is not None and now < self._known_until

    @property
    def is_holder_behind(self) -> bool:
        """Another host has the claim, and nothing of the blob."""
        return self.is_waiting and not self.holder_bytes

    @property
    def queued_until(self) -> float | None:
        """Until then another host counts as alive that has the claim and is known to have still to begin: an arbiter
        grants nobody more than CLAIM_FIRST_BYTE_S without a byte but for that. None: there is none."""
        if not self.is_holder_behind or self._known_until is None or self._known_since is None:
            return None
        told_for_s = self._known_until - CLAIM_HEARD_S - self._known_since
        return self._known_until if told_for_s > CLAIM_FIRST_BYTE_S else None

    @property
    def known_until(self) -> float | None:
        return self._known_until

    def want(self, at: float) -> None:
        """Ask at that time, or earlier if that was wanted before."""
        if self.ask_at is None or at < self.ask_at:
            self.ask_at = at

    def ask(self, progress_bytes: int, reason: AskReason, now: float) -> AskClaim:
        assert not self.is_in_flight
        self.ask_at = None
        self.asked_at = now
        self.reason = reason
        wants_providers = not self.has_sources_failed and reason is not AskReason.HELD_LONG
        return AskClaim(self._next_id(now), progress_bytes, reason, self.known, wants_providers)

    def renew(self, progress_bytes: int, now: float, *, is_queued: bool = False) -> RenewClaim:
        assert not self.is_in_flight and self.fence is not None
        self.renew_at = None
        self.reason = AskReason.FED_ALREADY
        return RenewClaim(self._next_id(now), self.fence, progress_bytes, is_queued)

    def release(self, progress_bytes: int, reason: ReleaseReason) -> list[ReleaseClaim]:
        """Gives back what is held; an answer on its way is not wanted any more."""
        fence, self.fence = self.fence, None
        self.drop()
        return [] if fence is None else [ReleaseClaim(fence, progress_bytes, reason)]

    def drop(self) -> None:
        """Nothing is to be asked, and an answer on its way is not wanted."""
        self._in_flight_id = self._late_at = None
        self.ask_at = self.renew_at = None

    def answered(self, ruled: Ruled, now: float) -> bool:
        """Whether it is the answer that is waited for. Notes what it says of claims."""
        if ruled.ask_id != self._in_flight_id:
            return False
        self._in_flight_id = self._late_at = None
        match ruled.ruling:
            case Granted(fence):
                self.is_known_ended = self.known is not None and self.known.arbiter == fence.arbiter
                self.fence = fence
                self.known = self._known_until = None
                self.is_waiting = False
                self.renew_at = now + RENEW_EVERY_S
            case Wait(fence, holder):
                self.fence = None
                self.holder, self.holder_bytes = holder.node, holder.progress_bytes
                if fence != self.known:
                    self._known_since = now
                self.known, self._known_until = fence, now + CLAIM_HEARD_S
                self.is_waiting = True
            case Unruled():
                # What is not said has not ended.
                if self.fence is not None:
                    self.renew_at = now + RENEW_EVERY_S
            case _:
                self.fence = None
                self._known_until = None
                self.is_waiting = False
        return True

    def given_back_late(self, ruled: Ruled) -> list[ReleaseClaim]:
        """For an answer that is not waited for."""
        if not isinstance(ruled.ruling, Granted) or ruled.ruling.fence == self.fence:
            return []
        return [ReleaseClaim(ruled.ruling.fence, 0, ReleaseReason.UNUSED)]

    def replaced(self, ruling: Ruling) -> list[ReleaseClaim]:
        """Of a claim that is held the fence is another one now; one that is not held any more is given back."""
        if not isinstance(ruling, Granted):
            return []
        if self.fence is None:
            return [ReleaseClaim(ruling.fence, 0, ReleaseReason.UNUSED)]
        self.fence = ruling.fence
        return []

    def late(self, now: float) -> Ruled | None:
        """The answer that did not come, as one that says nothing."""
        if self._late_at is None or now < self._late_at or self._in_flight_id is None:
            return None
        return Ruled(self._in_flight_id, Unruled())

    def want_soon(self, now: float) -> None:
        """At once, but not more often than the others ask."""
        self.want(now if self.asked_at is None else max(now, self.asked_at + ASK_AGAIN_S))

    def again(self, again_s: float, now: float) -> None:
        """A holder of a request asks every second though he be told to come later: the others do."""
        self.want(now + min(max(again_s, 0.05), ASK_AGAIN_S))

    def dues(self) -> list[float | None]:
        if self.is_in_flight:
            return [self._late_at]
        return [self.ask_at, self.renew_at]

    def _next_id(self, now: float) -> int:
        self._last_id += 1
        self._in_flight_id = self._last_id
        self._late_at = now + (RULING_LATE_ALONE_S if self.has_sources_failed else RULING_LATE_S)
        return self._last_id
