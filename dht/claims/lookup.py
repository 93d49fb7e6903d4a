"""Whom to ask for a claim, and when the answer stands. Pure: sends nothing, reads no clock.

Rules
1. The nearest node is asked for the claim, the next `providers_asked_count` for providers only, at once.
2. One node at a time is asked for the claim. Past its hedge time it is asked once more; past that it is passed over,
   and the next nearest is asked and told whom we passed over. So is one that has not joined. (A lost datagram would
   otherwise make a second arbiter: in a herd of 200 with one datagram in a hundred lost, nearly always.) One that was
   heard lately is alive, and late by the work of its host: half of the time that is left is waited for it.
3. A node that names a nearer one is believed if that one is nearer to the key than itself; the nearer one is asked
   next. When all that it named are passed over it is asked again, and told so; twice never with the same list.
4. The first ruling stands. It is given out when a provider or another participant is known, or each node that was
   asked for providers only has answered or is late: a claim is not used while a provider may be had.
5. A claim that is granted by a second node, however late, is given back, except when that node is nearer than the one
   whose grant stands: others will ask the nearer, so its grant is kept and the other given back.
6. It ends by `claim_deadline_s`. Where no ruling came by then though somebody was heard meanwhile, those nodes are busy
   rather than out of reach: they are asked anew, once, for as long again. Who gives up goes to the origin.
7. Where nobody at all is heard for `claim_hedge_min_s` after a request, of this lookup or of another, all candidates
   are asked for providers: any answer will do. Where none comes for `claim_unheard_s` there is nobody: the own node is
   asked at once then; and one other, so that it is noticed when somebody is there again.

The same for a renewal, without nodes to ask for providers. The requests themselves (verb, progress, fence) are the
shell's. A contact in a command may be the own node: then the own claims are to be asked, not the network. After the end
rulings that come late must still be handed in, for rule 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic

from dht.claims.rulings import Granted, Lost, NotJoined, Pending, Redirect, Released, Ruling, Wait
from dht.contacts import Contact
from dht.lookup.lookup import Answered, P, Report, Silent, Timer
from dht.lookup.shortlist import Candidate, Phase, Shortlist
from dht.params import Params
from dht.silence import Silence
from dht.wire.codec import Fence

# A liar that names ever nearer nodes, or many dead ones, costs so many requests and no more.
ASKED_MAX_COUNT = 24
# With the same list: a request or its answer may be lost, two in a row hardly are.
TRIES_COUNT = 2
# As many as a request has room for (dht.wire.codec).
PASSED_OVER_MAX_COUNT = 8


@dataclass(frozen=True, slots=True)
class Ruled(Generic[P]):
    """What a node answered to AskClaim, with the providers it told of."""

    node: bytes
    ruling: Ruling
    providers: Sequence[P]


@dataclass(frozen=True, slots=True)
class AskClaim:
    """Each is answered by Ruled or ClaimSilent. `passed_over`: nearer nodes, nearest first. The same node may be asked
    again before it answered; only its first answer counts."""

    contact: Contact
    passed_over: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ClaimSilent:
    """No ruling within the RPC's time."""

    node: bytes


@dataclass(frozen=True, slots=True)
class AskProviders:
    """Answered by Answered or Silent."""

    contact: Contact


@dataclass(frozen=True, slots=True)
class Probe:
    """Silence.probed, and each is to be asked as by AskProviders."""

    contacts: tuple[Contact, ...]


@dataclass(frozen=True, slots=True)
class GiveBack:
    """Release this claim as unused. Not answered."""

    contact: Contact
    fence: Fence


@dataclass(frozen=True, slots=True)
class Decided:
    """The ruling that stands. Comes once more after the end if a nearer arbiter's late grant takes the place of the
    one that stood (rule 5)."""

    arbiter: Contact
    ruling: Ruling
    asked_count: int
    answered_count: int
    hops: int


class Reason(Enum):
    """SILENT: nobody answered. NOBODY: nobody to ask. UNRULED: those who answered would not rule."""

    SILENT = "silent"
    NOBODY = "nobody"
    UNRULED = "unruled"


@dataclass(frozen=True, slots=True)
class Undecided:
    """No arbiter was found in time."""

    reason: Reason
    asked_count: int
    answered_count: int


Command = AskClaim | AskProviders | Probe | Report[P] | GiveBack | Decided | Undecided


class _Tries:
    """Requests to one node with the same list. `again_count`: since all was begun anew."""

    __slots__ = ("again_count", "asked_count", "silent_count", "told", "worth_until")

    def __init__(self, told: tuple[bytes, ...]) -> None:
        self.told = told
        self.worth_until = 0.0
        self.asked_count = self.again_count = 0
        self.silent_count = 0


class ClaimLookup(Generic[P]):
    """`own` is the own node's id. `candidates`: the nearest members known, with the own node's contact where it may
    rule itself; or, before it has joined, whoever it may ask. `hedge_s(node)`: how long a node's answer takes at most,
    as a rule. `is_heard_lately(node)`: it spoke lately, and has let nothing unanswered since.
    `silence`: that of this node."""

    def __init__(
        self,
        key: bytes,
        own: bytes,
        candidates: Iterable[Contact],
        params: Params,
        *,
        want: int,
        hedge_s: Callable[[bytes], float],
        is_heard_lately: Callable[[bytes], bool],
        silence: Silence,
        providers_asked_count: int,
    ) -> None:
        self._own = own
        self._params = params
        self._want = want
        self._hedge_s = hedge_s
        self._is_heard_lately = is_heard_lately
        self._silence = silence
        self._providers_asked_count = providers_asked_count
        self._near = Shortlist(key)
        for contact in candidates:
            self._near.add(contact, 1)
        # Nodes asked with claim, as of the last list that each was told.
        self._tries: dict[bytes, _Tries] = {}
        self._passed_over: set[bytes] = set()
        self._has_probed = False
        # Nodes asked for providers only that have not answered; and until when each is worth waiting for.
        self._providers_asked: set[bytes] = set()
        self._worth_until: dict[bytes, float] = {}
        self._reported: set[bytes] = {own}
        self._standing: tuple[Candidate, Ruling] | None = None
        self._started_at = self._deadline_at = 0.0
        self._is_anew = False
        self._is_started = False
        self._is_finished = False
        self._asked_count = 0
        self._claims_asked_count = 0
        self._heard: set[bytes] = set()

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    def start(self, now: float) -> list[Command[P]]:
        """The deadline counts from here."""
        assert not self._is_started
        self._is_started = True
        self._started_at = now
        self._deadline_at = now + self._params.claim_deadline_s
        commands = self._advance(now)
        if self._is_finished:
            return commands
        others = [one for one in self._near if one.phase is Phase.NEW and one.contact.node != self._own]
        for candidate in others[: self._providers_asked_count]:
            node = candidate.contact.node
            self._worth_until[node] = now + max(self._hedge_s(node), self._params.hedge_min_s)
            if node not in self._providers_asked:
                self._providers_asked.add(node)
                self._asked_count += 1
                commands.append(AskProviders(candidate.contact))
        return commands

    def handle(
        self, event: Ruled[P] | ClaimSilent | Answered[P] | Silent | Timer, now: float
    ) -> list[Command[P]]:
        """What comes twice, or from a node that was not asked, changes nothing; after the end only a grant does."""
        commands: list[Command[P]] = []
        if isinstance(event, Ruled):
            commands += self._ruled(event)
        elif isinstance(event, ClaimSilent):
            self._silent(event.node, now)
        elif isinstance(event, Answered):
            if event.node in self._providers_asked:
                self._providers_asked.discard(event.node)
                self._worth_until.pop(event.node, None)
                self._heard.add(event.node)
                commands += self._report(event.providers)
            elif event.node == self._own:
                commands += self._report(event.providers)
        elif isinstance(event, Silent):
            self._providers_asked.discard(event.node)
            self._worth_until.pop(event.node, None)
        if self._is_started and not self._is_finished:
            commands += self._advance(now)
        return commands

    def next_timer(self) -> float | None:
        """Always after the `now` of the last call. None: not running."""
        if not self._is_started or self._is_finished:
            return None
        due_at = self._deadline_at
        if self._standing is not None:
            return min((due_at, *self._worth_until.values()))
        silent_at = [at for at in self._silent_at() if at is not None]
        for candidate in self._near:
            if candidate.phase is Phase.ASKED:
                due_at = min(due_at, candidate.hedge_at)
                if candidate.contact.node != self._own:
                    # Past these times none is left in this phase.
                    due_at = min((due_at, *silent_at))
        return due_at

    def _silent(self, node: bytes, now: float) -> None:
        candidate = self._near.get(node)
        if candidate is None or candidate.phase not in (Phase.ASKED, Phase.LATE):
            return
        tries = self._tries[node]
        tries.silent_count += 1
        if tries.silent_count < tries.asked_count:
            return
        if candidate.phase is Phase.ASKED and tries.again_count < TRIES_COUNT:
            candidate.hedge_at = now
        else:
            candidate.phase = Phase.SILENT
            self._passed_over.add(node)

    # -- answers ---------------------------------------------------------------------------------------------------

    def _ruled(self, event: Ruled[P]) -> list[Command[P]]:
        candidate = self._near.get(event.node)
        if candidate is None or candidate.phase not in (Phase.ASKED, Phase.LATE, Phase.SILENT):
            return []
        candidate.phase = Phase.ANSWERED
        ruling = event.ruling
        if event.node != self._own:
            self._heard.add(event.node)
        if self._is_finished or self._standing is not None:
            return self._second(candidate, ruling)
        commands = self._report(event.providers)
        if isinstance(ruling, Redirect):
            self._passed_over.discard(event.node)
            self._near.learn(candidate, ruling.closer, self._params.closer_count, self._own)
        elif not isinstance(ruling, NotJoined | Released):
            self._standing = (candidate, ruling)
        return commands

    def _second(self, candidate: Candidate, ruling: Ruling) -> list[Command[P]]:
        """Rule 5."""
        if not isinstance(ruling, Granted):
            return []
        if self._standing is None:
            return [GiveBack(candidate.contact, ruling.fence)]
        stood, standing = self._standing
        if not isinstance(standing, Granted) or stood.distance < candidate.distance:
            return [GiveBack(candidate.contact, ruling.fence)]
        self._standing = (candidate, ruling)
        given_back = GiveBack(stood.contact, standing.fence)
        return [given_back, self._decided()] if self._is_finished else [given_back]

    def _report(self, providers: Sequence[P]) -> list[Command[P]]:
        if self._is_finished:
            return []
        found = []
        for provider in providers:
            if provider.node not in self._reported and len(self._reported) <= self._want:
                self._reported.add(provider.node)
                found.append(provider)
        return [Report(tuple(found))] if found else []

    # -- what next -------------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> list[Command[P]]:
        for node, until in list(self._worth_until.items()):
            if until <= now:
                del self._worth_until[node]
        if self._standing is not None:
            return [self._end(self._decided())] if now >= self._deadline_at or self._is_ripe() else []
        if now >= self._deadline_at:
            if self._is_anew or self._silence.heard_at <= self._started_at:
                return [self._end(self._undecided())]
            self._begin_anew(now)
        probe_at, alone_at = self._silent_at()
        if probe_at is not None and now >= probe_at:
            self._has_probed = True
            return [self._probe(), *self._advance(now)]
        is_alone = alone_at is not None and now >= alone_at
        has_late = False
        for candidate in self._near:
            node = candidate.contact.node
            if candidate.phase is Phase.ASKED:
                is_unheard = is_alone and node != self._own
                if candidate.hedge_at > now and not is_unheard:
                    return []
                tries = self._tries[node]
                is_left = tries.again_count < TRIES_COUNT and self._claims_asked_count < ASKED_MAX_COUNT
                if is_left and not is_unheard:
                    return [self._ask(candidate, tries, now)]
                candidate.phase = Phase.LATE
                self._passed_over.add(node)
            has_late = has_late or candidate.phase is Phase.LATE
        asked = self._ask_next(now, is_alone=is_alone)
        if asked is None:
            return [] if has_late and not is_alone else [self._end(self._undecided())]
        if is_alone and asked.contact.node != self._own:
            return [asked, *self._advance(now)]
        return [asked]

    def _silent_at(self) -> tuple[float | None, float | None]:
        """When to probe, and when this node takes itself for alone. Whoever answered this lookup is there."""
        silence, params = self._silence, self._params
        if self._heard:
            return None, None
        alone_at = silence.alone_at(params.claim_unheard_s)
        if alone_at is not None:
            return None, alone_at
        if silence.since is not None and not self._has_probed:
            return silence.since + params.claim_hedge_min_s, None
        return None, None

    def _probe(self) -> Probe:
        others = [one for one in self._near if one.phase is Phase.NEW and one.contact.node != self._own]
        new = tuple(one.contact for one in others if one.contact.node not in self._providers_asked)
        self._providers_asked.update(contact.node for contact in new)
        self._asked_count += len(new)
        return Probe(new)

    def _begin_anew(self, now: float) -> None:
        self._is_anew = True
        self._deadline_at = now + self._params.claim_deadline_s
        self._passed_over.clear()
        for candidate in self._near:
            # Whoever is under way has his time first.
            if candidate.phase in (Phase.LATE, Phase.SILENT):
                self._tries[candidate.contact.node].again_count = 0

    def _is_ripe(self) -> bool:
        assert self._standing is not None
        ruling = self._standing[1]
        if isinstance(ruling, Wait | Lost) or len(self._reported) > 1 or not self._worth_until:
            return True
        return isinstance(ruling, Granted | Pending) and bool(ruling.participants)

    def _ask_next(self, now: float, *, is_alone: bool) -> AskClaim | None:
        passed_over: list[bytes] = []
        for candidate in self._near:
            node = candidate.contact.node
            if is_alone and self._claims_asked_count and node != self._own:
                self._passed_over.add(node)
            if node in self._passed_over:
                passed_over.append(node)
                continue
            told = tuple(passed_over[:PASSED_OVER_MAX_COUNT])
            if self._claims_asked_count == ASKED_MAX_COUNT:
                return None
            tries = self._tries.get(node)
            if tries is None or tries.told != told:
                self._tries[node] = tries = _Tries(told)
            if tries.again_count == 0:
                tries.worth_until = self._worth_waiting_until(node, now)
                return self._ask(candidate, tries, now)
            # It has not joined, or it names only what we passed over, though it was told.
            self._passed_over.add(node)
            passed_over.append(node)
        return None

    def _ask(self, candidate: Candidate, tries: _Tries, now: float) -> AskClaim:
        node = candidate.contact.node
        tries.asked_count += 1
        tries.again_count += 1
        candidate.phase = Phase.ASKED
        candidate.hedge_at = now + self._hedge(node)
        if tries.again_count == TRIES_COUNT:
            candidate.hedge_at = max(candidate.hedge_at, tries.worth_until)
        self._claims_asked_count += 1
        if node != self._own:
            self._asked_count += 1
        return AskClaim(candidate.contact, tries.told)

    def _hedge(self, node: bytes) -> float:
        # A hedge time of nothing would ask everybody at once.
        return max(self._hedge_s(node), self._params.claim_hedge_min_s)

    def _worth_waiting_until(self, node: bytes, now: float) -> float:
        """It is passed over no sooner, silent though it is."""
        if not self._is_heard_lately(node):
            return now
        return now + self._params.claim_lively_share * (self._deadline_at - now)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _end(self, command: Decided | Undecided) -> Decided | Undecided:
        self._is_finished = True
        return command

    def _decided(self) -> Decided:
        assert self._standing is not None
        candidate, ruling = self._standing
        return Decided(candidate.contact, ruling, self._asked_count, len(self._heard), candidate.hop)

    def _undecided(self) -> Undecided:
        if self._claims_asked_count == 0:
            return Undecided(Reason.NOBODY, 0, 0)
        reason = Reason.UNRULED if self._heard else Reason.SILENT
        return Undecided(reason, self._asked_count, len(self._heard))
