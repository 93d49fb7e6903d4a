"""Against sorting everything by distance."""

from __future__ import annotations

import random
from bisect import bisect_left
from typing import SupportsIndex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.ids import distance
from dht.members.nearest import ID_BITS, nearest, subtree

any_id = st.binary(min_size=20, max_size=20)
# Ids that share long prefixes, as nobody draws them by chance.
clumped_id = st.builds(
    lambda head, filling, tail: (head + bytes([filling]) * 20)[: 20 - len(tail)] + tail,
    st.binary(max_size=2),
    st.sampled_from([0x00, 0xFF]),
    st.binary(max_size=2),
)
an_id = any_id | clumped_id


def slowly(ids: list[bytes], key: bytes, count: int) -> list[bytes]:
    return sorted(ids, key=lambda one: distance(one, key))[:count]


@given(st.sets(an_id, max_size=150), an_id, st.integers(0, 25))
def test_it_is_the_head_of_the_sorted_list(known: set[bytes], key: bytes, count: int) -> None:
    ids = sorted(known)
    found = nearest(ids, key, count)
    assert [ids[index] for _, index in found] == slowly(ids, key, count)
    assert all(away == distance(ids[index], key) for away, index in found)


@pytest.mark.parametrize("count", [1, 3, 8, 20])
@pytest.mark.parametrize("members", [7, 64, 1000])
def test_random_ids(members: int, count: int) -> None:
    rng = random.Random(members)
    ids = sorted(rng.randbytes(20) for _ in range(members))
    for _ in range(30):
        key = rng.randbytes(20)
        assert [ids[index] for _, index in nearest(ids, key, count)] == slowly(ids, key, count)


class ReadCounter(list[bytes]):
    reads_count = 0

    def __getitem__(self, index: SupportsIndex) -> bytes:  # type: ignore[override]
        self.reads_count += 1
        return super().__getitem__(index)


@pytest.mark.parametrize("key", [bytes(20), b"\xff" * 20, b"\x01" + bytes(19), b"\x00" * 19 + b"\x07"])
def test_ids_that_somebody_chose_next_to_each_other(key: bytes) -> None:
    ids = ReadCounter(number.to_bytes(20, "big") for number in range(5000))
    found = nearest(ids, key, 8)
    assert ids.reads_count < 300, "many ids near a key must not make a lookup look at them all"
    assert [ids[index] for _, index in found] == slowly(ids, key, 8)


@given(st.sets(an_id, max_size=60), an_id, st.integers(0, ID_BITS))
def test_a_subtree_is_what_shares_the_prefix(known: set[bytes], key: bytes, free: int) -> None:
    ids = sorted(known)
    number = int.from_bytes(key, "big")
    low, high = subtree(ids, number, free)
    inside = [one for one in ids if int.from_bytes(one, "big") >> free == number >> free]
    assert ids[low:high] == inside
    if inside:
        assert low == bisect_left(ids, inside[0])
