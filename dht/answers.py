"""What a node answers to each RPC. Pure. Refuses to learn who asked: that is the node's (dht.node).

Every answer fits the room it is given: what does not fit is left out, never cut.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final

from dht.asker import Asker
from dht.claims.claims import Claims
from dht.claims.rules import CLOSER_LOOKED_AT_COUNT, judge
from dht.claims.wire import to_wire
from dht.contacts import Contact, epoch_of
from dht.endpoints import Endpoint, pack
from dht.members.hashes import MemberHashes
from dht.members.members import Members
from dht.params import Params
from dht.records.records import Records, Stored
from dht.wire.codec import (
    Added,
    AddProviders,
    Claim,
    Differs,
    FindNode,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Nodes,
    Page,
    Ping,
    Pong,
    Removed,
    RemoveProviders,
    Request,
    Result,
    Sync,
    WireContact,
    WireProvider,
    keys_of,
)

_FIRST: Final = bytes(20)
_LAST: Final = b"\xff" * 20
# The most that msgpack adds around the fields of a contact or provider: five heads and an epoch.
_HEADS_BYTES: Final = 14
# A contact or provider with both families and the most info.
_LONGEST_BYTES: Final = _HEADS_BYTES + 20 + 24 + 48
# Array heads, counts and our own info around a list.
_RESULT_BYTES: Final = 70
_PAGE_MAX_COUNT: Final = 40
_FIND_MAX_COUNT: Final = 20


def wire_contact(contact: Contact) -> WireContact:
    return WireContact(contact.node, contact.epoch, pack(contact.endpoints), contact.info)


def size_bytes(contact: Contact) -> int:
    """At most so much on the wire."""
    return (
        _HEADS_BYTES + 20 + sum(18 if found.is_v6 else 6 for found in contact.endpoints) + len(contact.info)
    )


class Answers:
    def __init__(
        self,
        members: Members,
        hashes: MemberHashes,
        records: Records,
        claims: Claims,
        params: Params,
        rng: random.Random,
    ) -> None:
        self._members = members
        self._hashes = hashes
        self._records = records
        self._claims = claims
        self._params = params
        self._rng = rng

    def answer(
        self, request: Request, asker: Asker, now: float, room_bytes: int, *, is_joined: bool
    ) -> Result | None:
        """None: not to be answered. Raises: FrameInvalid."""
        if isinstance(request, GetProviders):
            return self._get_providers(request, asker, now, room_bytes)
        if isinstance(request, AddProviders):
            return self._add_providers(request, asker, now)
        if isinstance(request, Ping):
            return Pong(self._members.own.info, pack((asker.source,)))
        if isinstance(request, Sync):
            return Differs(self._hashes.differing(request.prefix, request.hashes))
        if isinstance(request, RemoveProviders):
            keys = keys_of(request.keys)
            return Removed(sum(self._records.remove(key, asker.sender, asker.stamp, now) for key in keys))
        if isinstance(request, Join):
            return self._page(_FIRST, _LAST, room_bytes)
        if isinstance(request, GetMembers):
            return self._page(request.first, request.last, room_bytes)
        if isinstance(request, FindNode):
            near = self._members.nearest(request.target, _FIND_MAX_COUNT + 1)
            return Nodes(_fitting(near, room_bytes - _RESULT_BYTES, asker.sender)[:_FIND_MAX_COUNT])
        if isinstance(request, Claim):
            return self._claim(request, asker, now, room_bytes, is_joined=is_joined)
        return None

    def _get_providers(self, request: GetProviders, asker: Asker, now: float, room_bytes: int) -> Found:
        found = self._providers(request.key, request.want, asker, now)
        near = self._closer(request.key)
        stored_count = min(self._records.count(request.key), 255)
        room = room_bytes - _RESULT_BYTES
        if (len(found) + len(near)) * _LONGEST_BYTES <= room:
            # As a rule: then nothing is weighed, which is a third of the time.
            known = [wire_contact(one) for one in near if one.endpoints and one.node != asker.sender]
            return Found(found, known, stored_count)
        # Without a provider, a nearer node is worth more than what the asker can guess.
        closer = _fitting(near, room // 2 if found else room, asker.sender)
        left = room - sum(_wire_size_bytes(one.endpoints, one.info) for one in closer)
        return Found(_providers_fitting(found, left), closer, stored_count)

    def _closer(self, key: bytes) -> list[Contact]:
        return self._members.closer(key, self._members.own.node, self._params.closer_count)

    def _providers(self, key: bytes, want: int, asker: Asker, now: float) -> list[WireProvider]:
        want = min(want, self._params.sample_count)
        return [
            WireProvider(one.provider.node, pack(one.provider.endpoints), one.state, one.provider.info)
            for one in self._records.find(key, want, now, self._rng, asker.sender)
        ]

    def _add_providers(self, request: AddProviders, asker: Asker, now: float) -> Added:
        provider = Contact(asker.sender, epoch_of(asker.stamp), self._endpoints(asker), request.info)
        known = self._members.get(asker.sender)
        if known is not None and known == provider:
            # One object for both: there are as many providers as members.
            provider = known
        stored_count = 0
        saturated = bytearray()
        keys = keys_of(request.keys)
        for number, key in enumerate(keys):
            stored = self._records.add(key, provider, request.state, asker.stamp, float(request.ttl_s), now)
            if stored is Stored.STORED:
                stored_count += 1
            elif stored is Stored.SATURATED:
                saturated.extend(bytes(number // 8 + 1 - len(saturated)))
                saturated[number // 8] |= 1 << number % 8
        return Added(stored_count, bytes(saturated))

    def _endpoints(self, asker: Asker) -> tuple[Endpoint, ...]:
        """Where the sender was heard: now, and over the other family if it is a member."""
        known = self._members.get(asker.sender)
        if known is not None and asker.endpoint in known.endpoints:
            return known.endpoints
        return (asker.endpoint,)

    def _claim(self, request: Claim, asker: Asker, now: float, room_bytes: int, *, is_joined: bool) -> Result:
        known = self._members.get(asker.sender)
        who = Contact(
            asker.sender,
            epoch_of(asker.stamp),
            self._endpoints(asker),
            b"" if known is None else known.info,
        )
        providers = self._providers(request.key, request.want, asker, now) if request.want else []
        closer = self._members.closer(request.key, self._members.own.node, CLOSER_LOOKED_AT_COUNT)
        ruling = judge(
            self._claims,
            request,
            who,
            closer,
            now,
            is_joined=is_joined,
            is_source_known=bool(providers),
        )
        return to_wire(ruling, providers, room_bytes)

    def _page(self, first: bytes, last: bytes, room_bytes: int) -> Page:
        contacts, more = self._members.page(first, last, _PAGE_MAX_COUNT)
        room = room_bytes - _RESULT_BYTES - len(self._members.own.info)
        reachable = [one for one in contacts if one.endpoints]
        fitting = _fitting(reachable, room, b"")
        is_cut = more or len(fitting) < len(reachable)
        return Page(fitting, is_cut, len(self._members) + 1, self._members.own.info)


def _fitting(contacts: Iterable[Contact], room_bytes: int, without: bytes) -> list[WireContact]:
    """The first ones that fit."""
    fitting = []
    for contact in contacts:
        if contact.node == without or not contact.endpoints:
            continue
        room_bytes -= size_bytes(contact)
        if room_bytes < 0:
            break
        fitting.append(wire_contact(contact))
    return fitting


def _wire_size_bytes(endpoints: bytes, info: bytes) -> int:
    return _HEADS_BYTES + 20 + len(endpoints) + len(info)


def _providers_fitting(providers: Iterable[WireProvider], room_bytes: int) -> list[WireProvider]:
    fitting = []
    for one in providers:
        room_bytes -= _wire_size_bytes(one.endpoints, one.info)
        if room_bytes < 0:
            break
        fitting.append(one)
    return fitting
