"""One node's knowledge, and how every part of it hears what happens. Pure: takes the time, sends nothing.

Members that come and go are told to the records (hidden, and seen again), to the gossip and to the announcements. Whom
the shell should ask for news is left in `suspects`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from dht.announce.announce import Announcements
from dht.answers import Answers
from dht.asker import Asker
from dht.claims.claims import Claims
from dht.contacts import Contact, epoch_of
from dht.endpoints import Endpoint, is_local, may_be_told
from dht.errors import FrameInvalid
from dht.members.gossip import Gossip
from dht.members.hashes import MemberHashes
from dht.members.members import Change, Conflict, Gone, GoneReason, Joined, Members, Updated
from dht.members.twins import Lives
from dht.params import Params
from dht.records.records import Records
from dht.silence import Silence
from dht.stats import Stats
from dht.wire.codec import DELTA_MAX_BYTES, Delta, DeltaKind, Leave, Request, Result, WireContact

# Members that may be gone: asked by ourselves, a few at a time.
SUSPECTS_MAX_COUNT = 256
# Where so few are known, one that is silent is one that is gone, also when nobody else is heard.
FEW_MEMBERS_COUNT = 2
# So long nobody was heard at all: then it is our own network that is down, and silence accuses nobody.
DEAF_RPC_TIMEOUTS_COUNT = 2


@dataclass(frozen=True, slots=True)
class Shadow:
    """Two live nodes have one id: the first of `endpoints` is the one believed; only the other is known where the id
    is our own."""

    node: bytes
    endpoints: tuple[Endpoint, ...]


class Node:
    """`noticed` is told what an operator should know. `is_sealed`: the cluster has a secret."""

    def __init__(
        self,
        own: Contact,
        params: Params,
        rng: random.Random,
        stats: Stats,
        noticed: Callable[[Shadow], None],
        *,
        is_sealed: bool,
    ) -> None:
        self.params = params
        self.rng = rng
        self.members = Members(own, params, is_open=not is_sealed)
        self.hashes = MemberHashes(self.members)
        self.gossip = Gossip(params)
        self.records = Records(params)
        self.claims = Claims(own.node, own.epoch, params)
        self.announcements = Announcements(own.node, self.members, params, rng.random(), rng)
        self.suspects: dict[bytes, Contact] = {}
        self._lives = Lives(params.conflict_window_s)
        self.unheard_lookups_count = 0
        # Knows whom the others know, or that there is nobody.
        self.has_joined = False
        self._answers = Answers(self.members, self.hashes, self.records, self.claims, params, rng)
        self._stats = stats
        self._noticed = noticed
        self._is_sealed = is_sealed
        self.silence = Silence()
        self._wakers: list[Callable[[], None]] = []

    @property
    def own(self) -> Contact:
        return self.members.own

    @property
    def is_isolated(self) -> bool:
        """Nobody hears us: lookups are not worth their time until a datagram comes."""
        return self.unheard_lookups_count >= self.params.isolated_after_count

    def may_use(self, found: Endpoint) -> bool:
        """Without a secret only what cannot be far away."""
        return self._is_sealed or is_local(found.address)

    def joined(self) -> None:
        """From now on this node knows who keeps which key."""
        self.has_joined = True
        for wake in self._wakers:
            wake()

    def on_announcements_due(self, wake: Callable[[], None]) -> None:
        """`wake` is called when something may be due earlier than it was."""
        self._wakers.append(wake)

    # -- what the protocol hears -----------------------------------------------------------------------------------

    def heard(self, node: bytes, epoch: int, endpoint: Endpoint, info: bytes | None, now: float) -> None:
        self._alive(now)
        changes = self.members.heard(node, epoch, endpoint, info, now)
        if changes:
            self.changed(changes, now)
            if isinstance(changes[-1], Joined | Updated):
                self.records.relocate(changes[-1].contact)
            if not self._is_sealed and isinstance(changes[-1], Joined) and changes[-1].is_rejoin:
                other = self._lives.began(node, epoch, endpoint, now)
                if other is not None:
                    self.doubled(node, (endpoint, other))
        # Where a provider is nobody else says, so hearsay that proves true changed no member but moves its records.
        provider = self.records.provider(node)
        if provider is not None and endpoint not in provider.endpoints:
            member = self.members.get(node)
            if member is not None and endpoint in member.endpoints:
                self.records.relocate(member)

    def is_deaf_soon(self, now: float) -> bool:
        """Whether silence after a request of now would accuse nobody, unless somebody is heard meanwhile."""
        return now - self.silence.heard_at > self.params.rpc_timeout_s * (DEAF_RPC_TIMEOUTS_COUNT - 1)

    def alive(self, node: bytes, now: float) -> None:
        del node
        self._alive(now)

    def silent(self, node: bytes, now: float) -> None:
        contact = self.members.get(node)
        if contact is None:
            return
        deaf_s = self.params.rpc_timeout_s * DEAF_RPC_TIMEOUTS_COUNT
        if now - self.silence.heard_at > deaf_s and len(self.members) > FEW_MEMBERS_COUNT:
            # Or nothing was asked meanwhile: it is asked again, and witnesses beside it.
            self.suspect(contact)
            return
        changes = self.members.struck(node, now)
        if changes:
            self.changed(changes, now)
        else:
            self.suspect(contact)

    def rtt(self, node: bytes, rtt_s: float) -> None:
        self.members.rtt(node, rtt_s)

    def told(self, deltas: list[Delta], teller: Endpoint, now: float) -> None:
        for delta in deltas:
            if delta.kind == DeltaKind.JOINED:
                self._told_of(delta.member, teller, now, is_news=True)
                continue
            known = self.members.get(delta.member.node)
            if known is not None and known.epoch <= delta.member.epoch:
                self.suspect(known)

    def introduced(
        self, contacts: Iterable[WireContact], teller: Endpoint, now: float, *, are_news: bool
    ) -> None:
        """A page of members. `are_news`: those we did not know may be unknown to others, too."""
        for contact in contacts:
            self._told_of(contact, teller, now, is_news=are_news)

    def unlisted(self, first: bytes, last: bytes, listed: Set[bytes], now: float) -> None:
        """All that another node knows of a range. Whom it does not know may have left us unnoticed."""
        for contact in self.members.page(first, last, self.params.members_max_count)[0]:
            is_known = contact.node in listed or contact.node == self.own.node
            if not is_known and not self.members.is_heard_lately(contact.node, now):
                self.suspect(contact)

    def shadowed(self, source: Endpoint, now: float) -> None:
        """A live node with our id spoke from there."""
        del now
        self._stats.conflicts += 1
        self._noticed(Shadow(self.own.node, (source,)))

    def doubled(self, node: bytes, endpoints: tuple[Endpoint, Endpoint]) -> None:
        self._stats.conflicts += 1
        self._noticed(Shadow(node, endpoints))

    def news(self, asker: bytes, room_bytes: int) -> list[Delta]:
        if len(self.gossip) == 0 or room_bytes < self.params.deltas_per_reply_count * DELTA_MAX_BYTES:
            return []
        return self.gossip.take(len(self.members), asker)

    def serve(self, request: Request, asker: Asker, now: float, room_bytes: int) -> Result | None:
        if isinstance(request, Leave):
            self.changed(self.members.left(asker.sender, epoch_of(asker.stamp), now), now)
            return None
        return self._answers.answer(request, asker, now, room_bytes, is_joined=self.has_joined)

    # -- suspects --------------------------------------------------------------------------------------------------

    def suspect(self, contact: Contact) -> None:
        if len(self.suspects) < SUSPECTS_MAX_COUNT:
            self.suspects[contact.node] = contact

    def take_suspects(self, count: int) -> list[Contact]:
        taken = list(self.suspects.values())[:count]
        for contact in taken:
            del self.suspects[contact.node]
        return taken

    # -- inside ----------------------------------------------------------------------------------------------------

    def _alive(self, now: float) -> None:
        self.silence.heard(now)
        self.unheard_lookups_count = 0

    def _told_of(self, member: WireContact, teller: Endpoint, now: float, *, is_news: bool) -> None:
        try:
            told = member.contact()
        except FrameInvalid:
            self._stats.drops["bad endpoint"] += 1
            return
        believed = tuple(found for found in told.endpoints if self._is_believed(found, teller))
        if not believed:
            return
        if len(believed) < len(told.endpoints):
            told = Contact(told.node, told.epoch, believed, told.info)
        changes = self.members.told(told, now)
        if changes:
            self.changed(changes, now, are_news=is_news)
        elif told.node not in self.members and told.node != self.own.node and not self.members.is_full:
            # We found it dead, others have it: after a split both are right for a while.
            self.suspect(told)

    def _is_believed(self, found: Endpoint, teller: Endpoint) -> bool:
        return may_be_told(found, teller) and self.may_use(found)

    def changed(self, changes: list[Change], now: float, *, are_news: bool = True) -> None:
        for change in changes:
            if isinstance(change, Conflict):
                self.doubled(change.node, change.endpoints)
            elif isinstance(change, Gone):
                self._gone(change, now)
            else:
                self.records.show(change.contact.node)
                if are_news:
                    self.gossip.add(DeltaKind.JOINED, change.contact)
                self.suspects.pop(change.contact.node, None)
                if isinstance(change, Joined):
                    self.announcements.member_joined(change.contact, now)
                    for wake in self._wakers:
                        wake()

    def _gone(self, gone: Gone, now: float) -> None:
        del now
        self.suspects.pop(gone.contact.node, None)
        if gone.reason is GoneReason.EVICTED:
            return
        self.records.hide(gone.contact.node)
        kind = DeltaKind.LEFT if gone.reason is GoneReason.LEFT else DeltaKind.SILENT
        self.gossip.add(kind, gone.contact)
