"""Which cluster a host joins: by what it is told, by what it has, and never by surprise."""

from __future__ import annotations

import pytest

from mirror.host.errors import HostError
from mirror.host.join_line import ADDRESSES_MAX_COUNT, Invitation
from mirror.host.membership import Asked, Kept, Membership, invitation, settle
from mirror.settings.model import Address, StaticBootstrap

AT_HOME = ("192.168.1.7", "fd00::7", "2a02::7")
ON_THE_NET = ("10.0.0.7", "8.8.4.4")
SECRET, OTHER = b"s" * 32, b"o" * 32
PEER = StaticBootstrap(Address("192.168.1.3", 29021))
OPEN_LINE = Invitation("home", (PEER,), None)
CLOSED_LINE = Invitation("home", (PEER,), SECRET)
BY_LINE = ("lan", "static:192.168.1.3:29021")


@pytest.mark.parametrize(
    ("asked", "kept", "expected"),
    [
        pytest.param(Asked(), Kept(), Membership(None, ("lan",), (), False), id="nothing: the LAN"),
        pytest.param(
            Asked(is_closed=True),
            Kept(),
            Membership(None, ("lan",), (), True, makes_secret=True),
            id="closed: a secret is made",
        ),
        pytest.param(
            Asked(is_closed=True),
            Kept((SECRET,), "home", ("192.168.1.3:29021",)),
            Membership("home", BY_LINE, ("192.168.1.3:29021",), True),
            id="closed again: the secret stays",
        ),
        pytest.param(
            Asked(),
            Kept((SECRET,)),
            Membership(None, ("lan",), (), True),
            id="again: what has a secret keeps it",
        ),
        pytest.param(
            Asked(invitation=OPEN_LINE),
            Kept(),
            Membership("home", BY_LINE, ("192.168.1.3:29021",), False),
            id="an open line",
        ),
        pytest.param(
            Asked(invitation=CLOSED_LINE),
            Kept(),
            Membership("home", BY_LINE, ("192.168.1.3:29021",), True, new_secret=SECRET),
            id="a line with a secret",
        ),
        pytest.param(
            Asked(invitation=CLOSED_LINE, is_closed=True),
            Kept((OTHER, SECRET), "home"),
            Membership("home", BY_LINE, ("192.168.1.3:29021",), True),
            id="a line with a secret that is kept already, as the one on its way out",
        ),
        pytest.param(
            Asked(bootstrap=("static:10.0.0.9:1",), cluster="lab", has_secret_file=True),
            Kept(),
            Membership("lab", ("static:10.0.0.9:1",), (), False),
            id="settings win",
        ),
    ],
)
def test_what_is_settled(asked: Asked, kept: Kept, expected: Membership) -> None:
    assert settle(asked, kept, AT_HOME) == expected


@pytest.mark.parametrize(
    ("asked", "kept", "said"),
    [
        (Asked(is_closed=True, is_open=True), Kept(), "contradict"),
        (Asked(is_open=True), Kept((SECRET,)), "has a secret: peili down"),
        (Asked(CLOSED_LINE, has_secret_file=True), Kept(), "names another"),
        (Asked(CLOSED_LINE, cluster="lab"), Kept(), "names the cluster 'home'"),
        (Asked(OPEN_LINE, is_closed=True), Kept(), "--closed wants a secret"),
        (Asked(CLOSED_LINE, is_open=True), Kept(), "--open wants none"),
        (Asked(CLOSED_LINE), Kept((OTHER,), "home"), "belongs to another cluster"),
        (Asked(OPEN_LINE), Kept((SECRET,), "home"), "belongs to another cluster"),
        (Asked(OPEN_LINE), Kept((), "lab"), "belongs to another cluster"),
        (Asked(), Kept((), "home", secret_file="/s"), "had the secret of /s"),
        (Asked(OPEN_LINE), Kept((), "home", secret_file="/s"), "had the secret of /s"),
    ],
)
def test_what_contradicts_itself_is_refused(asked: Asked, kept: Kept, said: str) -> None:
    with pytest.raises(HostError, match=said):
        settle(asked, kept, AT_HOME)


def test_a_host_on_the_net_joins_no_open_cluster_unless_told() -> None:
    for asked in (Asked(), Asked(OPEN_LINE)):
        with pytest.raises(HostError, match=r"public address 8\.8\.4\.4"):
            settle(asked, Kept(), ON_THE_NET)
    for asked in (
        Asked(is_open=True),
        Asked(is_closed=True),
        Asked(CLOSED_LINE),
        Asked(has_secret_file=True),
    ):
        settle(asked, Kept(), ON_THE_NET)
    settle(Asked(), Kept((SECRET,)), ON_THE_NET)


def test_what_had_a_secret_and_has_none_goes_on_as_it_is_told() -> None:
    kept = Kept((), "home", secret_file="/var/lib/peili/secret")
    assert settle(Asked(CLOSED_LINE), kept, AT_HOME).new_secret == SECRET
    assert settle(Asked(is_closed=True), kept, AT_HOME).makes_secret
    for asked in (Asked(is_open=True), Asked(has_secret_file=True)):
        assert not settle(asked, kept, AT_HOME).keeps_secret


def test_a_line_of_an_open_cluster_names_private_addresses_alone() -> None:
    addresses = (*AT_HOME, "8.8.4.4", "fe80::1%eth0", "169.254.1.1")

    def named(secrets: tuple[bytes, ...]) -> list[str]:
        return [str(peer.address) for peer in invitation("home", secrets, addresses, 29021).peers]

    assert named(()) == ["192.168.1.7:29021", "[fd00::7]:29021"]
    assert named((SECRET, OTHER)) == [*named(()), "[2a02::7]:29021", "8.8.4.4:29021"]
    assert invitation("home", (SECRET, OTHER), addresses, 29021).secret == SECRET
    many = [f"10.0.0.{number}" for number in range(1, 30)]
    assert len(invitation("home", (), many, 29021).peers) == ADDRESSES_MAX_COUNT


def test_no_secret_is_shown() -> None:
    for holder in (Kept((SECRET,)), settle(Asked(CLOSED_LINE), Kept(), AT_HOME), CLOSED_LINE):
        assert "ssss" not in repr(holder)
