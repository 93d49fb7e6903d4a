"""Who may fetch a key: the arbiter's memory of claims. Pure: answers, sends nothing, reads no clock.

Rules
1. At most one claim runs a key. Its fence is this node's id and a counter that only rises, over restarts too.
2. A claim holds for `claim_first_progress_s`; each growth of its progress makes it hold for `claim_progress_min_s`,
   or `claim_step_factor` times what the last growth took (progress may come in large steps: containerd's grows by
   1 MiB). Nothing but growth renews it.
3. Who let a claim end without growth, or gave it back as failed, is excluded for that key, longer each time. When
   REFUSALS_COUNT different holders gave it back as failed and none grew, nobody gets it for a while.
4. Among the waiters the one with the most progress is next: for `claim_wait_retry_s` after an end others wait for him.
5. An asker or a holder who knows a claim of another arbiter's is believed: the holder's renewal is adopted where no
   claim runs here (or the one that runs is behind it), and a waiter's word makes this node wait for that renewal
   before it grants. So an arbiter may die, and may forget all at a restart, and no second claim is granted.
6. Everything is bounded: keys, claims a holder, waiters and exclusions a key, waiters in all. A key is forgotten
   `claim_forget_s` after its last event.

Two arbiters that disagree cost one more fetch, never a wrong byte: nothing here is a lock.
"""

from __future__ import annotations

import heapq

from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Lost,
    Pending,
    Refused,
    Released,
    Running,
    Wait,
)
from dht.claims.state import Exclusion, KeyState, RunningClaim
from dht.claims.waiters import Waiters
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import Fence

# A fence's counter has 63 bits, an epoch 24: so 2^39 grants a start.
COUNTER_BITS = 39
# `reason` of a release that is nobody's fault; every other says that the holder was refused.
REASON_DONE = 0
# Three are no accident of one host's credentials or address.
REFUSALS_COUNT = 3
REFUSED_START_S = 10.0
REFUSED_MAX_S = 60.0


class Claims:
    """`own` is this node's id, `epoch` counts its starts."""

    def __init__(self, own: bytes, epoch: int, params: Params) -> None:
        self._own = own
        self._params = params
        self._first_counter = epoch << COUNTER_BITS
        self._counter = self._first_counter
        self._keys: dict[bytes, KeyState] = {}
        # Keys without a claim, the longest idle first: they make room.
        self._idle: dict[bytes, None] = {}
        self._held_counts: dict[bytes, int] = {}
        self._waiters = Waiters(params)
        self._running_count = 0
        self._due: list[tuple[float, bytes]] = []

    # -- what is known ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Keys in memory."""
        return len(self._keys)

    @property
    def running_count(self) -> int:
        """Claims, with those whose end was not noticed yet (`expire`)."""
        return self._running_count

    @property
    def waiters_count(self) -> int:
        return self._waiters.count

    def running(self, key: bytes, now: float) -> Running | None:
        state = self._keys.get(key)
        if state is None or state.claim is None or state.claim.ends_at <= now:
            return None
        return state.claim.running

    # -- requests --------------------------------------------------------------------------------------------------

    def ask(
        self,
        key: bytes,
        who: Contact,
        progress: int,
        now: float,
        *,
        known: Fence | None = None,
        is_source_known: bool = False,
    ) -> Granted | Wait | Pending | Excluded | Refused | Full:
        """`known`: the claim that the asker was told to wait for, if any. `is_source_known`: there are providers, so
        nothing is granted; whoever has tried them in vain asks without."""
        state = self._current(key, now)
        if state is not None and state.claim is not None:
            if state.claim.holder.node == who.node:
                return self._again(state, state.claim, who, progress, now)
            self._waiters.remember(state, who, progress, now)
            return Wait(
                state.claim.running, self._params.claim_wait_retry_s, self._waiters.sample(state, who, now)
            )
        if is_source_known:
            participants = () if state is None else self._waiters.sample(state, who, now)
            return Pending(self._params.claim_wait_retry_s, participants)
        if state is None:
            state = self._new(key, now)
            if state is None:
                return Full(self._params.claim_progress_min_s)
        return self._next(state, who, progress, known, now)

    def renew(
        self, key: bytes, who: Contact, fence: Fence, progress: int, now: float
    ) -> Granted | Lost | Wait | Pending | Excluded | Refused | Full:
        """Without a claim to renew it is an `ask`."""
        state = self._current(key, now)
        if state is None:
            state = self._new(key, now) if self._is_foreign(fence) else None
            if state is None:
                return self.ask(key, who, progress, now)
            return self._adopt(state, who, fence, progress, now)
        claim = state.claim
        if claim is None:
            if self._may_resume(state, who, fence, progress):
                return self._adopt(state, who, fence, progress, now)
            return self.ask(key, who, progress, now)
        if claim.holder.node == who.node:
            claim.holder = who
            self._grow(state, claim, progress, now)
            return self._granted(state, claim, now)
        if self._is_foreign(fence) and progress > claim.progress:
            # Two arbiters granted it: the claim that is ahead stays.
            return self._adopt(state, who, fence, progress, now)
        self._waiters.remember(state, who, progress, now)
        return Lost(claim.running, self._params.claim_wait_retry_s, self._waiters.sample(state, who, now))

    def release(
        self, key: bytes, who: Contact, fence: Fence, progress: int, reason: int, now: float
    ) -> Released:
        """Ends the claim of that fence, if it runs and is the sender's. A holder whose bytes others may want releases
        after they can find him: the next asker is granted the claim."""
        state = self._current(key, now)
        if state is None or state.claim is None:
            return Released()
        claim = state.claim
        if claim.holder.node != who.node or claim.fence != fence:
            return Released()
        self._grow(state, claim, progress, now)
        self._end(state, now)
        if reason != REASON_DONE:
            self._exclude(state, claim, now)
            self._refuse(state, claim, now)
        return Released()

    def moved(self, key: bytes, who: Contact, progress: int, now: float) -> None:
        """The holder was sent to another arbiter: that he comes no more is no fault of his."""
        state = self._current(key, now)
        if state is not None and state.claim is not None and state.claim.holder.node == who.node:
            self._grow(state, state.claim, progress, now)
            state.claim.is_moved = True

    # -- time ------------------------------------------------------------------------------------------------------

    def expire(self, now: float) -> int:
        """Ends what nobody asked about. Returns how many keys were forgotten."""
        forgotten_count = 0
        while self._due and self._due[0][0] <= now:
            at, key = heapq.heappop(self._due)
            state = self._keys.get(key)
            if state is None or state.noted_due_at != at:
                continue
            state.noted_due_at = None
            self._settle(state, now)
            due_at = state.due_at(self._params)
            if due_at <= now:
                self._forget(state)
                forgotten_count += 1
            else:
                self._note_due(state, due_at)
        return forgotten_count

    def next_due(self) -> float | None:
        """When `expire` has something to do, at the earliest."""
        return self._due[0][0] if self._due else None

    # -- granting --------------------------------------------------------------------------------------------------

    def _next(
        self, state: KeyState, who: Contact, progress: int, known: Fence | None, now: float
    ) -> Granted | Pending | Excluded | Refused | Full:
        """No claim runs."""
        params = self._params
        if state.refused_until > now:
            return Refused(state.refused_until - now)
        exclusion = state.excluded.get(who.node)
        if exclusion is not None and exclusion.until > now:
            return Excluded(exclusion.until - now)
        # Once only: two waiters that know of different claims would hold it up for ever.
        is_news = known is not None and known != state.last_fence and state.expected_until == 0.0
        if known is not None and is_news and self._is_foreign(known):
            # Enough for a holder that renews as often as a waiter asks, and for one lost datagram.
            state.expected_until = now + 2 * params.claim_wait_retry_s
        held_back_until = state.expected_until
        if state.preferring_until > held_back_until and self._waiters.has_better(state, who, progress, now):
            held_back_until = state.preferring_until
        held_back_s = held_back_until - now
        if held_back_s > 0:
            self._waiters.remember(state, who, progress, now)
            return Pending(min(held_back_s, params.claim_wait_retry_s), self._waiters.sample(state, who, now))
        if not self._has_room_for(who.node, now):
            return Full(params.claim_progress_min_s)
        self._counter += 1
        claim = RunningClaim(
            Fence(self._own, self._counter), who, progress, now, now + params.claim_first_progress_s
        )
        self._begin(state, claim, now)
        return self._granted(state, claim, now)

    def _again(
        self, state: KeyState, claim: RunningClaim, who: Contact, progress: int, now: float
    ) -> Granted:
        """The holder did not hear us, or began anew: what he lost does not count as had."""
        claim.holder = who
        if progress < claim.progress:
            claim.progress = progress
        else:
            self._grow(state, claim, progress, now)
        return self._granted(state, claim, now)

    def _grow(self, state: KeyState, claim: RunningClaim, progress: int, now: float) -> None:
        claim.grow(progress, now, self._params)
        self._note_due(state, claim.ends_at)

    def _adopt(
        self, state: KeyState, who: Contact, fence: Fence, progress: int, now: float
    ) -> Granted | Excluded | Refused | Full:
        """In place of the claim that runs, if one does."""
        if state.refused_until > now and progress == 0:
            return Refused(state.refused_until - now)
        exclusion = state.excluded.get(who.node)
        if exclusion is not None and exclusion.until > now and progress <= exclusion.progress:
            return Excluded(exclusion.until - now)
        if not self._has_room_for(who.node, now):
            return Full(self._params.claim_progress_min_s)
        if state.claim is not None:
            behind = state.claim
            self._end(state, now)
            self._waiters.remember(state, behind.holder, behind.progress, now)
        hold_s = self._params.claim_progress_min_s if progress else self._params.claim_first_progress_s
        claim = RunningClaim(fence, who, progress, now, now + hold_s)
        self._begin(state, claim, now)
        return self._granted(state, claim, now)

    def _may_resume(self, state: KeyState, who: Contact, fence: Fence, progress: int) -> bool:
        """No claim runs, though one did. An own fence is good while nobody was granted the key after it and its holder
        has grown since; another arbiter's is."""
        if fence == state.last_fence:
            return who.node == state.last_holder and progress > state.last_progress
        return self._is_foreign(fence)

    def _is_foreign(self, fence: Fence) -> bool:
        """Of another arbiter, or of this one before its restart."""
        return fence.arbiter != self._own or fence.counter <= self._first_counter

    def _granted(self, state: KeyState, claim: RunningClaim, now: float) -> Granted:
        return Granted(claim.fence, claim.ends_at - now, self._waiters.sample(state, claim.holder, now))

    def _has_room_for(self, node: bytes, now: float) -> bool:
        if self._held_counts.get(node, 0) < self._params.claims_per_holder_count:
            return True
        self.expire(now)
        return self._held_counts.get(node, 0) < self._params.claims_per_holder_count

    # -- beginnings and ends ---------------------------------------------------------------------------------------

    def _begin(self, state: KeyState, claim: RunningClaim, now: float) -> None:
        node = claim.holder.node
        state.claim = claim
        state.expected_until = state.preferring_until = 0.0
        self._waiters.drop(state, node)
        self._idle.pop(state.key, None)
        self._running_count += 1
        self._held_counts[node] = self._held_counts.get(node, 0) + 1
        state.touch(now)
        self._note_due(state, claim.ends_at)

    def _end(self, state: KeyState, at: float) -> None:
        claim = state.claim
        assert claim is not None
        node = claim.holder.node
        state.claim = None
        state.last_fence, state.last_holder, state.last_progress = claim.fence, node, claim.progress
        state.preferring_until = at + self._params.claim_wait_retry_s
        if claim.has_grown:
            state.refusers = ()
        self._idle[state.key] = None
        self._running_count -= 1
        count = self._held_counts[node] - 1
        if count:
            self._held_counts[node] = count
        else:
            del self._held_counts[node]
        state.touch(at)

    def _exclude(self, state: KeyState, claim: RunningClaim, at: float) -> None:
        node = claim.holder.node
        before = state.excluded.pop(node, None)
        times_count = 1 if before is None or claim.has_grown else before.times_count + 1
        params = self._params
        for_s = min(params.claim_exclude_start_s * 2 ** min(times_count - 1, 16), params.claim_exclude_max_s)
        if len(state.excluded) >= params.claim_waiters_count:
            del state.excluded[min(state.excluded, key=lambda one: state.excluded[one].until)]
        state.excluded[node] = Exclusion(at + for_s, times_count, claim.progress)

    def _refuse(self, state: KeyState, claim: RunningClaim, at: float) -> None:
        node = claim.holder.node
        if claim.has_grown or node in state.refusers:
            return
        state.refusers = (*state.refusers, node)
        if len(state.refusers) >= REFUSALS_COUNT:
            for_s = min(REFUSED_START_S * 2**state.refused_times_count, REFUSED_MAX_S)
            state.refusers = ()
            state.refused_times_count = min(state.refused_times_count + 1, 16)
            state.refused_until = at + for_s

    def _settle(self, state: KeyState, now: float) -> None:
        """Ends a claim whose time is over, as of that time."""
        claim = state.claim
        if claim is not None and claim.ends_at <= now:
            self._end(state, claim.ends_at)
            if not claim.has_grown and not claim.is_moved:
                self._exclude(state, claim, claim.ends_at)

    # -- keys ------------------------------------------------------------------------------------------------------

    def _current(self, key: bytes, now: float) -> KeyState | None:
        state = self._keys.get(key)
        if state is not None:
            self._settle(state, now)
        return state

    def _new(self, key: bytes, now: float) -> KeyState | None:
        """None: no room."""
        if len(self._keys) >= self._params.claims_max_count:
            self.expire(now)
            if len(self._keys) >= self._params.claims_max_count:
                if not self._idle:
                    return None
                self._forget(self._keys[next(iter(self._idle))])
        state = self._keys[key] = KeyState(key)
        self._idle[key] = None
        state.touch(now)
        self._note_due(state, state.due_at(self._params))
        return state

    def _note_due(self, state: KeyState, at: float) -> None:
        """An entry that comes too early is put off when its turn comes; where it would come too late another is made,
        and the late one is dropped at its turn."""
        if state.noted_due_at is None or at < state.noted_due_at:
            state.noted_due_at = at
            heapq.heappush(self._due, (at, state.key))

    def _forget(self, state: KeyState) -> None:
        assert state.claim is None
        del self._keys[state.key]
        del self._idle[state.key]
        self._waiters.drop_all(state)
