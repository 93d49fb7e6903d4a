"""Whatever a node knows, and whatever it is asked: the answer fits its datagram (`AnswersBed.ask` looks)."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.answers import size_bytes, wire_contact
from dht.contacts import EPOCH_MAX, Contact
from dht.endpoints import Endpoint
from dht.wire.codec import (
    AddProviders,
    Claim,
    Fence,
    FindNode,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Nodes,
    Page,
    Ping,
    RemoveProviders,
    Result,
    Ruling,
    Sync,
    Verb,
)
from tests.support.answers_bed import FRAME_MAX_BYTES, PARAMS, AnswersBed, as_sender
from tests.support.node_bed import OWN, Sender

LONGEST_FENCE = Fence(b"\xfe" * 20, (1 << 63) - 1)
LONGEST_PROGRESS = (1 << 63) - 1
# Nearly everybody is nearer to it than this node is.
FAR = bytes(byte ^ 0xFF for byte in OWN.node)

families = st.sampled_from(["4", "6", "46"])
info_sizes = st.sampled_from([0, 1, 31, 32, 48])


@given(
    members_count=st.integers(0, 150),
    providers_count=st.integers(0, 64),
    waiters_count=st.integers(0, 12),
    families_=families,
    own_families=st.sampled_from(["", "4", "46"]),
    info_bytes=info_sizes,
    own_info_bytes=info_sizes,
    want=st.integers(0, 255),
    seed=st.integers(0, 999),
)
def test_every_answer_fits(
    members_count: int,
    providers_count: int,
    waiters_count: int,
    families_: str,
    own_families: str,
    info_bytes: int,
    own_info_bytes: int,
    want: int,
    seed: int,
) -> None:
    shape = AnswersBed(seed=seed).stranger(info_bytes=own_info_bytes, families=own_families)
    at = AnswersBed(shape, seed=seed + 1)
    rng = at.rng
    members = at.fill(members_count, info_bytes=info_bytes, families=families_)
    # Of the first nobody is nearer than this node, of the other nearly all are.
    keys = [at.own.node, bytes(byte ^ 0xFF for byte in at.own.node), rng.randbytes(20)]
    for _ in range(providers_count):
        provider = at.stranger(info_bytes=info_bytes, families=families_)
        at.members.preload([provider] if rng.random() < 0.5 else [])
        at.ask(AddProviders(255, 1 << 31, provider.info, b"".join(keys)), as_sender(provider))
    asker = as_sender(rng.choice(members)) if members else Sender(b"\x01" * 20)
    for key in keys:
        at.ask(FindNode(key), asker)
        at.ask(GetProviders(key, want), asker)
        at.ask(GetMembers(min(key, keys[2]), b"\xff" * 20), asker)
    at.ask(Join(bytes(48)), asker)
    at.ask(Ping(bytes(48)), asker)
    at.ask(Sync(b"", bytes(64)), asker)
    at.ask(RemoveProviders(b"".join(rng.randbytes(20) for _ in range(48))), asker)
    for number in range(waiters_count):
        waiter = at.stranger(info_bytes=info_bytes, families=families_)
        at.members.preload([waiter])
        for key in keys:
            passed_over = [one.node for one in at.members.nearest(key, rng.randrange(9))]
            wanted = rng.choice([0, want])
            fence = rng.choice([None, LONGEST_FENCE])
            at.ask(
                Claim(key, Verb.ASK, wanted, LONGEST_PROGRESS - number, fence, passed_over),
                as_sender(waiter),
                number / 10,
            )
            at.ask(
                Claim(key, Verb.RENEW, wanted, LONGEST_PROGRESS - number, LONGEST_FENCE, passed_over),
                as_sender(waiter),
                number / 10,
            )


@given(
    st.binary(min_size=20, max_size=20),
    st.integers(0, EPOCH_MAX),
    st.sampled_from([(), ("10.0.0.1",), ("fd00::1",), ("10.0.0.1", "fd00::1")]),
    st.binary(max_size=48),
)
def test_nobody_is_longer_than_reckoned(
    node: bytes, epoch: int, addresses: tuple[str, ...], info: bytes
) -> None:
    one = Contact(node, epoch, tuple(Endpoint(address, 65535) for address in addresses), info)
    length = len(msgspec.msgpack.encode(wire_contact(one)))
    assert length <= size_bytes(one) <= length + 12


@pytest.mark.parametrize("info_bytes", [0, 31, 48])
@pytest.mark.parametrize("families_", ["4", "46"])
def test_every_room_is_enough(info_bytes: int, families_: str) -> None:
    """No answer is short by chance: there is always one that just fits."""
    at = AnswersBed(replace(OWN, info=bytes(48)))
    senders = []
    for _ in range(64):
        provider = at.stranger(info_bytes=info_bytes, families=families_)
        at.members.preload([provider])
        senders.append(as_sender(provider))
        at.ask(AddProviders(255, 3600, provider.info, OWN.node + FAR), senders[-1])
        at.ask(Claim(OWN.node, Verb.ASK, 0, LONGEST_PROGRESS, LONGEST_FENCE), senders[-1])
    for frame_max_bytes in range(400, FRAME_MAX_BYTES + 1):
        for key in (OWN.node, FAR):
            for request in (
                Join(b""),
                FindNode(key),
                GetProviders(key, 16),
                Claim(key, Verb.ASK, 16, LONGEST_PROGRESS),
            ):
                at.ask(request, senders[0], frame_max_bytes=frame_max_bytes)


# -- and it is not cut short for nothing --------------------------------------------------------------------------


def crowd(info_bytes: int) -> AnswersBed:
    at = AnswersBed(replace(OWN, info=bytes(48)))
    for _ in range(64):
        provider = at.stranger(info_bytes=info_bytes)
        at.members.preload([provider])
        at.ask(AddProviders(0, 3600, provider.info, OWN.node), as_sender(provider))
    at.fill(100, info_bytes=info_bytes)
    return at


def used(result: Result | None) -> float:
    assert result is not None
    return len(msgspec.msgpack.encode(result)) / FRAME_MAX_BYTES


@pytest.mark.parametrize("info_bytes", [0, 48])
def test_pages_and_nearest_nodes_use_the_room(info_bytes: int) -> None:
    at = crowd(info_bytes)
    answer = at.ask(Join(b""), Sender(b"\x01" * 20))
    assert isinstance(answer, Page)
    assert used(answer) > 0.65
    nodes = at.ask(FindNode(OWN.node), Sender(b"\x01" * 20))
    assert isinstance(nodes, Nodes)
    assert len(nodes.nodes) >= (17 if info_bytes == 0 else 9)


@pytest.mark.parametrize(("info_bytes", "least_count"), [(0, 14), (48, 8)])
def test_providers_use_the_room(info_bytes: int, least_count: int) -> None:
    found = crowd(info_bytes).ask(GetProviders(OWN.node, 16), Sender(b"\x01" * 20))
    assert isinstance(found, Found)
    assert len(found.providers) >= least_count


def test_a_waiter_is_told_of_others_and_of_providers() -> None:
    at = crowd(48)
    members = list(at.members)
    for contact in members[:20]:
        at.ask(Claim(OWN.node, Verb.ASK, 0), as_sender(contact))
    ruling = at.ask(Claim(OWN.node, Verb.ASK, 16), as_sender(members[-1]))
    assert isinstance(ruling, Ruling)
    assert ruling.holder is not None
    assert len(ruling.participants) >= 3
    assert len(ruling.providers) >= 3
    assert PARAMS.sample_count > len(ruling.providers), "or nothing had to be left out"
