"""The library's table interface, answered from the full table; and the library's own code on top of it."""

from __future__ import annotations

import random

import pytest
from kademlia.node import Node
from kademlia.protocol import KademliaProtocol
from kademlia.routing import RoutingTable

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.ids import distance
from dht.members.members import Change, Gone, GoneReason, Joined, Members
from dht.params import Params
from dht.routing import FullRoutingTable
from dht.server import NoValues

OWN = Contact(b"\x77" * 20, 1, (Endpoint("10.0.0.99", 29021),), b"")
X = b"\x11" * 20


class Bed:
    def __init__(self, *, v4: bool = True, v6: bool = True) -> None:
        self.now = 100.0
        self.changes: list[Change] = []
        self.members = Members(OWN, Params())
        node = Node(OWN.node)
        self.protocol = KademliaProtocol(node, NoValues(), 20)
        self.table = FullRoutingTable(
            self.protocol,
            20,
            node,
            self.members,
            clock=lambda: self.now,
            changed=self.changes.extend,
            v4=v4,
            v6=v6,
        )
        self.protocol.router = self.table


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_it_is_the_library_s_table_without_buckets(bed: Bed) -> None:
    assert isinstance(bed.table, RoutingTable)
    bed.members.heard(X, 1, Endpoint("10.0.0.1", 1), None, 0.0)
    bed.table.flush()
    assert bed.table.buckets == []
    assert bed.table.lonely_buckets() == []
    assert bed.protocol.get_refresh_ids() == []
    assert X in bed.members


def test_a_contact_of_the_library_is_hearsay(bed: Bed) -> None:
    assert bed.table.is_new_node(Node(X))
    bed.table.add_contact(Node(X, "::ffff:10.0.0.1", 29021))
    assert bed.changes == [Joined(Contact(X, 0, (Endpoint("10.0.0.1", 29021),), b""), is_rejoin=False)]
    assert not bed.table.is_new_node(Node(X))


@pytest.mark.parametrize(
    "node",
    [
        Node(X),
        Node(X, "10.0.0.1"),
        Node(X, "somewhere", 1),
        Node(X, "10.0.0.1", 0),
        Node(b"\x01", "10.0.0.1", 1),
    ],
)
def test_what_is_no_contact(bed: Bed, node: Node) -> None:
    bed.table.add_contact(node)
    assert len(bed.members) == 0
    assert bed.changes == []


def test_one_lost_answer_removes_nobody(bed: Bed) -> None:
    bed.members.heard(X, 1, Endpoint("10.0.0.1", 1), None, 0.0)
    bed.table.remove_contact(Node(X))
    assert not bed.table.is_new_node(Node(X))
    bed.now += 1.0
    bed.table.remove_contact(Node(X))
    assert bed.table.is_new_node(Node(X))
    assert [change.reason for change in bed.changes if isinstance(change, Gone)] == [GoneReason.SILENT]


@pytest.mark.parametrize("size", [0, 3, 50, 2000])
def test_neighbours_are_the_true_nearest(bed: Bed, size: int) -> None:
    rng = random.Random(size)
    nodes = [rng.randbytes(20) for _ in range(size)]
    bed.members.preload(
        Contact(node, 1, (Endpoint("10.1.0.1", 1 + index),), b"") for index, node in enumerate(nodes)
    )
    for target in [*nodes[:3], *(rng.randbytes(20) for _ in range(10))]:
        found = bed.table.find_neighbors(Node(target))
        nearest = sorted((node for node in nodes if node != target), key=lambda one: distance(one, target))
        assert [one.id for one in found] == nearest[:20]
        assert [one.id for one in bed.table.find_neighbors(Node(target), k=5)] == nearest[:5]
        if found:
            rest = bed.table.find_neighbors(
                Node(target), exclude=Node(b"\x01" * 20, found[0].ip, found[0].port)
            )
            assert [one.id for one in rest] == nearest[1:21]


def test_a_neighbour_has_the_endpoint_of_the_member(bed: Bed) -> None:
    bed.members.heard(X, 1, Endpoint("10.0.0.1", 29021), None, 0.0)
    [found] = bed.table.find_neighbors(Node(b"\x10" * 20))
    assert (found.id, found.ip, found.port) == (X, "10.0.0.1", 29021)


def test_who_cannot_be_reached_is_no_neighbour() -> None:
    bed = Bed(v6=False)
    for number in range(30):
        bed.members.heard(bytes([number]) * 20, 1, Endpoint("fd00::1", 1 + number), None, 0.0)
    bed.members.heard(X, 1, Endpoint("10.0.0.1", 29021), None, 0.0)
    bed.members.heard(X, 1, Endpoint("fd00::9", 29021), None, 0.0)
    far = b"\xff" * 20
    bed.members.heard(far, 1, Endpoint("10.0.0.2", 29021), None, 0.0)
    assert [(one.id, one.ip) for one in bed.table.find_neighbors(Node(b"\x10" * 20))] == [
        (X, "10.0.0.1"),
        (far, "10.0.0.2"),
    ]
