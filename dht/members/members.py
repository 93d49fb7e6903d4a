"""Who is in the cluster, as far as this node knows: every member up to a cap, and the near ones above it.

Direct evidence (an authenticated datagram) is believed. Hearsay adds members and tells of a node's newer life, but
does not move a member that we hear ourselves. Takes no decision about whom to ask when; sends nothing. The order of
ids is the table's (dht.members.table); whatever else is known of a member is kept only where there is something.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from heapq import nlargest
from random import Random

from dht.contacts import Contact, merged
from dht.endpoints import Endpoint
from dht.members.departed import Departed
from dht.members.eviction import Eviction
from dht.members.moves import Move, Moves
from dht.members.table import MemberTable
from dht.members.tenants import Tenants
from dht.params import Params

# An address that a member was heard at within this time, and that answers, is not replaced by hearsay.
HEARD_LATELY_S = 60.0


@dataclass(frozen=True, slots=True)
class Joined:
    """`is_rejoin`: it was known before, and was gone or has been started anew since."""

    contact: Contact
    is_rejoin: bool


@dataclass(frozen=True, slots=True)
class Updated:
    """The same life of the node, at another address or with other info."""

    contact: Contact


class GoneReason(Enum):
    LEFT = "left"
    SILENT = "silent"
    EVICTED = "evicted"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Gone:
    contact: Contact
    reason: GoneReason


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two live nodes share an id. The first of `endpoints` is the one that is kept."""

    node: bytes
    endpoints: tuple[Endpoint, Endpoint]


Change = Joined | Updated | Gone | Conflict


class Members(MemberTable):
    __slots__ = ("_departed", "_eviction", "_heard_s", "_moves", "_params", "_srtt_s", "_strikes", "_tenants")

    def __init__(self, own: Contact, params: Params, *, is_open: bool = False) -> None:
        super().__init__(own)
        self._params = params
        # When it was last heard itself, in this life of its.
        self._heard_s: dict[bytes, float] = {}
        # How often it did not answer since, and when last.
        self._strikes: dict[bytes, tuple[int, float]] = {}
        self._srtt_s: dict[bytes, float] = {}
        self._departed = Departed(params)
        self._moves = Moves(params.conflict_window_s)
        self._eviction = Eviction(own.node)
        self._tenants = Tenants(params.members_per_address_count if is_open else None)

    # -- what happened

    def heard(
        self, node: bytes, epoch: int, endpoint: Endpoint, info: bytes | None, now: float
    ) -> list[Change]:
        """The node itself spoke, from there. `info` None: it did not say. Believed whatever was known, a lower epoch
        too (a node restored from a backup): old datagrams are the replay window's to refuse."""
        index = bisect_left(self._ids, node)
        if index == len(self._ids) or self._ids[index] != node:
            if node == self._own.node or not self._tenants.has_room(node, endpoint):
                return []
            return self._add_heard(Contact(node, epoch, (endpoint,), info or b""), now)
        old = self._contacts[index]
        is_home = self._tenants.at(endpoint) == node
        if is_home and old.epoch == epoch and (info is None or info == old.info):
            self._heard_s[node] = now
            if self._strikes:
                self._strikes.pop(node, None)
            return []
        if not is_home and not self._tenants.has_room(node, endpoint, old.endpoints):
            return []
        new = Contact(node, epoch, (endpoint,), old.info if info is None else info)
        if old.epoch == epoch:
            before = _of_family(old, endpoint)
            if before is not None and before != endpoint:
                move = self._moves.heard(node, before, endpoint, now)
                if move is not Move.MOVED:
                    return [Conflict(node, (before, endpoint))] if move is Move.CONFLICT else []
            new = merged(old, new)
        else:
            self._moves.forget(node)
        self._heard_s[node] = now
        self._strikes.pop(node, None)
        changes: list[Change] = []
        if new != old:
            self._replace(index, new)
            changes.append(Updated(new) if old.epoch in (epoch, 0) else Joined(new, is_rejoin=True))
        if is_home:
            return changes
        cleared = self._cleared(endpoint, now)
        homes = self._contacts[self._find(node)].endpoints
        # The object that stands in the contact: tables may share it.
        self._tenants.move_in(node, homes[homes.index(endpoint)])
        return cleared + changes

    def told(self, contact: Contact, now: float) -> list[Change]:
        """Another node says so. Whether its addresses may be learned from that teller is the caller's to check."""
        node = contact.node
        if node == self._own.node or not contact.endpoints:
            return []
        index = self._find(node)
        if index < 0:
            if self._departed.is_dead(node, contact.epoch, now):
                return []
            return self._add(contact, now, is_heard=False)
        old = self._contacts[index]
        if contact.epoch < old.epoch or contact == old:
            return []
        if contact.epoch == old.epoch:
            return self._told_more(index, old, contact, now)
        # What we heard was an earlier life: where that one was says nothing of this one.
        self._heard_s.pop(node, None)
        self._strikes.pop(node, None)
        self._moves.forget(node)
        self._tenants.move_out(node, old.endpoints)
        self._replace(index, contact)
        return [Updated(contact)] if old.epoch == 0 else [Joined(contact, is_rejoin=True)]

    def struck(self, node: bytes, now: float) -> list[Change]:
        """It did not answer in time. Requests within `strikes_apart_s` are one strike."""
        index = self._find(node)
        if index < 0:
            return []
        count, last_s = self._strikes.get(node, (0, 0.0))
        if count and now - last_s < self._params.strikes_apart_s:
            return []
        if count + 1 < self._params.strikes_count:
            self._strikes[node] = (count + 1, now)
            return []
        gone = self._remove(index)
        self._departed.fell_silent(gone, now)
        return [Gone(gone, GoneReason.SILENT)]

    def left(self, node: bytes, epoch: int, now: float) -> list[Change]:
        """It said that it leaves. Without effect on a later life of it."""
        index = self._find(node)
        if index < 0:
            if node != self._own.node:
                self._departed.left(node, epoch, now)
            return []
        if epoch < self._contacts[index].epoch:
            return []
        gone = self._remove(index)
        self._departed.left(node, epoch, now)
        return [Gone(gone, GoneReason.LEFT)]

    def rtt(self, node: bytes, sample_s: float) -> None:
        """A request to it was answered after so long."""
        if self._find(node) < 0:
            return
        srtt_s = self._srtt_s.get(node)
        if srtt_s is None:
            self._srtt_s[node] = sample_s
        else:
            self._srtt_s[node] = srtt_s + self._params.srtt_weight * (sample_s - srtt_s)

    def preload(self, contacts: Iterable[Contact]) -> None:
        """As `MemberTable.preload`. Raises: ValueError: more than the cap."""
        listed = list(contacts)
        if len(listed) + len(self) > self._params.members_max_count:
            raise ValueError(
                f"{len(listed)} contacts are too many for a table of {len(self)} members: "
                f"preload fewer, or raise members_max_count ({self._params.members_max_count})"
            )
        for contact in listed:
            known = self.get(contact.node)
            if known is not None:
                self._tenants.move_out(contact.node, _left(known, contact))
        super().preload(listed)

    # -- what may be asked beside the table's order

    def is_heard_lately(self, node: bytes, now: float) -> bool:
        """Whether the member itself spoke within HEARD_LATELY_S and answered since."""
        heard_s = self._heard_s.get(node)
        return heard_s is not None and now - heard_s <= HEARD_LATELY_S and node not in self._strikes

    @property
    def is_full(self) -> bool:
        """Not every node of the cluster may be known: lookups iterate."""
        return len(self._ids) >= self._params.members_max_count

    @property
    def lost_count(self) -> int:
        return self._departed.lost_count

    def lost_sample(self, rng: Random, now: float) -> Contact | None:
        """A member that fell silent, not one that left."""
        return self._departed.sample(rng, now)

    def silent_s(self, node: bytes, now: float) -> float | None:
        """How long ago a member fell silent that was not heard of since; None: none such. Who left said so to
        everybody: whoever names it again knows that it is back."""
        return self._departed.silent_s(node, now) if self._find(node) < 0 else None

    def best(self, count: int) -> list[Contact]:
        """Those heard last, latest first; where they are too few, others."""
        nodes = nlargest(count, self._heard_s, key=self._heard_s.__getitem__)
        found = [contact for contact in map(self.get, nodes) if contact is not None]
        for contact in self._contacts:
            if len(found) >= count:
                break
            if contact.node not in self._heard_s:
                found.append(contact)
        return found

    def hedge_s(self, node: bytes) -> float:
        """How long an answer of it is waited for before somebody else is asked as well."""
        srtt_s = self._srtt_s.get(node)
        if srtt_s is None:
            return self._params.hedge_start_s
        return max(self._params.hedge_min_s, self._params.hedge_srtt_factor * srtt_s)

    # -- inside

    def _add_heard(self, contact: Contact, now: float) -> list[Change]:
        (endpoint,) = contact.endpoints
        # First, so that at the cap the newcomer takes the place of whom it replaces.
        cleared = self._cleared(endpoint, now)
        changes = self._add(contact, now, is_heard=True)
        if changes:
            self._tenants.move_in(contact.node, endpoint)
        return cleared + changes

    def _cleared(self, endpoint: Endpoint, now: float) -> list[Change]:
        """Another is heard there: who was heard there before is there no longer."""
        node = self._tenants.at(endpoint)
        if node is None:
            return []
        index = self._find(node)
        assert index >= 0, "a tenant is a member"
        gone = self._remove(index)
        self._departed.left(node, gone.epoch, now)
        return [Gone(gone, GoneReason.REPLACED)]

    def _told_more(self, index: int, old: Contact, contact: Contact, now: float) -> list[Change]:
        """Hearsay about the life that we know."""
        if self.is_heard_lately(old.node, now):
            # Nothing but another family's address, or the info that we lack.
            new = merged(contact, Contact(old.node, old.epoch, old.endpoints, old.info or contact.info))
        else:
            new = merged(old, contact)
        if new == old:
            return []
        if new.endpoints != old.endpoints:
            self._strikes.pop(old.node, None)
        self._replace(index, new)
        return [Updated(new)]

    def _add(self, contact: Contact, now: float, *, is_heard: bool) -> list[Change]:
        changes: list[Change] = []
        if self.is_full:
            victim = self._eviction.victim(
                self._ids, self.revision, contact.node, self._heard_s, is_heard=is_heard
            )
            if victim is None:
                return []
            changes.append(Gone(self._remove(victim), GoneReason.EVICTED))
        self._insert(contact)
        if is_heard:
            self._heard_s[contact.node] = now
        changes.append(Joined(contact, is_rejoin=self._departed.came_back(contact.node, now)))
        return changes

    def _replace(self, index: int, contact: Contact) -> None:
        self._tenants.move_out(contact.node, _left(self._contacts[index], contact))
        super()._replace(index, contact)

    def _remove(self, index: int) -> Contact:
        contact = self._take_out(index)
        for kept in (self._heard_s, self._strikes, self._srtt_s):
            kept.pop(contact.node, None)
        self._moves.forget(contact.node)
        self._tenants.move_out(contact.node, contact.endpoints)
        return contact


def _left(old: Contact, new: Contact) -> list[Endpoint]:
    return [one for one in old.endpoints if one not in new.endpoints]


def _of_family(contact: Contact, endpoint: Endpoint) -> Endpoint | None:
    return next((one for one in contact.endpoints if one.is_v6 == endpoint.is_v6), None)
