"""Carries out claims: asks whom dht.claims.lookup says, the own claims too where this node is the arbiter.

Refuses to decide what a claim is for, when to renew it, or what progress is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from dht.claims.claims import REASON_DONE
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
from dht.claims.rulings import Granted, Holding, Lost, Pending, Ruling, Running, Wait
from dht.claims.wire import from_wire
from dht.contacts import Contact
from dht.errors import FrameInvalid
from dht.lookup.lookup import Answered, Report, Silent, Timer
from dht.node import Node
from dht.protocol import ProviderProtocol
from dht.provider_reading import FoundProvider, Providers
from dht.replies import Reply
from dht.stats import Stats
from dht.wire import codec
from dht.wire.codec import Claim, Fence, Found, GetProviders, Ping, Verb


@dataclass(frozen=True, slots=True)
class ClaimAnswer:
    """`ruling`: each contact in it has this node's own knowledge of a member, else what the arbiter told. Its endpoints
    are of families that this node speaks, so the first is where the participant is; a holder that cannot be reached has
    none, other participants of that kind are left out. Info is empty where nobody knew it. `providers`: whom the asked
    nodes named meanwhile, this node never."""

    ruling: Ruling
    arbiter: Contact
    providers: tuple[FoundProvider, ...]


# What takes the place of an answer that was given.
OnReplaced = Callable[[ClaimAnswer], None]


class _Caller(Enum):
    """GONE: cancelled."""

    WAITS = "waits"
    SERVED = "served"
    GONE = "gone"


@dataclass(slots=True)
class _Asking:
    """One claim on its way. It stays for late answers after the caller was served. `is_over`: there is something to
    tell him. `answer`: the last, if any."""

    key: bytes
    verb: Verb
    want: int
    progress: int
    fence: Fence | None
    reason: int
    on_replaced: OnReplaced | None
    lookup: ClaimLookup[FoundProvider]
    is_over: asyncio.Future[None]
    answer: ClaimAnswer | None = None
    caller: _Caller = _Caller.WAITS
    providers: list[FoundProvider] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class Claiming:
    def __init__(
        self,
        node: Node,
        protocol: ProviderProtocol,
        providers: Providers,
        here: Callable[[], Contact],
        stats: Stats,
    ) -> None:
        """`here`: this node, as its own arbiter knows it."""
        self._node = node
        self._params = node.params
        self._protocol = protocol
        self._providers = providers
        self._here = here
        self._stats = stats
        self._loop = asyncio.get_running_loop()

    async def claim(
        self,
        key: bytes,
        verb: Verb,
        *,
        progress: int,
        fence: Fence | None,
        reason: int,
        want: int,
        on_replaced: OnReplaced | None = None,
    ) -> ClaimAnswer | None:
        """As DHT.claim."""
        if verb is Verb.RELEASE:
            assert fence is not None, "a release names the claim"
            self._release(key, fence, progress, reason)
            return None
        own = self._node.own.node
        near = [] if self._node.is_isolated else self._node.members.nearest(key, self._params.replicas_count)
        near = [one for one in near if self._providers.reach(one) is not None]
        lookup: ClaimLookup[FoundProvider] = ClaimLookup(
            key,
            own,
            [*near, self._here()] if self._node.has_joined else near,
            self._params,
            want=self._params.want_count,
            hedge_s=self._node.members.hedge_s,
            is_heard_lately=lambda node: self._node.members.is_heard_lately(node, self._loop.time()),
            silence=self._node.silence,
            providers_asked_count=self._params.ask_first_count - 1 if verb is Verb.ASK and want else 0,
        )
        asking = _Asking(
            key, verb, want, progress, fence, reason, on_replaced, lookup, self._loop.create_future()
        )
        self._do(asking, lookup.start(self._loop.time()))
        try:
            await asking.is_over
        except asyncio.CancelledError:
            asking.caller = _Caller.GONE
            self._give_up(asking)
            raise
        asking.caller = _Caller.SERVED
        answer = asking.answer
        outcome = "unreached" if answer is None else type(answer.ruling).__name__.lower()
        self._stats.claims[verb.name.lower(), outcome] += 1
        return answer

    # -- commands --------------------------------------------------------------------------------------------------

    def _do(self, asking: _Asking, commands: Sequence[Command[FoundProvider]]) -> None:
        for command in commands:
            match command:
                case AskClaim(contact, passed_over):
                    self._ask_claim(asking, contact, passed_over)
                case AskProviders(contact):
                    self._ask_providers(asking, contact)
                case Probe(contacts):
                    self._node.silence.probed(self._loop.time())
                    for contact in contacts:
                        self._ask_providers(asking, contact)
                case Report(providers):
                    asking.providers += providers
                case GiveBack(contact, fence):
                    self._give_back(asking, contact, fence)
                case Decided(arbiter, ruling):
                    placed = _placed(ruling, self._providers.placed)
                    self._decided(asking, ClaimAnswer(placed, arbiter, tuple(asking.providers)))
                case Undecided():
                    if not asking.is_over.done():
                        asking.is_over.set_result(None)
        if asking.timer is not None:
            asking.timer.cancel()
            asking.timer = None
        due_at = asking.lookup.next_timer()
        if due_at is not None:
            asking.timer = self._loop.call_at(due_at, self._event, asking, Timer())

    def _decided(self, asking: _Asking, answer: ClaimAnswer) -> None:
        asking.answer = answer
        if asking.caller is _Caller.GONE:
            self._give_up(asking)
        elif asking.caller is _Caller.SERVED:
            self._stats.claims[asking.verb.name.lower(), "replaced"] += 1
            if asking.on_replaced is not None:
                asking.on_replaced(answer)
        elif not asking.is_over.done():
            asking.is_over.set_result(None)

    def _give_up(self, asking: _Asking) -> None:
        """What was granted is nobody's. A renewed claim is the caller's to release."""
        answer = asking.answer
        if answer is not None and isinstance(answer.ruling, Granted) and asking.verb is Verb.ASK:
            self._give_back(asking, answer.arbiter, answer.ruling.fence)

    def _event(
        self,
        asking: _Asking,
        event: Ruled[FoundProvider] | ClaimSilent | Answered[FoundProvider] | Silent | Timer,
    ) -> None:
        now = self._loop.time()
        if isinstance(event, Ruled):
            self._node.claims.elsewhere.told(
                asking.key, event.node, event.ruling, self._here(), asking.progress, now
            )
        self._do(asking, asking.lookup.handle(event, now))

    def _ask_claim(self, asking: _Asking, contact: Contact, passed_over: tuple[bytes, ...]) -> None:
        request = Claim(
            asking.key,
            asking.verb,
            asking.want,
            asking.progress,
            asking.fence,
            list(passed_over),
            asking.reason,
        )
        if contact.node == self._node.own.node:
            self._loop.call_soon(self._rule_here, asking, request)
            return

        def done(reply: Reply | None) -> None:
            if reply is None or not isinstance(reply.result, codec.Ruling):
                self._event(asking, ClaimSilent(contact.node))
                return
            try:
                ruling = from_wire(reply.result, lambda node, told: self._providers.usable(node, told, reply))
            except FrameInvalid as exc:
                self._stats.drops[str(exc)] += 1
                self._event(asking, ClaimSilent(contact.node))
                return
            self._event(
                asking,
                Ruled(
                    contact.node,
                    ruling,
                    self._providers.read(reply.result.providers, reply, self._loop.time()),
                ),
            )

        self._send(contact, request, done, lambda: self._event(asking, ClaimSilent(contact.node)))

    def _rule_here(self, asking: _Asking, request: Claim) -> None:
        """This node is the arbiter."""
        node = self._node
        now = self._loop.time()
        known = self._providers.known_here(asking.key, now) if asking.want else []
        closer = node.members.closer(asking.key, node.own.node, CLOSER_LOOKED_AT_COUNT)
        ruling = judge(
            node.claims,
            request,
            self._here(),
            closer,
            now,
            is_joined=node.has_joined,
            is_source_known=bool(known),
        )
        self._event(asking, Ruled(node.own.node, ruling, known))

    def _ask_providers(self, asking: _Asking, contact: Contact) -> None:
        def done(reply: Reply | None) -> None:
            if reply is None or not isinstance(reply.result, Found):
                self._event(asking, Silent(contact.node))
                return
            found = self._providers.read(reply.result.providers, reply, self._loop.time())
            self._event(asking, Answered(contact.node, found, ()))

        request = GetProviders(asking.key, self._params.want_count)
        self._send(contact, request, done, lambda: self._event(asking, Silent(contact.node)))

    def _give_back(self, asking: _Asking, contact: Contact, fence: Fence) -> None:
        self._node.claims.elsewhere.given_back(asking.key, fence)
        request = Claim(asking.key, Verb.RELEASE, 0, 0, fence, [], REASON_DONE)
        if contact.node == self._node.own.node:
            self._node.claims.release(asking.key, self._here(), fence, 0, REASON_DONE, self._loop.time())
        else:
            self._send(contact, request, _ignore, lambda: None)

    def _release(self, key: bytes, fence: Fence, progress: int, reason: int) -> None:
        """Told to who granted it, and to who may have adopted it since."""
        self._stats.claims["release", "told"] += 1
        self._node.claims.elsewhere.given_back(key, fence)
        own = self._node.own.node
        nearest = self._node.members.nearest(key, 1, with_own=True)
        request = Claim(key, Verb.RELEASE, 0, progress, fence, [], reason)
        for arbiter in dict.fromkeys((fence.arbiter, *(one.node for one in nearest))):
            contact = self._node.members.get(arbiter)
            if arbiter == own:
                self._node.claims.release(key, self._here(), fence, progress, reason, self._loop.time())
            elif contact is not None:
                self._send(contact, request, _ignore, lambda: None)

    def listen(self) -> None:
        """As DHT.listen."""
        if self._node.silence.probed_since is not None:
            return
        near = self._node.members.nearest(self._node.own.node, self._params.replicas_count)
        if near:
            # Who knows nobody yet is not alone for hearing nobody.
            self._node.silence.probed(self._loop.time())
        for contact in near:
            self._send(contact, Ping(), _ignore, lambda: None)

    def _send(
        self,
        contact: Contact,
        request: Claim | GetProviders | Ping,
        done: Callable[[Reply | None], None],
        unreachable: Callable[[], None],
    ) -> None:
        to = self._providers.reach(contact)
        if to is None:
            self._loop.call_soon(unreachable)
        else:
            self._node.silence.asked(self._loop.time())
            timeout_s = self._params.claim_rpc_timeout_s if isinstance(request, Claim) else None
            self._protocol.ask(contact.node, to, request, done, timeout_s=timeout_s)


def _placed(ruling: Ruling, place: Callable[[Contact], Contact]) -> Ruling:
    def others(holdings: tuple[Holding, ...]) -> tuple[Holding, ...]:
        placed = (Holding(place(one.contact), one.progress) for one in holdings)
        return tuple(one for one in placed if one.contact.endpoints)

    match ruling:
        case Granted() | Pending():
            return replace(ruling, participants=others(ruling.participants))
        case Wait() | Lost():
            holder = ruling.running.holder
            placed = Running(ruling.running.fence, Holding(place(holder.contact), holder.progress))
            return replace(ruling, running=placed, participants=others(ruling.participants))
    return ruling


def _ignore(reply: Reply | None) -> None:
    """A release that was lost ends by the arbiter's clock."""
