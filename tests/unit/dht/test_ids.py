import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.ids import IdInvalid, NodeId, distance, key_of

ids = st.binary(min_size=20, max_size=20)


@given(ids)
def test_a_node_id_reads_back(value: bytes) -> None:
    assert NodeId.parse(str(NodeId(value))) == NodeId(value)


@pytest.mark.parametrize("text", ["", "0" * 39, "0" * 41, "A" * 40, "z" * 40])
def test_what_is_no_node_id_is_refused(text: str) -> None:
    with pytest.raises(IdInvalid):
        NodeId.parse(text)


def test_a_node_id_has_twenty_bytes() -> None:
    with pytest.raises(IdInvalid):
        NodeId(bytes(19))


def test_a_key_is_the_truncated_hash_of_its_string() -> None:
    assert key_of("sha256:ab") == hashlib.sha256(b"sha256:ab").digest()[:20]


@given(ids, ids, ids)
def test_distance_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
