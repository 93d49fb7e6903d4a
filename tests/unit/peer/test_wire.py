import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.ids import NodeId
from mirror.peer import wire
from mirror.secret import ClusterSecret, Subkey

NOW = 1_800_000_000
NODE = NodeId(bytes(range(20)))
OTHER_NODE = NodeId(bytes(20))
REQUEST = wire.Request("GET", "/peer/v1/blobs/sha256:" + "a" * 64, "bytes=5-")


def keys(*secrets: bytes, cluster: str = "lab") -> tuple[Subkey, ...]:
    return ClusterSecret(tuple(secret.ljust(32, b".") for secret in secrets)).subkeys("peerhttp", cluster)


OURS = keys(b"one")


def judge(
    authorization: str | None,
    request: wire.Request = REQUEST,
    accepted: tuple[Subkey, ...] = OURS,
    *,
    now: int = NOW,
    sender: str = "10.0.0.7",
) -> wire.Verdict:
    return wire.judge(authorization, request, accepted, node=NODE, now_unix_s=now, sender_address=sender)


def signed(
    request: wire.Request = REQUEST,
    key: Subkey | None = OURS[0],
    *,
    at: int = NOW,
    node: NodeId | None = NODE,
) -> str:
    return wire.sign(request, key, unix_s=at, node=node)


def test_a_request_of_the_cluster_is_accepted() -> None:
    assert judge(signed()) == wire.Accepted()


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(REQUEST, method="HEAD"),
        dataclasses.replace(REQUEST, target=REQUEST.target.replace("a", "b")),
        dataclasses.replace(REQUEST, target=REQUEST.target + "?x=1"),
        dataclasses.replace(REQUEST, range_header="bytes=6-"),
        dataclasses.replace(REQUEST, range_header=""),
    ],
)
def test_the_signature_covers_method_path_query_and_range(other: wire.Request) -> None:
    assert isinstance(judge(signed(), other), wire.Refused)


@pytest.mark.parametrize(
    "accepted", [keys(b"two"), keys(b"one", cluster="garage")], ids=["secret", "cluster"]
)
def test_another_secret_or_cluster_name_is_refused(accepted: tuple[Subkey, ...]) -> None:
    assert isinstance(judge(signed(), accepted=accepted), wire.Refused)


def test_both_lines_of_a_changing_secret_are_accepted() -> None:
    assert judge(signed(key=keys(b"old")[0]), accepted=keys(b"new", b"old")) == wire.Accepted()


@pytest.mark.parametrize(
    ("at", "node"), [(NOW - 121, NODE), (NOW + 121, NODE), (NOW, None), (NOW, OTHER_NODE)]
)
def test_a_wrong_clock_or_node_is_taught(at: int, node: NodeId | None) -> None:
    authorization = signed(at=at, node=node)
    verdict = judge(authorization)
    assert isinstance(verdict, wire.Challenged)
    assert wire.read_challenge(verdict.header, authorization, OURS) == wire.Learned(NODE, NOW)


@pytest.mark.parametrize("at", [NOW - 120, NOW + 120])
def test_two_minutes_of_difference_are_allowed(at: int) -> None:
    assert judge(signed(at=at)) == wire.Accepted()


def test_a_challenge_is_good_for_its_own_request_alone() -> None:
    verdict = judge(signed(node=None))
    assert isinstance(verdict, wire.Challenged)
    another = signed(dataclasses.replace(REQUEST, range_header=""), node=None)
    assert wire.read_challenge(verdict.header, another, OURS) is None


def test_a_challenge_cannot_be_forged_or_changed() -> None:
    authorization = signed(node=None)
    verdict = judge(authorization)
    assert isinstance(verdict, wire.Challenged)
    assert (
        wire.read_challenge(verdict.header.replace(f"t={NOW}", f"t={NOW + 900}"), authorization, OURS) is None
    )
    assert wire.read_challenge(verdict.header, authorization, keys(b"two")) is None
    assert wire.read_challenge(None, authorization, OURS) is None
    assert wire.read_challenge("v=1", authorization, OURS) is None


def test_an_unauthenticated_sender_learns_nothing() -> None:
    """No challenge without a right signature: it would hand out the clock and the node id."""
    assert isinstance(judge(signed(key=keys(b"two")[0], node=None)), wire.Refused)


@pytest.mark.parametrize("authorization", ["Peili v=2", "Peili v=2,k=00000000,q=1", "Peili v=999"])
def test_an_unknown_version_is_named(authorization: str) -> None:
    assert isinstance(judge(authorization), wire.VersionUnspoken)


@pytest.mark.parametrize(
    "sender",
    ["10.1.2.3", "192.168.1.9", "127.0.0.1", "169.254.3.4", "fe80::1%eth0", "fd12::1", "::ffff:10.0.0.1"],
)
def test_without_a_secret_private_senders_are_served(sender: str) -> None:
    assert judge(signed(key=None), accepted=(), sender=sender) == wire.Accepted()


@pytest.mark.parametrize("sender", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "", "nonsense"])
def test_without_a_secret_others_are_not(sender: str) -> None:
    assert isinstance(judge(signed(key=None), accepted=(), sender=sender), wire.Refused)


def test_with_a_secret_nobody_comes_without() -> None:
    assert isinstance(judge(signed(key=None)), wire.Refused)


def test_a_signed_request_is_refused_where_there_is_no_secret() -> None:
    assert isinstance(judge(signed(), accepted=()), wire.Refused)


@given(
    st.one_of(
        st.none(),
        st.text(max_size=80),
        st.text("Peilvktnm=,-0123456789abcdef ", max_size=200).map("Peili v=1,".__add__),
    )
)
def test_no_header_at_all_gets_in(authorization: str | None) -> None:
    assert not isinstance(judge(authorization), wire.Accepted)
