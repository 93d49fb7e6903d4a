"""Who may fetch a key: the arbiter's memory of claims. Pure: answers, sends nothing, reads no clock.

Rules
1. One claim runs a key; more beside it only for whoever says why, within the bounds of dht.claims.extra. A fence is
   this node's id and a counter that only rises, over restarts too. Each claim has its own growth and end. Others are
   told to wait for the one with the most progress, and of the other holders before any waiter.
2. A claim holds for `claim_first_progress_s`; each growth of its progress makes it hold for `claim_progress_min_s`,
   or `claim_step_factor` times what the last growth took (progress may come in large steps: containerd's grows by
   1 MiB). A holder who says that he is busy with other keys of his renews what he has still to begin, for
   `claim_queued_max_s` in all: containerd takes up all layers of an image at once, and reads three at a time.
3. Who let a claim end without growth, or gave it back as failed, is excluded for that key, longer each time. When
   REFUSALS_COUNT different holders gave it back as failed and none grew, nobody gets it for a while.
4. Among the waiters the one with the most progress is next: for `claim_wait_retry_s` after an end others wait for him.
   After a holder who has all of it others are sent to him for `claim_done_s`: that he has it is announced to several,
   and on a busy host the news may be late.
5. An asker or a holder who knows a claim of another arbiter's is believed: the holder's renewal is adopted where no
   claim runs here (or the one that runs is behind it), and a waiter's word makes this node wait for that renewal
   before it grants. So an arbiter may die, and may forget all at a restart, and no second claim is granted. Two claims
   of one other arbiter's are both adopted: it granted the one beside the other. What the own node was told by another
   arbiter a moment ago holds for whoever passed that one over (dht.claims.elsewhere).
6. Everything is bounded: keys, claims a key and a holder, waiters and exclusions a key, waiters in all. A key is
   forgotten `claim_forget_s` after its last event.

Two arbiters that disagree cost one more fetch, never a wrong byte: nothing here is a lock.
"""

from __future__ import annotations

import heapq

import dht.claims.extra as extra
from dht.claims.elsewhere import Elsewhere
from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Holding,
    Lost,
    Pending,
    Refused,
    Released,
    Running,
    Wait,
)
from dht.claims.state import Done, KeyState, RunningClaim, foremost_of
from dht.claims.waiters import PARTICIPANTS_COUNT, Waiters
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import AskReason, Fence

# A fence's counter has 63 bits, an epoch 24: so 2^39 grants a start.
COUNTER_BITS = 39
# `reason` of a release that is nobody's fault, the second where the holder has all of it; every other says that he was
# refused.
REASON_DONE = 0
REASON_WHOLE = 4


class Claims:
    """`own` is this node's id, `epoch` counts its starts."""

    def __init__(self, own: bytes, epoch: int, params: Params) -> None:
        self._own = own
        self._params = params
        self.elsewhere = Elsewhere(own, params)
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
        """The one that others are told to wait for."""
        state = self._keys.get(key)
        foremost = None if state is None else foremost_of(one for one in state.claims if one.ends_at > now)
        return None if foremost is None else foremost.running

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
        wants_sources: bool = True,
        reason: int = AskReason.NEEDED,
    ) -> Granted | Wait | Pending | Excluded | Refused | Full:
        """`known`: the claim that the asker was told to wait for, if any. `is_source_known`: there are providers, so
        nothing is granted; whoever has tried them in vain asks without, and not `wants_sources`: who lately had it
        whole is none to him. `reason`: why one claim more is wanted."""
        state = self._current(key, now)
        foremost = None if state is None else state.foremost
        if state is not None and foremost is not None:
            own = state.held_by(who.node)
            if own is not None:
                return self._again(state, own, who, progress, now)
            if not is_source_known and self._may_be_extra(state, who, reason, now):
                extra.granted(state, reason, now, self._params)
                return self._grant(state, who, progress, now)
            self._waiters.remember(state, who, progress, now)
            return Wait(
                foremost.running, self._params.claim_wait_retry_s, self._others(state, who, now, foremost)
            )
        if state is None:
            state = self._new(key, now)
            if state is None:
                if is_source_known:
                    return Pending(self._params.claim_wait_retry_s, ())
                return Full(self._params.claim_progress_min_s)
        if is_source_known:
            # A provider turns most of a herd away: they are to know each other.
            self._waiters.remember(state, who, progress, now)
            return Pending(self._params.claim_wait_retry_s, self._others(state, who, now))
        if reason == AskReason.NEEDED:
            known_to_have = self._known_to_have(state, who, progress, now, wants_sources=wants_sources)
            if known_to_have is not None:
                return known_to_have
        return self._next(state, who, progress, known, now)

    def renew(
        self,
        key: bytes,
        who: Contact,
        fence: Fence,
        progress: int,
        now: float,
        *,
        reason: int = AskReason.NEEDED,
    ) -> Granted | Lost | Wait | Pending | Excluded | Refused | Full:
        """Without a claim to renew it is an `ask`."""
        state = self._current(key, now)
        if state is None:
            state = self._new(key, now) if self._is_foreign(fence) else None
            if state is None:
                return self.ask(key, who, progress, now)
            return self._adopt(state, who, fence, progress, now)
        foremost = state.foremost
        if foremost is None:
            if self._may_resume(state, who, fence, progress):
                return self._adopt(state, who, fence, progress, now)
            return self.ask(key, who, progress, now)
        own = state.held_by(who.node)
        if own is not None:
            own.holder = who
            self._grow(state, own, progress, now)
            if reason == AskReason.QUEUED:
                own.queue(now, self._params)
            return self._granted(state, own, now)
        if self._is_foreign(fence):
            if self._may_stand_beside(state, fence):
                return self._adopt(state, who, fence, progress, now)
            if progress > foremost.progress:
                # Two arbiters granted it: the claim that is ahead stays.
                behind = min(state.claims, key=lambda one: one.progress)
                return self._adopt(state, who, fence, progress, now, in_place_of=behind)
        self._waiters.remember(state, who, progress, now)
        return Lost(
            foremost.running, self._params.claim_wait_retry_s, self._others(state, who, now, foremost)
        )

    def release(
        self, key: bytes, who: Contact, fence: Fence, progress: int, reason: int, now: float
    ) -> Released:
        """Ends the claim of that fence, if it runs and is the sender's. A holder whose bytes others may want releases
        after they can find him."""
        state = self._current(key, now)
        claim = None if state is None else state.held_by(who.node)
        if state is None or claim is None or claim.fence != fence:
            return Released()
        self._grow(state, claim, progress, now)
        self._end(state, claim, now)
        if reason not in (REASON_DONE, REASON_WHOLE):
            state.exclude(claim, now, self._params)
            state.refuse(claim, now)
        elif claim.has_grown and not state.claims:
            extra.completed(state)
        if reason == REASON_WHOLE:
            state.done = Done(claim.holding, now + self._params.claim_done_s)
        return Released()

    def moved(self, key: bytes, who: Contact, progress: int, now: float) -> None:
        """The holder was sent to another arbiter: that he comes no more is no fault of his."""
        state = self._current(key, now)
        claim = None if state is None else state.held_by(who.node)
        if state is not None and claim is not None:
            self._grow(state, claim, progress, now)
            claim.is_moved = True

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

    def _known_to_have(
        self, state: KeyState, who: Contact, progress: int, now: float, *, wants_sources: bool
    ) -> Wait | Pending | None:
        """No claim runs here, and yet somebody has it, or fetches it."""
        again_s, done = self._params.claim_wait_retry_s, state.done
        running = self.elsewhere.running(state.key, now)
        if running is not None and running.holder.contact.node != who.node:
            self._waiters.remember(state, who, progress, now)
            return Wait(running, again_s, self._others(state, who, now))
        if wants_sources and done is not None and done.until > now and done.holding.contact.node != who.node:
            self._waiters.remember(state, who, progress, now)
            return Pending(again_s, (done.holding, *self._others(state, who, now)[: PARTICIPANTS_COUNT - 1]))
        return None

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
            return Pending(min(held_back_s, params.claim_wait_retry_s), self._others(state, who, now))
        if not self._has_room_for(state, who.node, now):
            return Full(params.claim_progress_min_s)
        return self._grant(state, who, progress, now)

    def _may_be_extra(self, state: KeyState, who: Contact, reason: int, now: float) -> bool:
        """Whether `who` may be granted a claim beside those that run."""
        exclusion = state.excluded.get(who.node)
        return (
            extra.is_due(state, reason, now, self._params)
            and state.refused_until <= now
            and (exclusion is None or exclusion.until <= now)
            and self._has_room_for(state, who.node, now)
        )

    def _grant(self, state: KeyState, who: Contact, progress: int, now: float) -> Granted:
        self._counter += 1
        fence = Fence(self._own, self._counter)
        claim = RunningClaim(fence, who, progress, now, now + self._params.claim_first_progress_s)
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
        self,
        state: KeyState,
        who: Contact,
        fence: Fence,
        progress: int,
        now: float,
        *,
        in_place_of: RunningClaim | None = None,
    ) -> Granted | Excluded | Refused | Full:
        if state.refused_until > now and progress == 0:
            return Refused(state.refused_until - now)
        exclusion = state.excluded.get(who.node)
        if exclusion is not None and exclusion.until > now and progress <= exclusion.progress:
            return Excluded(exclusion.until - now)
        if not self._has_room_for(state, who.node, now):
            return Full(self._params.claim_progress_min_s)
        if in_place_of is not None:
            self._end(state, in_place_of, now)
            self._waiters.remember(state, in_place_of.holder, in_place_of.progress, now)
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

    def _may_stand_beside(self, state: KeyState, fence: Fence) -> bool:
        """Another arbiter granted both this claim and one that runs here."""
        fences = [one.fence for one in state.claims]
        has_granted_both = any(one.arbiter == fence.arbiter and self._is_foreign(one) for one in fences)
        return has_granted_both and fence not in fences and len(fences) < self._params.claims_per_key_count

    def _is_foreign(self, fence: Fence) -> bool:
        """Of another arbiter, or of this one before its restart."""
        return fence.arbiter != self._own or fence.counter <= self._first_counter

    def _granted(self, state: KeyState, claim: RunningClaim, now: float) -> Granted:
        return Granted(claim.fence, claim.ends_at - now, self._others(state, claim.holder, now))

    def _others(
        self, state: KeyState, who: Contact, now: float, told: RunningClaim | None = None
    ) -> tuple[Holding, ...]:
        """Who else is after the key: first those who hold a claim, for they have bytes. `told`: the one that is told
        of anyway."""
        holders = tuple(
            one.holding for one in state.claims if one is not told and one.holder.node != who.node
        )
        return holders + self._waiters.sample(state, who, now, PARTICIPANTS_COUNT - len(holders))

    def _has_room_for(self, state: KeyState, node: bytes, now: float) -> bool:
        # Looked at, so that it is not forgotten below.
        state.touch(now)
        if self._held_counts.get(node, 0) < self._params.claims_per_holder_count:
            return True
        self.expire(now)
        return self._held_counts.get(node, 0) < self._params.claims_per_holder_count

    # -- beginnings and ends ---------------------------------------------------------------------------------------

    def _begin(self, state: KeyState, claim: RunningClaim, now: float) -> None:
        node = claim.holder.node
        state.claims.append(claim)
        state.expected_until = state.preferring_until = 0.0
        state.done = None
        self._waiters.drop(state, node)
        self._idle.pop(state.key, None)
        self._running_count += 1
        self._held_counts[node] = self._held_counts.get(node, 0) + 1
        state.touch(now)
        self._note_due(state, claim.ends_at)

    def _end(self, state: KeyState, claim: RunningClaim, at: float) -> None:
        node = claim.holder.node
        state.claims.remove(claim)
        state.last_fence, state.last_holder, state.last_progress = claim.fence, node, claim.progress
        state.preferring_until = at + self._params.claim_wait_retry_s
        if claim.has_grown:
            state.refusers = ()
        if not state.claims:
            self._idle[state.key] = None
        self._running_count -= 1
        count = self._held_counts[node] - 1
        if count:
            self._held_counts[node] = count
        else:
            del self._held_counts[node]
        state.touch(at)

    def _settle(self, state: KeyState, now: float) -> None:
        """Ends claims whose time is over, each as of that time."""
        over = [one for one in state.claims if one.ends_at <= now]
        for claim in sorted(over, key=lambda one: one.ends_at):
            self._end(state, claim, claim.ends_at)
            if claim.is_moved:
                continue
            extra.expired(state)
            if not claim.has_grown:
                state.exclude(claim, claim.ends_at, self._params)

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
        assert not state.claims
        del self._keys[state.key]
        del self._idle[state.key]
        self._waiters.drop_all(state)
