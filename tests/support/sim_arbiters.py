"""Claims and provider records of a simulated herd: the real lookups, rules and claims over datagrams with delay and
loss. Refuses to know what a claim is for.

Each node knows those members that had joined when it did, and later ones when the news of them has come. One that has
not joined knows a few anchors and never grants. Records are known at once to all nodes that are asked.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from dht.claims.claims import Claims
from dht.claims.lookup import (
    AskClaim,
    AskProviders,
    ClaimLookup,
    ClaimSilent,
    Command,
    Decided,
    GiveBack,
    Probe,
    Ruled,
    Undecided,
)
from dht.claims.rules import CLOSER_LOOKED_AT_COUNT, judge
from dht.claims.rulings import Granted, Ruling
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.lookup.lookup import Answered, Report, Silent, Timer
from dht.params import Params
from dht.silence import Silence
from dht.wire.codec import AskReason, Claim, Fence, Verb
from tests.support.sim_clock import Clock

ANCHORS_COUNT: Final = 2
DHT_PORT: Final = 29_021


class Provider(NamedTuple):
    node: bytes


@dataclass(frozen=True, slots=True)
class MembershipPlan:
    """`loss`: of datagrams. `news_s`: until everybody knows of one who has joined."""

    loss: float = 0.001
    news_s: float = 2.0


# None: no arbiter was reached. And who is said to hold the key. `is_replaced`: it takes the place of the first.
OnRuling = Callable[[Ruling | None, tuple[bytes, ...], bool], None]


@dataclass
class Member:
    """`joined_at` infinite: its daemon is still joining."""

    number: int
    contact: Contact
    half_rtt_s: float
    claims: Claims
    joined_at: float
    is_alive: bool = True
    silence: Silence = field(default_factory=Silence)
    anchors: tuple[Member, ...] = ()
    struck: set[int] = field(default_factory=set)
    strikes: dict[int, int] = field(default_factory=dict)
    sent_count: int = 0
    # What it ruled; and grants, by key.
    rulings_count: int = 0

    def hears(self, now: float) -> None:
        self.silence.heard(now)


class Arbiters:
    def __init__(self, clock: Clock, rng: random.Random, plan: MembershipPlan, params: Params) -> None:
        self.params = params
        self.members: list[Member] = []
        self.granted: dict[bytes, list[Fence]] = {}
        self.clock = clock
        self._rng = rng
        self._plan = plan
        self._by_node: dict[bytes, Member] = {}
        self._providers: dict[bytes, dict[bytes, None]] = {}
        # All members, nearest to the key first.
        self._order: dict[bytes, list[Member]] = {}

    # -- members ---------------------------------------------------------------------------------------------------

    def add(self, half_rtt_s: float, joined_at: float) -> Member:
        number = len(self.members)
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        contact = Contact(self._rng.randbytes(20), 1, (Endpoint(address, DHT_PORT),), b"")
        member = Member(number, contact, half_rtt_s, Claims(contact.node, 1, self.params), joined_at)
        joined = [one for one in self.members if one.joined_at <= self.clock.now and one.is_alive]
        member.anchors = tuple(self._rng.sample(joined, min(ANCHORS_COUNT, len(joined))))
        self.members.append(member)
        self._by_node[contact.node] = member
        self._order.clear()
        return member

    def of(self, node: bytes) -> Member:
        return self._by_node[node]

    def _knows(self, member: Member, other: Member) -> bool:
        now = self.clock.now
        if other.joined_at > now or other.number in member.struck:
            return False
        if member.joined_at > now:
            return other in member.anchors
        if other.joined_at <= 0.0:
            return True
        # The news of each comes to each at its own time.
        share = (member.number * 7919 + other.number * 104_729) % 1000 / 1000
        return now >= max(member.joined_at, other.joined_at + share * self._plan.news_s)

    def _near(self, member: Member, key: bytes, count: int, *, closer_only: bool) -> list[Contact]:
        order = self._order.get(key)
        if order is None:
            order = sorted(self.members, key=lambda one: distance(one.contact.node, key))
            self._order[key] = order
        found: list[Contact] = []
        for other in order:
            if other is member:
                if closer_only:
                    break
                continue
            if self._knows(member, other):
                found.append(other.contact)
                if len(found) == count:
                    break
        return found

    # -- what hosts ask --------------------------------------------------------------------------------------------

    def look(
        self,
        member: Member,
        key: bytes,
        verb: Verb,
        fence: Fence | None,
        progress: int,
        *,
        reason: AskReason = AskReason.NEEDED,
        wants_providers: bool,
        ruled: OnRuling,
    ) -> None:
        """`ruled` is called once, and again for a nearer arbiter's grant that came late."""
        has_joined = member.joined_at <= self.clock.now
        near = self._near(member, key, self.params.replicas_count, closer_only=False)
        lookup: ClaimLookup[Provider] = ClaimLookup(
            key,
            member.contact.node,
            [*near, member.contact] if has_joined else near,
            self.params,
            want=self.params.want_count,
            hedge_s=lambda _: self.params.hedge_start_s,
            is_heard_lately=lambda _: True,
            silence=member.silence,
            providers_asked_count=self.params.ask_first_count - 1
            if verb is Verb.ASK and wants_providers
            else 0,
        )
        want = self.params.want_count if wants_providers else 0
        request = Claim(key, verb, want, progress, fence, [], reason)
        _Asking(self, member, lookup, request, ruled).do(lookup.start(self.clock.now))

    def release(self, member: Member, key: bytes, fence: Fence, progress: int, reason: int) -> None:
        request = Claim(key, Verb.RELEASE, 0, progress, fence, [], reason)
        arbiter = self._by_node.get(fence.arbiter)
        if arbiter is not None:
            self.tell(member, arbiter, request)

    def provide(self, member: Member, key: bytes) -> None:
        self._providers.setdefault(key, {})[member.contact.node] = None

    def providers(self, key: bytes) -> tuple[bytes, ...]:
        """Some of them, by lot."""
        nodes = list(self._providers.get(key, ()))
        return tuple(self._rng.sample(nodes, min(len(nodes), self.params.sample_count)))

    # -- datagrams -------------------------------------------------------------------------------------------------

    def tell(self, member: Member, to: Member, request: Claim) -> None:
        """Without an answer."""
        if to is member:
            self.rule(to, request, member)
        else:
            self.send(member, to, lambda: (self.rule(to, request, member), _nothing)[1], _nothing)

    def rule(self, arbiter: Member, request: Claim, asker: Member) -> tuple[Ruling, tuple[Provider, ...]]:
        now = self.clock.now
        arbiter.claims.expire(now)
        providers = tuple(map(Provider, self.providers(request.key))) if request.want else ()
        ruling = judge(
            arbiter.claims,
            request,
            asker.contact,
            self._near(arbiter, request.key, CLOSER_LOOKED_AT_COUNT, closer_only=True),
            now,
            is_joined=arbiter.joined_at <= now,
            is_source_known=bool(providers),
        )
        arbiter.rulings_count += 1
        if isinstance(ruling, Granted) and ruling.fence not in self.granted.setdefault(request.key, []):
            self.granted[request.key].append(ruling.fence)
        return ruling, providers

    def send(
        self,
        member: Member,
        to: Member,
        answer: Callable[[], Callable[[], object]],
        silent: Callable[[], object],
    ) -> None:
        """`answer` is done at the receiver, and what it returns at the sender. `silent` at the RPC's timeout."""
        clock, loss, random_ = self.clock, self._plan.loss, self._rng.random
        half_s = member.half_rtt_s + to.half_rtt_s
        is_over = False
        member.silence.asked(clock.now)
        member.sent_count += 1

        def arrive() -> None:
            if to.is_alive and random_() >= loss:
                to.hears(clock.now)
                back = answer()
                to.sent_count += 1
                clock.after(half_s, come_back, back)

        def come_back(back: Callable[[], object]) -> None:
            nonlocal is_over
            if not is_over and member.is_alive and random_() >= loss:
                is_over = True
                member.hears(clock.now)
                member.strikes.pop(to.number, None)
                back()

        def give_up() -> None:
            nonlocal is_over
            if not is_over and member.is_alive:
                is_over = True
                member.strikes[to.number] = member.strikes.get(to.number, 0) + 1
                if member.strikes[to.number] >= self.params.strikes_count:
                    member.struck.add(to.number)
                silent()

        clock.after(half_s, arrive)
        clock.after(self.params.claim_rpc_timeout_s, give_up)


def _nothing() -> None:
    pass


class _Asking:
    """Carries out one claim lookup."""

    def __init__(
        self,
        arbiters: Arbiters,
        member: Member,
        lookup: ClaimLookup[Provider],
        request: Claim,
        ruled: OnRuling,
    ) -> None:
        self._arbiters = arbiters
        self._member = member
        self._lookup = lookup
        self._request = request
        self._ruled = ruled
        self._is_answered = False
        self._providers: list[bytes] = []

    def do(self, commands: Iterable[Command[Provider]]) -> None:
        for command in commands:
            match command:
                case AskClaim(contact, passed_over):
                    self._ask_claim(contact, passed_over)
                case AskProviders(contact):
                    self._ask_providers(contact)
                case Probe(contacts):
                    self._member.silence.probed(self._arbiters.clock.now)
                    for contact in contacts:
                        self._ask_providers(contact)
                case Report(providers):
                    self._providers += [one.node for one in providers]
                case GiveBack(contact, fence):
                    given_back = Claim(self._request.key, Verb.RELEASE, 0, 0, fence, [])
                    self._arbiters.tell(self._member, self._arbiters.of(contact.node), given_back)
                case Decided(ruling=ruling):
                    self._answer(ruling)
                case Undecided():
                    self._answer(None)
        due_at = self._lookup.next_timer()
        if due_at is not None:
            self._clock.at(due_at, self._timer)

    @property
    def _clock(self) -> Clock:
        return self._arbiters.clock

    def _answer(self, ruling: Ruling | None) -> None:
        is_replaced, self._is_answered = self._is_answered, True
        if self._member.is_alive:
            self._ruled(ruling, tuple(self._providers), is_replaced)

    def _event(self, event: Ruled[Provider] | ClaimSilent | Answered[Provider] | Silent | Timer) -> None:
        if self._member.is_alive:
            now = self._clock.now
            if isinstance(event, Ruled):
                member, request = self._member, self._request
                member.claims.elsewhere.told(
                    request.key, event.node, event.ruling, member.contact, request.progress, now
                )
            self.do(self._lookup.handle(event, now))

    def _timer(self) -> None:
        due_at = self._lookup.next_timer()
        if due_at is not None and due_at <= self._clock.now:
            self._event(Timer())

    def _ask_claim(self, contact: Contact, passed_over: tuple[bytes, ...]) -> None:
        arbiters, member = self._arbiters, self._member
        old = self._request
        request = Claim(old.key, old.verb, old.want, old.progress, old.fence, list(passed_over), old.reason)
        to = arbiters.of(contact.node)

        def answer() -> Callable[[], object]:
            ruling, providers = arbiters.rule(to, request, member)
            return lambda: self._event(Ruled(contact.node, ruling, providers))

        if to is member:
            self._clock.after(0.0, lambda: answer()())
        else:
            arbiters.send(member, to, answer, lambda: self._event(ClaimSilent(contact.node)))

    def _ask_providers(self, contact: Contact) -> None:
        arbiters = self._arbiters

        def answer() -> Callable[[], object]:
            providers = tuple(map(Provider, arbiters.providers(self._request.key)))
            return lambda: self._event(Answered(contact.node, providers, ()))

        arbiters.send(
            self._member,
            arbiters.of(contact.node),
            answer,
            lambda: self._event(Silent(contact.node)),
        )
