"""Who is where: one at an endpoint, so many at an address, against a plain list of who moved in."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dht.endpoints import Endpoint
from dht.members.tenants import Tenants
from tests.support.examples import examples

HERE = Endpoint("10.0.0.1", 1)
NEXT_DOOR = Endpoint("10.0.0.1", 2)
THERE = Endpoint("10.0.0.2", 1)
HERE_V6 = Endpoint("fd00::1", 1)
X, Y, Z = b"x" * 20, b"y" * 20, b"z" * 20


def test_nobody_is_anywhere_at_first() -> None:
    tenants = Tenants(1)
    assert tenants.at(HERE) is None
    assert len(tenants) == 0
    assert tenants.has_room(X, HERE)


def test_one_is_over_both_families() -> None:
    tenants = Tenants(None)
    tenants.move_in(X, HERE)
    tenants.move_in(X, HERE_V6)
    assert (tenants.at(HERE), tenants.at(HERE_V6), tenants.at(NEXT_DOOR)) == (X, X, None)
    tenants.move_out(X, (HERE, HERE_V6))
    assert (tenants.at(HERE), tenants.at(HERE_V6)) == (None, None)
    assert len(tenants) == 0


@pytest.mark.parametrize(
    "homes",
    [
        pytest.param((), id="nowhere"),
        pytest.param((THERE,), id="where-another-is"),
        pytest.param((NEXT_DOOR,), id="where-nobody-is"),
    ],
)
def test_nobody_moves_out_from_where_he_is_not(homes: tuple[Endpoint, ...]) -> None:
    tenants = Tenants(1)
    tenants.move_in(X, HERE)
    tenants.move_in(Y, THERE)
    tenants.move_out(X, homes)
    assert (tenants.at(HERE), tenants.at(THERE)) == (X, Y)
    assert not tenants.has_room(Z, NEXT_DOOR)


@pytest.mark.parametrize(
    ("node", "endpoint", "homes", "has_room"),
    [
        pytest.param(Z, Endpoint("10.0.0.1", 3), (), False, id="full"),
        pytest.param(Z, Endpoint("10.0.0.3", 1), (), True, id="another-address"),
        pytest.param(Z, THERE, (), True, id="in-anothers-place"),
        pytest.param(X, Endpoint("10.0.0.1", 3), (HERE,), True, id="another-port-of-his-address"),
        pytest.param(X, Endpoint("10.0.0.1", 3), (HERE_V6,), False, id="only-over-the-other-family"),
        pytest.param(Z, Endpoint("10.0.0.1", 3), (HERE,), False, id="said-to-be-where-another-is"),
        pytest.param(X, Endpoint("10.0.0.2", 3), (HERE,), False, id="from-a-full-address-to-a-full-one"),
        pytest.param(Z, Endpoint("fd00::1", 3), (), False, id="full-over-the-other-family"),
    ],
)
def test_room(node: bytes, endpoint: Endpoint, homes: tuple[Endpoint, ...], has_room: bool) -> None:
    bounded, unbounded = Tenants(1), Tenants(None)
    for tenants in (bounded, unbounded):
        tenants.move_in(X, HERE)
        tenants.move_in(Y, THERE)
        tenants.move_in(X, HERE_V6)
    assert bounded.has_room(node, endpoint, homes) == has_room
    assert unbounded.has_room(node, endpoint, homes)


class Houses(RuleBasedStateMachine):
    """As the table uses it: who moves in has left his home of that family, and whoever was there is out."""

    bound = 2

    def __init__(self) -> None:
        super().__init__()
        self.tenants = Tenants(self.bound)
        self.unbounded = Tenants(None)
        # Plain: (node, endpoint) of everybody who is somewhere.
        self.model: set[tuple[bytes, Endpoint]] = set()

    nodes = st.sampled_from([X, Y, Z, b"w" * 20])
    endpoints = st.builds(
        Endpoint, st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]), st.integers(1, 3)
    )

    def homes(self, node: bytes) -> list[Endpoint]:
        return sorted(endpoint for one, endpoint in self.model if one == node)

    def there(self, endpoint: Endpoint) -> set[bytes]:
        return {node for node, home in self.model if home == endpoint}

    def at_address(self, address: str) -> list[bytes]:
        return [node for node, home in self.model if home.address == address]

    def moves_out(self, node: bytes, homes: list[Endpoint]) -> None:
        for one in (self.tenants, self.unbounded):
            one.move_out(node, homes)
        self.model -= {(node, home) for home in homes}

    @rule(node=nodes, endpoint=endpoints)
    def speaks(self, node: bytes, endpoint: Endpoint) -> None:
        homes = self.homes(node)
        has_room = (
            bool(self.there(endpoint))
            or node in self.at_address(endpoint.address)
            or len(self.at_address(endpoint.address)) < self.bound
        )
        assert self.tenants.has_room(node, endpoint, homes) == has_room
        assert self.unbounded.has_room(node, endpoint, homes)
        if not has_room or endpoint in homes:
            return
        self.moves_out(node, [home for home in homes if home.is_v6 == endpoint.is_v6])
        for before in self.there(endpoint):
            self.moves_out(before, self.homes(before))
        for one in (self.tenants, self.unbounded):
            one.move_in(node, endpoint)
        self.model.add((node, endpoint))

    @rule(node=nodes, endpoints=st.lists(endpoints, max_size=3))
    def is_said_to_leave(self, node: bytes, endpoints: list[Endpoint]) -> None:
        """Also where he never was, and where others are."""
        self.moves_out(node, endpoints)

    @rule(node=nodes)
    def is_gone(self, node: bytes) -> None:
        self.moves_out(node, self.homes(node))

    @invariant()
    def one_at_an_endpoint(self) -> None:
        for tenants in (self.tenants, self.unbounded):
            assert len(tenants) == len(self.model)
            for node, endpoint in self.model:
                assert tenants.at(endpoint) == node

    @invariant()
    def so_many_at_an_address(self) -> None:
        for address in ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"):
            count = len(self.at_address(address))
            assert count <= self.bound
            # An endpoint where nobody ever is shows the count.
            assert self.tenants.has_room(b"new", Endpoint(address, 9)) == (count < self.bound)


TestHouses = Houses.TestCase
TestHouses.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
