"""The library's routing table, over our members: what `kademlia` asks of a table is answered from the full one.

A shell. The library's own table keeps a few hundred contacts, in buckets, and finds neighbours out of order. Nothing
in this package learns members through here; the library may.
"""

from __future__ import annotations

from collections.abc import Callable

from kademlia.node import Node
from kademlia.protocol import KademliaProtocol
from kademlia.routing import KBucket, RoutingTable

from dht.contacts import Contact
from dht.endpoints import EndpointInvalid, endpoint
from dht.members.members import Change, Members


class FullRoutingTable(RoutingTable):
    """`changed` gets what a call changed, `clock` is monotonic seconds. Nodes of a family that is not spoken (`v4`,
    `v6`) are neighbours of nobody."""

    def __init__(
        self,
        protocol: KademliaProtocol,
        ksize: int,
        node: Node,
        members: Members,
        *,
        clock: Callable[[], float],
        changed: Callable[[list[Change]], None],
        v4: bool = True,
        v6: bool = True,
    ) -> None:
        super().__init__(protocol, ksize, node)
        self._members = members
        self._clock = clock
        self._changed = changed
        self._v4 = v4
        self._v6 = v6

    def flush(self) -> None:
        """There are no buckets. The members stay: they are not the table's."""
        self.buckets = []

    def lonely_buckets(self) -> list[KBucket]:
        """None: the refresh sweep and the comparison of hashes reach every member."""
        return []

    def add_contact(self, node: Node) -> None:
        """The library knows no epoch, so this counts as hearsay."""
        if node.ip is None or node.port is None:
            return
        try:
            reached = endpoint(node.ip, node.port)
        except EndpointInvalid:
            return
        if len(node.id) == len(self.node.id):
            self._changed(self._members.told(Contact(node.id, 0, (reached,), b""), self._clock()))

    def remove_contact(self, node: Node) -> None:
        """A strike: the library calls it after one lost answer."""
        self._changed(self._members.struck(node.id, self._clock()))

    def is_new_node(self, node: Node) -> bool:
        return node.id not in self._members

    def find_neighbors(self, node: Node, k: int | None = None, exclude: Node | None = None) -> list[Node]:
        """Exact XOR order, without the node itself and whoever shares the endpoint of `exclude`."""
        wanted = k or self.ksize
        # One more for the node itself, one for who is left out. Of another family may be any number.
        asked_count = wanted + 2
        while True:
            nearest = self._members.nearest(node.id, asked_count)
            found = [one for one in map(self._node, nearest) if one is not None and one.id != node.id]
            if exclude is not None:
                found = [one for one in found if not one.same_home_as(exclude)]
            if len(found) >= wanted or len(nearest) < asked_count:
                return found[:wanted]
            asked_count *= 2

    def _node(self, contact: Contact) -> Node | None:
        reached = contact.reach(v4=self._v4, v6=self._v6)
        return None if reached is None else Node(contact.node, reached.address, reached.port)
