"""Two nodes find the ranges in which they know different members, without naming one."""

from __future__ import annotations

import random
from hashlib import blake2s
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.errors import FrameInvalid
from dht.members.hashes import MemberHashes, range_of
from dht.members.members import Members
from dht.params import Params

HERE = Endpoint("10.0.0.1", 29021)
FIRST, LAST = bytes(20), b"\xff" * 20
ids = st.binary(min_size=20, max_size=20)
prefixes = st.binary(max_size=8).map(lambda value: bytes(byte & 15 for byte in value))


def contact(node: bytes, epoch: int = 1) -> Contact:
    return Contact(node, epoch, (HERE,), b"")


def table(own: bytes, *contacts: Contact) -> Members:
    members = Members(contact(own), Params())
    members.preload(contacts)
    return members


def written_out(members: Members, prefix: bytes) -> bytes:
    """The document's words, run."""
    hashed = b""
    for child in range(16):
        name = prefix + bytes([child])
        if len(name) == 1:
            covered = written_out(members, name)
        else:
            everybody, _ = members.page(FIRST, LAST, 10**6)
            inside = [one for one in everybody if one.node.hex().startswith(name.hex()[1::2])]
            covered = b"".join(one.node + one.epoch.to_bytes(3, "big") for one in inside)
        hashed += blake2s(covered, digest_size=4).digest()
    return hashed


@pytest.mark.parametrize("prefix", [b"", b"\x00", b"\x0f", b"\x03\x0a", b"\x00\x00\x00"])
def test_the_hashes_are_what_the_module_says(prefix: bytes) -> None:
    rng = random.Random(1)
    members = table(rng.randbytes(20), *(contact(rng.randbytes(20), rng.randrange(99)) for _ in range(300)))
    members.heard(bytes(20), 7, HERE, None, 0.0)
    assert MemberHashes(members).hashes(prefix) == written_out(members, prefix)


def test_nodes_that_know_the_same_agree_whoever_they_are() -> None:
    rng = random.Random(2)
    nodes = [rng.randbytes(20) for _ in range(50)]
    tables = [MemberHashes(table(own, *(contact(node) for node in nodes if node != own))) for own in nodes]
    assert len({hashes.hashes(b"") for hashes in tables}) == 1


@given(
    common=st.sets(ids, max_size=30),
    ours=st.sets(ids, max_size=3),
    theirs=st.sets(ids, max_size=3),
    restarted=st.sets(ids, max_size=3),
)
def test_the_mask_is_where_the_members_differ(
    common: set[bytes], ours: set[bytes], theirs: set[bytes], restarted: set[bytes]
) -> None:
    own = b"\x77" * 20
    known_here = dict.fromkeys(common | ours | restarted, 1) | {own: 1}
    known_there = dict.fromkeys(common | theirs | {own}, 1) | dict.fromkeys(restarted - {own}, 2)
    here = MemberHashes(table(own, *(contact(*one) for one in known_here.items())))
    there = MemberHashes(table(own, *(contact(*one) for one in known_there.items())))
    differing = {node for node in known_here | known_there if known_here.get(node) != known_there.get(node)}
    for prefix in (b"", *(bytes([nibble]) for nibble in range(16)), b"\x00\x00", b"\x0f\x0f"):
        expected = {
            int(node.hex()[len(prefix)], 16)
            for node in differing
            if node.hex().startswith(prefix.hex()[1::2])
        }
        mask = here.differing(prefix, there.hashes(prefix))
        assert {child for child in range(16) if mask >> child & 1} == expected
        assert mask == there.differing(prefix, here.hashes(prefix))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["heard", "told", "left", "struck", "own"]), st.integers(0, 7), st.integers(1, 3)
        )
    )
)
@settings(deadline=None)
def test_what_is_remembered_is_never_stale(steps: list[tuple[str, int, int]]) -> None:
    nodes = [bytes([number % 4 * 0x40 + number]) + bytes(19) for number in range(8)]
    members = table(b"\x77" * 20)
    hashes = MemberHashes(members)
    now = 0.0
    for what, number, epoch in steps:
        now += 1.0
        node = nodes[number]
        if what == "heard":
            members.heard(node, epoch, HERE, None, now)
        elif what == "told":
            members.told(contact(node, epoch), now)
        elif what == "left":
            members.left(node, epoch, now)
        elif what == "struck":
            members.struck(node, now)
        else:
            members.own = contact(members.own.node, epoch)
        for prefix in (b"", bytes([node[0] >> 4])):
            assert hashes.hashes(prefix) == MemberHashes(members).hashes(prefix)


@given(prefixes, ids)
def test_the_children_divide_the_range(prefix: bytes, node: bytes) -> None:
    ranges = [range_of(prefix, child) for child in range(16)]
    for (_, last), (first, _) in pairwise(ranges):
        assert int.from_bytes(last, "big") + 1 == int.from_bytes(first, "big")
    inside = [child for child, (first, last) in enumerate(ranges) if first <= node <= last]
    if node.hex().startswith(prefix.hex()[1::2]):
        assert inside == [int(node.hex()[len(prefix)], 16)]
    else:
        assert inside == []


def test_the_whole_ring_is_covered() -> None:
    assert range_of(b"", 0)[0] == FIRST
    assert range_of(b"", 15)[1] == LAST


def test_a_child_is_counted_with_us() -> None:
    hashes = MemberHashes(table(b"\x77" * 20, contact(b"\x78" * 20), contact(b"\x87" * 20)))
    assert [hashes.count(b"", child) for child in (6, 7, 8)] == [0, 2, 1]
    assert [hashes.count(b"\x07", child) for child in (7, 8, 9)] == [1, 1, 0]


@pytest.mark.parametrize("prefix", [b"\x10", b"\x00\xff", bytes(40), bytes(99)])
def test_a_prefix_that_names_no_range(prefix: bytes) -> None:
    hashes = MemberHashes(table(b"\x77" * 20))
    with pytest.raises(FrameInvalid):
        hashes.hashes(prefix)
    with pytest.raises(FrameInvalid):
        hashes.differing(prefix, bytes(64))
    with pytest.raises(FrameInvalid):
        range_of(prefix, 0)


@pytest.mark.parametrize("theirs", [b"", bytes(63), bytes(65)])
def test_hashes_of_another_length(theirs: bytes) -> None:
    with pytest.raises(FrameInvalid):
        MemberHashes(table(b"\x77" * 20)).differing(b"", theirs)


def test_two_tables_are_reconciled_range_by_range() -> None:
    """As a round of anti-entropy goes: compare, descend where too many are left, fetch the rest."""
    rng = random.Random(4)
    nodes = [rng.randbytes(20) for _ in range(2000)]
    here, there = table(nodes[0], *map(contact, nodes[1:1990])), table(nodes[1], *map(contact, nodes[10:]))
    ours, theirs = MemberHashes(here), MemberHashes(there)
    todo, fetched_count, compared_count = [b""], 0, 0
    while todo:
        prefix = todo.pop()
        compared_count += 1
        mask = ours.differing(prefix, theirs.hashes(prefix))
        for child in range(16):
            if not mask >> child & 1:
                continue
            if theirs.count(prefix, child) > 24:
                todo.append(prefix + bytes([child]))
                continue
            page, more = there.page(*range_of(prefix, child), 40)
            assert not more
            fetched_count += len(page)
            for one in page:
                here.told(one, 0.0)
    assert {one.node for one in here} | {nodes[0]} == set(nodes)
    assert compared_count <= 17
    assert fetched_count < 300
