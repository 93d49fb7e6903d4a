"""A herd that wants one key, in virtual time: the real claim lookups, claims and rules over a network that delays and
loses datagrams. Counts who fetches from the origin.

A host that was granted the claim fetches, from what others have on, and renews once a second; whatever it is told then,
it fetches to the end. All of it takes FETCH_S; of the first that are granted `slow_count` take SLOW_FETCH_S and then
`mute_count` never get a byte, until their claim is over. A host that waits has nine tenths of what the holder has. When
one has all of it, every node knows a provider and whoever asks is content.

Hosts ask for one claim more as mirror.steer does: held for HELD_LONG_S without a byte, or while what the holder has
grows at less than half of the usual rate. Whoever helped and is not faster by GAIN gives his claim back.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from dht.claims.claims import REASON_DONE, Claims
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
from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Lost,
    NotJoined,
    Pending,
    Redirect,
    Refused,
    Released,
    Ruling,
    Wait,
)
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.lookup.lookup import Answered, Report, Silent, Timer
from dht.params import Params
from dht.wire.codec import AskReason, Claim, Fence, Verb
from tests.support.claim_herd_host import FETCH_S, GAIN, PACE_S, SLOW_FETCH_S, TOTAL_PROGRESS, Host

PARAMS = Params()
RENEW_S = 1.0
# Hosts that found no arbiter ask again.
RETRY_S = 0.5


class Provider(NamedTuple):
    node: bytes


class Herd:
    """`missing_share`: of the other members, so many are missing in each view. `loss`: of datagrams."""

    def __init__(
        self,
        seed: int,
        hosts_count: int,
        *,
        missing_share: float = 0.0,
        loss: float = 0.0,
        rtt_s: tuple[float, float] = (0.0005, 0.01),
        slow_count: int = 0,
        mute_count: int = 0,
        asks_for_more: bool = True,
    ) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.key = self.rng.randbytes(20)
        self._loss = loss
        self._rtt_s = rtt_s
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._slow_count = slow_count
        self._mute_count = mute_count
        self._asks_for_more = asks_for_more
        self._providers: list[Provider] = []
        self.completed_at: float | None = None
        self.first_byte_at: float | None = None
        # Who began, and what of the key he gets from the origin.
        self.fetched: list[bytes] = []
        self.copies_count = 0.0
        self.asked_for_more: Counter[AskReason] = Counter()
        self.running_max_count = 0
        self.rulings: list[Ruling] = []
        contacts = [
            Contact(self.rng.randbytes(20), 1, (Endpoint("10.0.0.1", 1 + number),), b"")
            for number in range(hosts_count)
        ]
        contacts.sort(key=lambda one: distance(one.node, self.key))
        self.hosts = [
            Host(
                contact,
                {
                    one.node: one
                    for one in contacts
                    if one is not contact and self.rng.random() >= missing_share
                },
                Claims(contact.node, 1, PARAMS),
            )
            for contact in contacts
        ]
        self.by_node = {host.contact.node: host for host in self.hosts}

    # -- time ------------------------------------------------------------------------------------------------------

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (when, self._number, what))

    def run(self, until: float) -> None:
        while self._queue and self._queue[0][0] <= until:
            self.now, _, what = heapq.heappop(self._queue)
            what()
        self.now = until

    # -- hosts -----------------------------------------------------------------------------------------------------

    def want(self, host: Host) -> None:
        """The host asks until it has the key."""
        if host.is_alive and not host.is_content:
            if host.wanting_since is None:
                host.wanting_since = self.now
            reason = host.reason(self.now) if self._asks_for_more else AskReason.NEEDED
            self._look(host, Verb.ASK, host.known, reason)

    @property
    def is_complete(self) -> bool:
        return self.completed_at is not None

    def die(self, host: Host) -> None:
        host.is_alive = False

    def restart(self, host: Host) -> None:
        """With nothing in memory; its own download goes on."""
        host.claims = Claims(host.contact.node, 2, PARAMS)

    def _near(self, host: Host, key: bytes, count: int) -> list[Contact]:
        return heapq.nsmallest(count, host.view.values(), key=lambda one: distance(one.node, key))

    def _look(
        self, host: Host, verb: Verb, fence: Fence | None, reason: AskReason = AskReason.NEEDED
    ) -> None:
        if not host.is_alive:
            return
        if reason is not AskReason.NEEDED:
            self.asked_for_more[reason] += 1
        if host.has_joined:
            candidates = [*self._near(host, self.key, PARAMS.replicas_count), host.contact]
        else:
            members = [one for one in self.hosts if one.has_joined and one.is_alive]
            candidates = [one.contact for one in self.rng.sample(members, 2)]
        lookup: ClaimLookup[Provider] = ClaimLookup(
            self.key,
            host.contact.node,
            candidates,
            PARAMS,
            want=PARAMS.want_count,
            hedge_s=lambda _: PARAMS.hedge_start_s,
            is_heard_lately=lambda _: True,
            silence=host.silence,
            providers_asked_count=2 if verb is Verb.ASK else 0,
        )
        _Asking(self, host, lookup, verb, fence, reason).do(lookup.start(self.now))

    def rule(self, host: Host, request: Claim, asker: Contact) -> tuple[Ruling, list[Provider]]:
        own = distance(host.contact.node, self.key)
        near = self._near(host, self.key, CLOSER_LOOKED_AT_COUNT)
        providers = self.providers()
        ruling = judge(
            host.claims,
            request,
            asker,
            [one for one in near if distance(one.node, self.key) < own],
            self.now,
            is_joined=host.has_joined,
            is_source_known=bool(providers),
        )
        self.rulings.append(ruling)
        self.running_max_count = max(self.running_max_count, host.claims.running_count)
        return ruling, providers

    def providers(self) -> list[Provider]:
        return self._providers

    def decided(self, host: Host, ruling: Ruling) -> None:
        match ruling:
            case Granted():
                self._granted(host, ruling)
            case Wait(running, again_s) | Lost(running, again_s):
                self._not_granted(host)
                host.known = running.fence
                if host.fetching_since is None:
                    host.fed = max(host.fed, running.holder.progress * 9 // 10)
                    host.slow_per_s = host.pace(running, self.now)
                self._again(host, again_s)
            case Pending(again_s) | Excluded(again_s) | Refused(again_s) | Full(again_s) | NotJoined(again_s):
                self._not_granted(host)
                self._again(host, again_s)
            case Redirect() | Released():
                raise AssertionError(ruling)

    def undecided(self, host: Host) -> None:
        self._again(host, RETRY_S)

    def _again(self, host: Host, again_s: float) -> None:
        if host.fetching_since is None:
            self.at(self.now + again_s * self.rng.uniform(1.0, 1.1), lambda: self.want(host))
        elif host.held is None and not host.is_content:
            self.at(self.now + again_s, lambda: self._renew(host))

    def _granted(self, host: Host, granted: Granted) -> None:
        is_new = host.fetching_since is None
        host.held = host.known = granted.fence
        if is_new:
            host.fetching_since = self.now
            # What others have is drained first.
            host.fed = max(host.fed, *(one.progress for one in granted.participants), 0)
            self.fetched.append(host.contact.node)
            number = len(self.fetched)
            host.is_mute = self._slow_count < number <= self._slow_count + self._mute_count
            host.fetch_s = SLOW_FETCH_S if number <= self._slow_count else FETCH_S
            if not host.is_mute:
                left = 1 - host.fed / TOTAL_PROGRESS
                self.copies_count += left
                self.first_byte_at = self.first_byte_at or self.now
                self.at(self.now + host.fetch_s * left, lambda: self._finish(host))
                self.at(self.now + PACE_S, lambda: self._judge_help(host))
        self.at(self.now + RENEW_S * self.rng.uniform(0.9, 1.0), lambda: self._renew(host))

    def _not_granted(self, host: Host) -> None:
        host.held = None
        if host.is_mute:
            # Its containerd gives up, too, and asks again.
            host.is_mute, host.fetching_since = False, None

    def _judge_help(self, host: Host) -> None:
        slow_per_s, host.slow_per_s = host.slow_per_s, None
        is_in_vain = slow_per_s is not None and TOTAL_PROGRESS / host.fetch_s < GAIN * slow_per_s
        if is_in_vain and host.held is not None and not host.is_content:
            self._release(host, host.held)

    def _release(self, host: Host, fence: Fence) -> None:
        """It fetches on, without a claim."""
        host.held = host.known = None
        request = Claim(self.key, Verb.RELEASE, 0, host.progress(self.now), fence, [], REASON_DONE)

        def answer(to: Host) -> Callable[[], None]:
            self.rule(to, request, host.contact)
            return lambda: None

        arbiter = self.by_node[fence.arbiter]
        if arbiter is host:
            answer(host)
        else:
            self.send(host, arbiter.contact, answer, lambda: None)

    def _renew(self, host: Host) -> None:
        if host.known is not None and not host.is_content:
            self._look(host, Verb.RENEW, host.known)

    def _finish(self, host: Host) -> None:
        if host.is_alive:
            host.is_content = True
            if not self.is_complete:
                self.completed_at = self.now
                self._providers = [Provider(host.contact.node)]

    # -- datagrams -------------------------------------------------------------------------------------------------

    def send(
        self,
        host: Host,
        contact: Contact,
        answer: Callable[[Host], Callable[[], None]],
        silent: Callable[[], None],
    ) -> None:
        """`answer` is done at the receiver, and what it returns at the sender. `silent` at the RPC's timeout."""
        to = self.by_node[contact.node]
        is_over = False
        host.silence.asked(self.now)

        def arrive() -> None:
            if to.is_alive and self.rng.random() >= self._loss:
                to.hears(self.now)
                back = answer(to)
                self.at(self.now + half_s, lambda: come_back(back))

        def come_back(back: Callable[[], None]) -> None:
            nonlocal is_over
            if not is_over and host.is_alive and self.rng.random() >= self._loss:
                is_over = True
                host.hears(self.now)
                host.strikes.pop(contact.node, None)
                back()

        def give_up() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                host.strikes[contact.node] = host.strikes.get(contact.node, 0) + 1
                if host.strikes[contact.node] >= PARAMS.strikes_count:
                    host.view.pop(contact.node, None)
                silent()

        half_s = self.rng.uniform(*self._rtt_s) / 2
        self.at(self.now + half_s, arrive)
        self.at(self.now + PARAMS.claim_rpc_timeout_s, give_up)


class _Asking:
    """Carries out one claim lookup."""

    def __init__(
        self,
        herd: Herd,
        host: Host,
        lookup: ClaimLookup[Provider],
        verb: Verb,
        fence: Fence | None,
        reason: AskReason,
    ) -> None:
        self._herd = herd
        self._host = host
        self._lookup = lookup
        self._verb = verb
        self._fence = fence
        self._reason = reason
        self._has_providers = False

    def do(self, commands: Iterable[Command[Provider]]) -> None:
        host = self._host
        for command in commands:
            match command:
                case AskClaim(contact, passed_over):
                    self._ask_claim(contact, passed_over)
                case AskProviders(contact):
                    self._ask_providers(contact)
                case Probe(contacts):
                    self._host.silence.probed(self._herd.now)
                    for contact in contacts:
                        self._ask_providers(contact)
                case Report():
                    self._has_providers = True
                case GiveBack(contact, fence):
                    self._give_back(contact, fence)
                case Decided(ruling=ruling):
                    if self._has_providers and host.fetching_since is None:
                        host.is_content = True
                        if isinstance(ruling, Granted):
                            self._give_back(command.arbiter, ruling.fence)
                    else:
                        self._herd.decided(host, ruling)
                case Undecided():
                    self._herd.undecided(host)
        due_at = self._lookup.next_timer()
        if due_at is not None:
            self._herd.at(due_at, self._timer)

    def _event(self, event: Ruled[Provider] | ClaimSilent | Answered[Provider] | Silent | Timer) -> None:
        if self._host.is_alive:
            host, now = self._host, self._herd.now
            if isinstance(event, Ruled):
                host.claims.elsewhere.told(
                    self._herd.key, event.node, event.ruling, host.contact, host.progress(now), now
                )
            self.do(self._lookup.handle(event, now))

    def _timer(self) -> None:
        if not self._lookup.is_finished:
            self._event(Timer())

    def _ask_claim(self, contact: Contact, passed_over: tuple[bytes, ...]) -> None:
        herd, host = self._herd, self._host
        progress = host.progress(herd.now)
        request = Claim(herd.key, self._verb, 16, progress, self._fence, list(passed_over), self._reason)

        def answer(to: Host) -> Callable[[], None]:
            ruling, providers = herd.rule(to, request, host.contact)
            return lambda: self._event(Ruled(contact.node, ruling, providers))

        if contact.node == host.contact.node:
            herd.at(herd.now, answer(host))
        else:
            herd.send(host, contact, answer, lambda: self._event(ClaimSilent(contact.node)))

    def _ask_providers(self, contact: Contact) -> None:
        def answer(to: Host) -> Callable[[], None]:
            providers = self._herd.providers()
            return lambda: self._event(Answered(contact.node, providers, ()))

        self._herd.send(self._host, contact, answer, lambda: self._event(Silent(contact.node)))

    def _give_back(self, contact: Contact, fence: Fence) -> None:
        herd, asker = self._herd, self._host.contact
        request = Claim(herd.key, Verb.RELEASE, 0, 0, fence, [], REASON_DONE)

        def answer(to: Host) -> Callable[[], None]:
            herd.rule(to, request, asker)
            return lambda: None

        if contact.node == asker.node:
            answer(self._host)
        else:
            herd.send(self._host, contact, answer, lambda: None)
