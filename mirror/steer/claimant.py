"""What follows from an arbiter's word, and when to ask for it: the rules of claims for one digest. Pure.

Rules
1. A claim is taken up only for a GET at the first host. Whoever was granted it and has providers, or no such GET,
   gives it back at once; so does who is granted it by an arbiter that does not know of the claimant whose bytes come.
2. Asked is once a second while somebody waits; one claim more is asked for when a request was held for long, and when
   the claimant is slow.
3. Where no arbiter is to be reached a miss is quick, by lot; whoever has bytes or knew of a claim waits longer. While
   a claim is alive nobody goes to the origin on his own.
4. A 404 at the fallback host needs the word that nobody else has the claim or the digest, twice.
"""

from __future__ import annotations

import mirror.steer.events as on
from mirror.steer.commands import AskReason, ReleaseReason, Remember404
from mirror.steer.drain import Drain
from mirror.steer.facts import Facts
from mirror.steer.readers import Phase
from mirror.steer.rulings import Excluded, Granted, Participant, Pending, Refused, Unruled, Wait
from mirror.steer.timers import (
    ASK_AGAIN_S,
    CUT_OFF_S,
    ESCAPE_BARE_MAX_S,
    ESCAPE_WAITED_MAX_S,
    JOINING_AGAIN_S,
    JOINING_HOLD_S,
    NOBODY_AGAIN_S,
)


class Claimant(Facts):
    """Claims of one digest, as one host asks for them."""

    # -- rulings ---------------------------------------------------------------------------------------------------

    def _ruled(self, ruled: on.Ruled, now: float) -> None:
        if not self._asking.answered(ruled, now):
            self._out += self._asking.given_back_late(ruled)
            return
        if not isinstance(ruled.ruling, Unruled):
            self._escape_at = None
        if not isinstance(ruled.ruling, Unruled | Granted):
            self._drain = None
        is_steered = self._ingest.steered_at is not None
        if len(self._readers):
            self._start_swarm(ruled.providers)
        match ruled.ruling:
            case Granted() if self._drain is not None:
                # Renewed while it drains.
                pass
            case Granted(_, participants):
                if not is_steered or self._asking.reason is AskReason.FALLBACK_ONLY:
                    self._granted(ruled, participants, now)
            case Wait(_, holder, again_s, participants):
                self._nobody.forget()
                self._start_swarm([holder.node, *(one.node for one in participants)])
                self._ingest.is_claimless = is_steered
                self._asking.again(again_s, now)
            case Pending(again_s, participants):
                self._nobody.forget()
                self._start_swarm([one.node for one in participants if one.progress_bytes or ruled.providers])
                if not (ruled.providers and self._sources.is_any):
                    self._asking.again(again_s, now)
            case Excluded():
                self._excluded(now, is_alone=ruled.is_alone and not ruled.providers)
            case Refused(again_s):
                self._refused(again_s, now)
            case Unruled():
                self._unruled(now, is_alone=ruled.is_alone)

    def _granted(self, ruled: on.Ruled, participants: tuple[Participant, ...], now: float) -> None:
        asking = self._asking
        if asking.reason is AskReason.NEEDED and not asking.is_known_ended and self._sources.is_coming(now):
            # Another arbiter granted it before and could not be asked just now: that claim is alive.
            self._release(ReleaseReason.UNUSED)
            asking.again(ASK_AGAIN_S, now)
            return
        if ruled.providers:
            self._release(ReleaseReason.UNUSED)
            if not self._sources.is_any:
                self._asking.again(ASK_AGAIN_S, now)
            return
        firsts = self._readers.at_first()
        if not firsts:
            self._release(ReleaseReason.UNUSED)
            self._nobody.told(now, is_alone=ruled.is_alone)
            self._asking.want(now + NOBODY_AGAIN_S)
            return
        if self._asking.reason is AskReason.SLOW_CLAIMANT:
            slow_bytes_s = self._slow_bytes_s(now)
            self._second_claim.granted(
                self._sources.pace.known_bytes_s(now) if slow_bytes_s is None else slow_bytes_s
            )
        best_bytes = max(
            self._sources.frontier_bytes if self._sources.is_any else self.progress_bytes,
            max((one.progress_bytes for one in participants), default=0),
        )
        if best_bytes > min(reader.offset for reader in firsts):
            self._drain = Drain(now, best_bytes)
            named = [one.node for one in participants if one.progress_bytes]
            self._start_swarm(named, has_own_bytes=self.progress_bytes > 0)
            for reader in firsts:
                self._serving.feed(reader)
        else:
            self._take_over(now)

    def _excluded(self, now: float, *, is_alone: bool) -> None:
        self._nobody.told(now, is_alone=is_alone)
        if not self._sources.is_any:
            for reader in self._readers.at_first():
                # A body waits for what others may bring, where there are others.
                if is_alone or reader.phase is not Phase.BODY:
                    self._serving.let_through(reader, now)
            self._asking.want(now + NOBODY_AGAIN_S)

    def _refused(self, again_s: float, now: float) -> None:
        if self._sources.is_any or self._ingest.is_growing(now):
            self._asking.again(again_s, now)
            return
        self._refused_until = now + again_s
        self._memory.refuse(now + again_s)
        self._out.append(Remember404(again_s, at_both=True))
        for reader in self._readers:
            self._serving.let_through(reader, now)

    def _unruled(self, now: float, *, is_alone: bool) -> None:
        gets = self._readers.gets()
        if not gets:
            return
        first_asked_at = min(reader.asked_at for reader in gets)
        if self._is_joining and now < first_asked_at + JOINING_HOLD_S:
            self._asking.want(now + JOINING_AGAIN_S)
            return
        self._nobody.told(now, is_alone=is_alone)
        self._asking.want(now + NOBODY_AGAIN_S)
        if self._escape_at is not None or self._sources.is_any or self._ingest.steered_at is not None:
            return
        known_until = self._asking.known_until
        is_bare = known_until is None and not any(reader.phase is Phase.BODY for reader in gets)
        if is_bare:
            self._escape_at = now + self._rng.uniform(0.0, ESCAPE_BARE_MAX_S)
        else:
            self._escape_at = max(now, known_until or now) + self._rng.uniform(0.0, ESCAPE_WAITED_MAX_S)

    def _escape(self, now: float) -> None:
        """The arbiter is not to be reached, and by now no claim that was told of counts as alive."""
        if self._escape_at is None or now < self._escape_at:
            return
        self._escape_at = None
        if self._sources.is_any:
            return
        for reader in self._readers.at_first():
            if reader.is_starved:
                self._serving.let_through(reader, now)

    def _nobody_can(self, now: float) -> None:
        is_hopeless = self._nobody.is_sure(now) and not self._sources.is_any
        alive_until = self._ingest.alive_until()
        is_own_alive = alive_until is not None and now < alive_until
        if not is_hopeless or is_own_alive or self._asking.is_claim_alive(now):
            return
        for reader in self._readers.at_fallback():
            if reader.phase is not Phase.BODY:
                self._serving.miss(reader, now)

    # -- asking ----------------------------------------------------------------------------------------------------

    def _talk(self, now: float) -> None:
        """One question at a time."""
        asking = self._asking
        if asking.is_in_flight or self._refused_until is not None:
            return
        if asking.fence is not None:
            if asking.renew_at is not None and now >= asking.renew_at:
                is_queued = self._ingest.is_standing(now) and self._flow.is_busy(now)
                self._out.append(asking.renew(self.progress_bytes, now, is_queued=is_queued))
            return
        reason = self._reason(now)
        if reason is None:
            asking.ask_at = None
            return
        if asking.ask_at is not None and now >= asking.ask_at:
            if reason is AskReason.HELD_LONG:
                self._long_asked_at = now
            elif reason is AskReason.SLOW_CLAIMANT:
                self._second_claim.asked(now)
            self._out.append(asking.ask(self.progress_bytes, reason, now))

    def _reason(self, now: float) -> AskReason | None:
        """Why to ask; None: there is nothing to ask for. Puts the time forward where it is urgent."""
        asking = self._asking
        if self._ingest.steered_at is not None:
            if self._ingest.is_growing(now):
                asking.want_soon(now)
                return None if self._ingest.is_claimless else AskReason.FED_ALREADY
            return self._reason_at_fallback(now)
        firsts = self._readers.at_first()
        if not firsts:
            return self._reason_at_fallback(now)
        held_long_at = self._held_long_at()
        if held_long_at is not None and now >= held_long_at:
            asking.want(now if self._long_asked_at is None else self._long_asked_at + ASK_AGAIN_S)
            return AskReason.HELD_LONG
        if asking.is_claim_alive(now):
            is_slow = self._second_claim.is_due(
                self._sources,
                firsts,
                now,
                is_queued=asking.is_holder_behind,
                slow_bytes_s=self._slow_bytes_s(now),
            )
            if is_slow:
                asking.want(now)
                self._found_slow(now)
            if is_slow or self._is_cut_off(now):
                return AskReason.SLOW_CLAIMANT
        if not self._sources.is_any and asking.ask_at is None:
            asking.want_soon(now)
        return AskReason.SOURCES_FAILED if asking.has_sources_failed else AskReason.NEEDED

    def _slow_bytes_s(self, now: float) -> float | None:
        """What the holder of the claim brings, if he was found slow for any blob of this registry."""
        holder = self._asking.holder
        return None if holder is None else self._flow.slow_bytes_s(holder, now)

    def _found_slow(self, now: float) -> None:
        """Once: later this host's own help is in what comes."""
        holder = self._asking.holder
        if holder is not None and self._flow.slow_bytes_s(holder, now) is None:
            self._flow.found_slow(holder, self._sources.pace.known_bytes_s(now) or 0.0, now)

    def _is_cut_off(self, now: float) -> bool:
        """The claimant has bytes, and nobody gives this host any: others may fare alike."""
        if self._sources.is_any or not self._asking.has_sources_failed:
            return False
        silent = [one.silent_since for one in self._readers.at_first() if one.silent_since is not None]
        is_long = bool(silent) and now >= min(silent) + CUT_OFF_S
        has_more = self._asking.holder_bytes > self.progress_bytes
        return is_long and has_more and self._second_claim.may_ask(now)

    def _reason_at_fallback(self, now: float) -> AskReason | None:
        if not self._readers.at_fallback():
            return None
        if not self._sources.is_any and self._asking.ask_at is None:
            self._asking.want_soon(now)
        return AskReason.FALLBACK_ONLY

    def _held_long_at(self) -> float | None:
        held = [one.asked_at for one in self._readers.at_first() if not one.has_bytes]
        return min(held) + self._rungs.held_long_s if held else None
