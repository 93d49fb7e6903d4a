"""Reads what other nodes and the own records say of providers. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dht.contacts import Contact
from dht.endpoints import Endpoint, EndpointInvalid, may_be_told, unpack
from dht.errors import FrameInvalid
from dht.node import Node
from dht.protocol import ProviderProtocol
from dht.replies import Reply
from dht.stats import Stats
from dht.wire.codec import WireContact, WireProvider


@dataclass(frozen=True, slots=True)
class FoundProvider:
    """`endpoint` is the provider's UDP endpoint, of a family that this node speaks: its address is where the provider
    is. `state` and `info` are the provider's own words."""

    node: bytes
    endpoint: Endpoint
    state: int
    info: bytes


class Providers:
    def __init__(self, node: Node, protocol: ProviderProtocol, stats: Stats) -> None:
        self._node = node
        self._protocol = protocol
        self._stats = stats

    def known_here(self, key: bytes, now: float) -> list[FoundProvider]:
        """By the own records, this node never."""
        node = self._node
        found = []
        for one in node.records.find(key, node.params.sample_count, now, node.rng, node.own.node):
            endpoint = self.reach(one.provider)
            if endpoint is not None:
                found.append(FoundProvider(one.provider.node, endpoint, one.state, one.provider.info))
        return found

    def read(self, told: Iterable[WireProvider], reply: Reply, now: float) -> list[FoundProvider]:
        """Without those that cannot be reached from here, that the teller may not name, or that fell silent too long
        ago to be on their way back. Who fell silent is asked whether it is back."""
        found = []
        for one in (self._provider(one, reply) for one in told):
            if one is None:
                continue
            silent_s = None if one.node == reply.sender else self._node.members.silent_s(one.node, now)
            if silent_s is not None:
                self._node.suspect(Contact(one.node, 0, (one.endpoint,), b""))
                if silent_s >= self._node.params.silent_sure_s:
                    continue
            found.append(one)
        return found

    def read_closer(self, told: Iterable[WireContact], reply: Reply) -> list[Contact]:
        return [found for found in (self._contact(one, reply) for one in told) if found is not None]

    def usable(self, node: bytes, told: tuple[Endpoint, ...], reply: Reply) -> tuple[Endpoint, ...]:
        """Of what was told of a node, what may be used; who speaks of itself is where it was asked."""
        if node == reply.sender:
            return (reply.asked,)
        known = self._node.members.get(node)
        if known is not None and known.endpoints:
            return known.endpoints
        return tuple(one for one in told if self._may_use(one, reply.source))

    def placed(self, told: Contact) -> Contact:
        """A member as this node knows it, anybody else as told; with endpoints of families that this node speaks."""
        known = self._node.members.get(told.node)
        if known is None or not known.endpoints:
            known = told
        endpoints = tuple(one for one in known.endpoints if self._speaks(one))
        return Contact(known.node, known.epoch, endpoints, known.info or told.info)

    def reach(self, contact: Contact) -> Endpoint | None:
        return contact.reach(v4=self._protocol.speaks_v4, v6=self._protocol.speaks_v6)

    def _provider(self, told: WireProvider, reply: Reply) -> FoundProvider | None:
        if told.node == reply.sender:
            # Who speaks of itself is where it was asked.
            return FoundProvider(told.node, reply.asked, told.state, told.info)
        try:
            endpoints = unpack(told.endpoints)
        except EndpointInvalid:
            self._stats.drops["bad endpoint"] += 1
            return None
        for endpoint in endpoints:
            if self._may_use(endpoint, reply.source):
                return FoundProvider(told.node, endpoint, told.state, told.info)
        return None

    def _contact(self, told: WireContact, reply: Reply) -> Contact | None:
        known = self._node.members.get(told.node)
        if known is not None:
            return known
        try:
            contact = told.contact()
        except FrameInvalid:
            self._stats.drops["bad endpoint"] += 1
            return None
        usable = tuple(one for one in contact.endpoints if self._may_use(one, reply.source))
        return Contact(contact.node, contact.epoch, usable, contact.info) if usable else None

    def _may_use(self, endpoint: Endpoint, teller: Endpoint) -> bool:
        return self._speaks(endpoint) and may_be_told(endpoint, teller) and self._node.may_use(endpoint)

    def _speaks(self, endpoint: Endpoint) -> bool:
        return self._protocol.speaks_v6 if endpoint.is_v6 else self._protocol.speaks_v4
