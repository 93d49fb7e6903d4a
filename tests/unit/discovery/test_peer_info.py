"""What a daemon says of itself comes back as it was, from this release and from later ones, and never hurts."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.params import Params
from mirror.discovery.base import ProviderState
from mirror.discovery.peer_info import INFO_MAX_BYTES, PeerInfo, decode, encode, state_number, state_of

PORTS = st.integers(1, 65535)


@given(PORTS, st.booleans())
def test_what_is_said_is_understood(port: int, is_seed: bool) -> None:
    data = encode(PeerInfo(port, is_seed))
    assert decode(data) == PeerInfo(port, is_seed)
    assert len(data) <= 6


def test_the_dht_carries_as_much() -> None:
    assert Params().info_max_bytes == INFO_MAX_BYTES


@given(PORTS, st.integers(0, 2**60), st.lists(st.integers() | st.text(max_size=4) | st.none(), max_size=4))
def test_a_later_release_is_understood_as_far_as_it_goes(port: int, flags: int, more: list[object]) -> None:
    try:
        data = msgspec.msgpack.encode([port, flags, *more])
    except OverflowError:
        return
    assert decode(data) == (PeerInfo(port, bool(flags & 1)) if len(data) <= INFO_MAX_BYTES else None)


def test_an_earlier_release_said_less() -> None:
    assert decode(msgspec.msgpack.encode([29021])) == PeerInfo(29021, is_seed=False)


@given(st.binary(max_size=2 * INFO_MAX_BYTES))
def test_any_bytes_are_taken(data: bytes) -> None:
    told = decode(data)
    assert told is None or 0 < told.http_port < 65536


@pytest.mark.parametrize(
    "value",
    [
        [],
        [0],
        [65536],
        [-1],
        ["29021"],
        [29021.5],
        [29021, -1],
        [29021, "x"],
        {"http_port": 29021},
        None,
        29021,
    ],
)
def test_nonsense_is_nothing(value: object) -> None:
    assert decode(msgspec.msgpack.encode(value)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x91" * INFO_MAX_BYTES,
        msgspec.msgpack.encode([29021]) + b"\x00",
        msgspec.msgpack.encode([29021, 0, "x" * 48]),
    ],
    ids=["empty", "nested", "trailing", "long"],
)
def test_bytes_that_are_no_info_are_nothing(data: bytes) -> None:
    assert decode(data) is None


def test_states() -> None:
    assert [state_number(state) for state in ProviderState] == [0, 1]
    for state in ProviderState:
        assert state_of(state_number(state)) is state
    assert state_of(7) is ProviderState.PARTIAL
