"""Whom to ask next for the providers of a key, and when it is enough. Pure: sends nothing, reads no clock.

Rules
1. The nearest nodes that are neither late nor silent form the window. Whoever stands in it is asked, at once. So a
   node that is past its hedge time is replaced by the next nearest, and a nearer one that an answer names comes first.
2. A node is asked once. Its answer counts whenever it comes.
3. The window holds `ask_first_count` nodes; `empty_enough_count` where a nearer node did not answer and no provider
   is known: the records may be with the one that is dead.
4. It ends when `want` providers are known, `answers_enough_count` nodes named some, everybody in the window answered,
   nobody is left to ask, or `lookup_deadline_s` has passed.
5. One answer adds at most `closer_count` nodes, and only nodes nearer to the key than itself: a liar's lookup is
   bounded, not led.

Events answer commands: each Ask is answered by Answered or Silent, and after each call `next_timer` says when Timer is
due. The providers are whatever the caller uses: only their `node` is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from dht.contacts import Contact
from dht.lookup.shortlist import Candidate, Phase, Shortlist
from dht.params import Params

# Liars that name ever nearer nodes cost so many datagrams and no more; in an honest network of millions that keeps
# no full table, 24 is eight rounds of three.
ASKED_MAX_COUNT = 24


class HasNode(Protocol):
    @property
    def node(self) -> bytes: ...


P = TypeVar("P", bound=HasNode)


@dataclass(frozen=True, slots=True)
class Answered(Generic[P]):
    """`closer`: nodes that the answering one knows to be nearer to the key. From the own node: what its own records
    hold, given at most once, before `start`."""

    node: bytes
    providers: Sequence[P]
    closer: Sequence[Contact]


@dataclass(frozen=True, slots=True)
class Silent:
    """No answer within the RPC's time, or the request could not be sent."""

    node: bytes


@dataclass(frozen=True, slots=True)
class Timer:
    pass


@dataclass(frozen=True, slots=True)
class Ask:
    contact: Contact


@dataclass(frozen=True, slots=True)
class Report(Generic[P]):
    """Providers not reported before, never the own node, all in all at most `want`."""

    providers: tuple[P, ...]


class Outcome(Enum):
    """MISSING: enough nodes answered and none knows a provider. SILENT: nodes were asked and none answered. NOBODY:
    there is nobody to ask. DEADLINE: some answered, too few to be sure."""

    FOUND = "found"
    MISSING = "missing"
    SILENT = "silent"
    NOBODY = "nobody"
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True)
class Finish:
    """The last command. `hops`: of the answer that named the first provider, or else the farthest that was heard; 0
    where nobody answered. The own node is in no count: a lookup in which nobody else answered has `answered_count`
    0, also where the own records knew a provider."""

    outcome: Outcome
    asked_count: int
    answered_count: int
    hops: int

    @property
    def is_unheard(self) -> bool:
        """Nodes were asked and none answered."""
        return self.asked_count > 0 and self.answered_count == 0


class Lookup(Generic[P]):
    """`own` is the own node's id. `candidates`: the nearest members known, in any order; the own node among them is
    passed by. `hedge_s(node)`: how long a node's answer takes at most, as a rule."""

    def __init__(
        self,
        key: bytes,
        own: bytes,
        candidates: Iterable[Contact],
        params: Params,
        *,
        want: int,
        hedge_s: Callable[[bytes], float],
    ) -> None:
        self._own = own
        self._params = params
        self._want = want
        self._hedge_s = hedge_s
        self._near = Shortlist(key)
        for contact in candidates:
            if contact.node != own:
                self._near.add(contact, 1)
        self._reported: set[bytes] = {own}
        self._deadline_at = self._timer_at = 0.0
        self._is_started = False
        self._is_finished = False
        self._asked_count = 0
        self._answered_count = 0
        self._naming_count = 0
        self._hops = 0
        self._heard_hops = 0

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def start(self, now: float) -> list[Ask | Report[P] | Finish]:
        """The deadline counts from here."""
        assert not self._is_started
        self._is_started = True
        self._deadline_at = now + self._params.lookup_deadline_s
        return self._advance(now)

    def handle(self, event: Answered[P] | Silent | Timer, now: float) -> list[Ask | Report[P] | Finish]:
        """What comes after the end, twice, or from a node that was not asked, changes nothing."""
        if self._is_finished:
            return []
        commands: list[Ask | Report[P] | Finish] = []
        if isinstance(event, Answered):
            found = self._take(event)
            if found:
                commands.append(Report(found))
        elif isinstance(event, Silent):
            candidate = self._near.get(event.node)
            if candidate is not None and candidate.phase in (Phase.ASKED, Phase.LATE):
                candidate.phase = Phase.SILENT
        return commands + self._advance(now) if self._is_started else commands

    def next_timer(self) -> float | None:
        """Always after the `now` of the last call. None: not running."""
        return self._timer_at if self._is_started and not self._is_finished else None

    def _take(self, event: Answered[P]) -> tuple[P, ...]:
        if event.node == self._own:
            return self._take_own(event)
        candidate = self._near.get(event.node)
        if candidate is None or candidate.phase not in (Phase.ASKED, Phase.LATE, Phase.SILENT):
            return ()
        candidate.phase = Phase.ANSWERED
        self._answered_count += 1
        self._heard_hops = max(self._heard_hops, candidate.hop)
        self._near.learn(candidate, event.closer, self._params.closer_count, self._own)
        return self._new(event.providers, candidate.hop)

    def _take_own(self, event: Answered[P]) -> tuple[P, ...]:
        own = self._near.add(Contact(self._own, 0, (), b""), 0)
        if own is None:
            return ()
        own.phase = Phase.ANSWERED
        return self._new(event.providers, 0)

    def _new(self, providers: Sequence[P], hop: int) -> tuple[P, ...]:
        is_naming = False
        found = []
        for provider in providers:
            if provider.node == self._own:
                continue
            is_naming = True
            if provider.node not in self._reported and len(self._reported) <= self._want:
                self._reported.add(provider.node)
                found.append(provider)
        if is_naming:
            if self._naming_count == 0:
                self._hops = hop
            self._naming_count += 1
        return tuple(found)

    def _advance(self, now: float) -> list[Ask | Report[P] | Finish]:
        params = self._params
        if self._naming_count >= params.answers_enough_count or len(self._reported) > self._want:
            return [self._finish(Outcome.FOUND)]
        if now >= self._deadline_at:
            return [self._finish(self._ended(Outcome.DEADLINE))]
        window_count = params.ask_first_count
        in_window_count = 0
        is_waiting = False
        has_late = False
        self._timer_at = self._deadline_at
        commands: list[Ask | Report[P] | Finish] = []
        for candidate in self._near:
            if candidate.phase is Phase.ASKED and candidate.hedge_at <= now:
                candidate.phase = Phase.LATE
            if candidate.phase in (Phase.LATE, Phase.SILENT):
                has_late = has_late or candidate.phase is Phase.LATE
                if self._naming_count == 0:
                    window_count = max(window_count, params.empty_enough_count)
                continue
            if candidate.phase is Phase.NEW:
                if self._asked_count == ASKED_MAX_COUNT:
                    continue
                commands.append(self._ask(candidate, now))
            if candidate.phase is Phase.ASKED:
                is_waiting = True
                self._timer_at = min(self._timer_at, candidate.hedge_at)
            in_window_count += 1
            if in_window_count >= window_count:
                break
        if is_waiting:
            return commands
        if in_window_count < window_count and has_late and self._naming_count == 0:
            # Nobody is left but those that are late: one of them may hold the records.
            return commands
        return [self._finish(self._ended(Outcome.MISSING))]

    def _ask(self, candidate: Candidate, now: float) -> Ask:
        candidate.phase = Phase.ASKED
        # A hedge time of nothing would ask everybody at once.
        candidate.hedge_at = now + max(self._hedge_s(candidate.contact.node), self._params.hedge_min_s)
        self._asked_count += 1
        return Ask(candidate.contact)

    def _ended(self, otherwise: Outcome) -> Outcome:
        if self._naming_count:
            return Outcome.FOUND
        if self._asked_count == 0:
            return Outcome.NOBODY
        return otherwise if self._answered_count else Outcome.SILENT

    def _finish(self, outcome: Outcome) -> Finish:
        self._is_finished = True
        hops = self._hops if self._naming_count else self._heard_hops
        return Finish(outcome, self._asked_count, self._answered_count, hops)
