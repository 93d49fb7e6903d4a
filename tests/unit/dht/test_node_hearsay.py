"""What a node believes of what others say, and what it does about the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dht.endpoints import Endpoint
from dht.members.members import HEARD_LATELY_S
from dht.params import Params
from dht.wire.codec import Delta, DeltaKind, WireContact
from tests.support.node_bed import (
    HERE,
    HERE_V6,
    KEY,
    OWN,
    TELLER,
    THERE,
    NodeBed,
    X,
    Y,
    Z,
    contact,
    joined,
    wire,
)

PARAMS = Params()


@pytest.fixture
def at() -> NodeBed:
    return NodeBed()


# -- told ---------------------------------------------------------------------------------------------------------


def test_who_is_told_of_is_a_member_and_passed_on(at: NodeBed) -> None:
    at.node.told([joined(X, 3, HERE, HERE_V6)], TELLER, 0.0)
    assert at.node.members.get(X) == contact(X, 3, HERE, HERE_V6)
    assert at.news() == [(DeltaKind.JOINED, X)]
    at.node.told([joined(X, 3, HERE, HERE_V6)], TELLER, 1.0)
    assert at.news() == []


@pytest.mark.parametrize("are_news", [True, False])
def test_a_page_is_passed_on_where_it_is_news(at: NodeBed, are_news: bool) -> None:
    at.node.announcements.provide([KEY], 0, 0.0)
    at.announced(5.0)
    at.node.introduced([wire(X), wire(Y, 1, THERE)], TELLER, 5.0, are_news=are_news)
    assert list(at.node.members) == [contact(X), contact(Y, 1, THERE)]
    assert at.news() == ([(DeltaKind.JOINED, X), (DeltaKind.JOINED, Y)] if are_news else [])
    assert at.announced(5.0 + PARAMS.rejoin_jitter_s + 1) == {X, Y}


@pytest.mark.parametrize("kind", [DeltaKind.LEFT, DeltaKind.SILENT, 9])
def test_who_is_said_to_be_gone_is_asked(at: NodeBed, kind: int) -> None:
    at.node.heard(X, 2, HERE, b"", 0.0)
    at.news()
    at.node.told([Delta(kind, wire(X, 2)), Delta(kind, wire(Y, 1))], TELLER, 1.0)
    assert at.node.take_suspects(9) == [contact(X, 2)]
    assert X in at.node.members
    assert at.news() == [], "nobody is told before we know"


def test_that_an_earlier_life_is_gone_says_nothing(at: NodeBed) -> None:
    at.node.heard(X, 2, HERE, b"", 0.0)
    at.node.told([Delta(DeltaKind.SILENT, wire(X, 1))], TELLER, 1.0)
    assert at.node.take_suspects(9) == []


def test_who_is_told_of_though_we_found_it_dead_is_asked(at: NodeBed) -> None:
    at.node.heard(X, 1, HERE, None, 0.0)
    at.fall_silent(X, 1.0)
    at.node.told([joined(X, 1, THERE), joined(OWN.node, 9)], TELLER, 3.0)
    assert X not in at.node.members
    assert at.node.take_suspects(9) == [contact(X, 1, THERE)], "we ourselves are no suspect"


def test_who_another_does_not_know_is_asked(at: NodeBed) -> None:
    at.node.introduced([wire(X), wire(Y, 1, THERE), wire(Z, 1, THERE)], TELLER, 0.0, are_news=True)
    at.node.heard(Y, 1, THERE, None, 5.0)
    first, last = X, b"\x32" + b"\xff" * 19
    at.node.unlisted(first, last, {X, OWN.node}, 6.0)
    assert at.node.take_suspects(9) == [], "the other knows X, we heard Y, and Z is out of the range"
    at.node.unlisted(first, last, set(), 5.0 + HEARD_LATELY_S)
    assert at.node.take_suspects(9) == [contact(X)]
    at.node.unlisted(bytes(20), b"\xff" * 20, set(), 5.1 + HEARD_LATELY_S)
    assert {one.node for one in at.node.take_suspects(9)} == {X, Y, Z}, "not we ourselves"
    assert len(at.node.members) == 3, "nobody is taken for dead unasked"


def test_a_full_table_has_no_suspects_that_are_no_members() -> None:
    at = NodeBed(params=replace(PARAMS, members_max_count=1))
    at.node.heard(X, 1, HERE, None, 0.0)
    at.node.introduced([wire(Y, 1, THERE)], TELLER, 1.0, are_news=True)
    assert at.node.take_suspects(9) == []
    assert at.news() == [(DeltaKind.JOINED, X)]


# -- whose word is believed ---------------------------------------------------------------------------------------

NOWHERE = ["0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"]
LINK = ["169.254.1.1", "fe80::1"]
LOOPBACK = ["127.0.0.1", "::1"]
NEAR = ["10.1.1.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "fd00::9"]
PUBLIC = ["8.8.8.8", "2a00::1"]


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("teller", ["10.0.0.50", "fd00::50", "127.0.0.1", "::1", "169.254.0.9"])
@pytest.mark.parametrize("address", NOWHERE + LINK + LOOPBACK + NEAR + PUBLIC)
def test_which_hearsay_is_believed(address: str, teller: str, is_sealed: bool) -> None:
    at = NodeBed(is_sealed=is_sealed)
    told = wire(X, 1, Endpoint(address, 29021))
    at.node.told([Delta(DeltaKind.JOINED, told)], Endpoint(teller, 29021), 0.0)
    at.node.introduced([told], Endpoint(teller, 29021), 0.0, are_news=True)
    expected = (
        address in NEAR or (address in LOOPBACK and teller in LOOPBACK) or (address in PUBLIC and is_sealed)
    )
    assert (X in at.node.members) == expected
    assert at.node.suspects == {}


def test_without_a_port_nobody_is_anywhere(at: NodeBed) -> None:
    at.node.told([Delta(DeltaKind.JOINED, WireContact(X, 1, b"\x0a\0\0\1\0\0"))], TELLER, 0.0)
    assert X not in at.node.members
    assert at.stats.drops["bad endpoint"] == 1


def test_what_is_no_address_is_counted_and_the_rest_is_believed(at: NodeBed) -> None:
    at.node.introduced([WireContact(X, 1, bytes(7)), wire(Y)], TELLER, 0.0, are_news=True)
    assert list(at.node.members) == [contact(Y)]
    assert at.stats.drops["bad endpoint"] == 1


def test_of_two_addresses_the_believable_one_stays(at: NodeBed) -> None:
    at.node.told([joined(X, 1, Endpoint("127.0.0.1", 29021), HERE_V6)], TELLER, 0.0)
    assert at.node.members.get(X) == contact(X, 1, HERE_V6)


@pytest.mark.parametrize(("address", "may"), [("8.8.8.8", False), ("10.0.0.1", True), ("127.0.0.1", True)])
def test_without_a_secret_nothing_far_away_is_used(address: str, may: bool) -> None:
    assert NodeBed(is_sealed=False).node.may_use(Endpoint(address, 1)) == may
    assert NodeBed().node.may_use(Endpoint(address, 1))
