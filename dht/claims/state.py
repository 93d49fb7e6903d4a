"""What an arbiter remembers of one key. Numbers that change; the rules are in dht.claims.claims."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dht.claims.rulings import Holding, Running
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import Fence

# Three are no accident of one host's credentials or address.
REFUSALS_COUNT = 3
REFUSED_START_S = 10.0
REFUSED_MAX_S = 60.0


class Waiter(NamedTuple):
    holding: Holding
    heard_at: float


class Exclusion(NamedTuple):
    """`progress`: the holder's when the claim ended."""

    until: float
    times_count: int
    progress: int


class Done(NamedTuple):
    """A holder who gave his claim back because he has all of it, and until when his word is enough."""

    holding: Holding
    until: float


class RunningClaim:
    """`ends_at`: unless its progress grows. `is_moved`: the holder was sent to another arbiter. `is_queued`: the holder
    said that he has still to begin."""

    __slots__ = (
        "began_at",
        "ends_at",
        "fence",
        "grown_at",
        "has_grown",
        "holder",
        "is_moved",
        "is_queued",
        "progress",
    )

    def __init__(self, fence: Fence, holder: Contact, progress: int, now: float, ends_at: float) -> None:
        self.fence = fence
        self.holder = holder
        self.progress = progress
        self.began_at = now
        self.grown_at = now
        self.ends_at = ends_at
        self.has_grown = False
        self.is_moved = False
        self.is_queued = False

    @property
    def running(self) -> Running:
        return Running(self.fence, self.holding)

    @property
    def holding(self) -> Holding:
        return Holding(self.holder, self.progress)

    def grow(self, progress: int, now: float, params: Params) -> None:
        """Without growth nothing changes."""
        if progress <= self.progress:
            return
        step_s = now - self.grown_at
        # No step counts as longer than the time before the first: a holder of ever longer steps would keep all others
        # waiting for ever.
        step_s = min(step_s, params.claim_first_progress_s)
        self.progress = progress
        self.grown_at = now
        self.has_grown = True
        self.is_queued = False
        self.ends_at = now + max(params.claim_progress_min_s, params.claim_step_factor * step_s)

    def queue(self, now: float, params: Params) -> None:
        """Its holder is busy with others, and comes to it, or comes back to it: not for ever."""
        if self.has_grown:
            until = min(now + params.claim_progress_min_s, self.grown_at + params.claim_standing_max_s)
            self.ends_at = max(self.ends_at, until)
            return
        self.is_queued = True
        # What the next growth is measured by.
        self.grown_at = now
        until = min(now + params.claim_first_progress_s, self.began_at + params.claim_queued_max_s)
        self.ends_at = max(self.ends_at, until)


def foremost_of(claims: Iterable[RunningClaim]) -> RunningClaim | None:
    """The one with the most progress, the oldest of equals."""
    return max(claims, key=lambda one: one.progress, default=None)


class KeyState:
    """`claims`: that run, the oldest first; no node holds two. `refusers`: holders in a row that gave the claim back
    as failed. `expected_until`: until then the renewal of another arbiter's claim is waited for; 0 where no waiter
    spoke of one since the last claim began. `noted_due_at`: when it is looked at next. `expired_count`,
    `slow_again_at` and `slow_times_count` are dht.claims.extra's."""

    __slots__ = (
        "claims",
        "done",
        "excluded",
        "expected_until",
        "expired_count",
        "key",
        "last_fence",
        "last_holder",
        "last_progress",
        "noted_due_at",
        "preferring_until",
        "refused_times_count",
        "refused_until",
        "refusers",
        "slow_again_at",
        "slow_times_count",
        "touched_at",
        "waiters",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.claims: list[RunningClaim] = []
        self.waiters: dict[bytes, Waiter] = {}
        self.excluded: dict[bytes, Exclusion] = {}
        self.refusers: tuple[bytes, ...] = ()
        self.refused_until = 0.0
        self.refused_times_count = 0
        self.last_fence: Fence | None = None
        self.last_holder = b""
        self.last_progress = 0
        self.preferring_until = 0.0
        self.done: Done | None = None
        self.expected_until = 0.0
        self.expired_count = 0
        self.slow_again_at = 0.0
        self.slow_times_count = 0
        self.touched_at = 0.0
        self.noted_due_at: float | None = None

    @property
    def foremost(self) -> RunningClaim | None:
        return foremost_of(self.claims)

    def held_by(self, node: bytes) -> RunningClaim | None:
        for claim in self.claims:
            if claim.holder.node == node:
                return claim
        return None

    def exclude(self, claim: RunningClaim, at: float, params: Params) -> None:
        """Its holder does not get it again for a while, longer each time."""
        node = claim.holder.node
        before = self.excluded.pop(node, None)
        times_count = 1 if before is None or claim.has_grown else before.times_count + 1
        for_s = min(params.claim_exclude_start_s * 2 ** min(times_count - 1, 16), params.claim_exclude_max_s)
        if len(self.excluded) >= params.claim_waiters_count:
            del self.excluded[min(self.excluded, key=lambda one: self.excluded[one].until)]
        self.excluded[node] = Exclusion(at + for_s, times_count, claim.progress)

    def refuse(self, claim: RunningClaim, at: float) -> None:
        """Its holder gave it back as failed."""
        node = claim.holder.node
        if claim.has_grown or node in self.refusers:
            return
        self.refusers = (*self.refusers, node)
        if len(self.refusers) >= REFUSALS_COUNT:
            for_s = min(REFUSED_START_S * 2**self.refused_times_count, REFUSED_MAX_S)
            self.refusers = ()
            self.refused_times_count = min(self.refused_times_count + 1, 16)
            self.refused_until = at + for_s

    def touch(self, now: float) -> None:
        self.touched_at = max(self.touched_at, now)

    def due_at(self, params: Params) -> float:
        """The end of a claim; without one, the time to forget it: not before the exclusions are over, so that the next
        is longer."""
        if self.claims:
            return min(one.ends_at for one in self.claims)
        last = max(self.touched_at, self.refused_until)
        for exclusion in self.excluded.values():
            last = max(last, exclusion.until)
        return last + params.claim_forget_s
