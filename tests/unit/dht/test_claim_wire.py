"""Rulings through the wire and back."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.claims.rulings import (
    Excluded,
    Full,
    Granted,
    Holding,
    Lost,
    NotJoined,
    Pending,
    Redirect,
    Refused,
    Released,
    Ruling,
    Running,
    Wait,
)
from dht.claims.waiters import PARTICIPANTS_COUNT
from dht.claims.wire import FOR_MAX_S, from_wire, to_wire
from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.errors import FrameInvalid
from dht.wire import codec
from dht.wire.codec import Fence, Outcome, Participant, WireContact, WireProvider

ROOM_BYTES = 1100
FENCE = Fence(b"\x0a" * 20, 2**62)
HERE = Endpoint("10.0.0.1", 29021)


def host(number: int, info: bytes = b"i") -> Contact:
    # The epoch of a participant is not told: 0 comes back.
    return Contact(bytes([number]) * 20, 0, (Endpoint(f"10.0.0.{number}", 29021),), info)


def all_of(_: bytes, told: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    return told


def through(ruling: Ruling, providers: list[WireProvider], room_bytes: int = ROOM_BYTES) -> codec.Ruling:
    encoded = msgspec.msgpack.encode(to_wire(ruling, providers, room_bytes))
    assert len(encoded) <= room_bytes
    return msgspec.msgpack.decode(encoded, type=codec.Ruling)


RUNNING = Running(FENCE, Holding(host(1), 7))
OTHERS = (Holding(host(2), 0), Holding(host(3), 2**40))


@pytest.mark.parametrize(
    "ruling",
    [
        Granted(FENCE, 10.0, OTHERS),
        Granted(FENCE, 0.25, ()),
        Wait(RUNNING, 1.0, OTHERS),
        Lost(RUNNING, 1.0, OTHERS),
        Pending(0.5, OTHERS),
        Excluded(300.0),
        Refused(10.0),
        Full(5.0),
        Redirect((host(4), host(5))),
        NotJoined(1.0),
        Released(),
    ],
    ids=lambda ruling: type(ruling).__name__,
)
def test_what_is_ruled_is_read(ruling: Ruling) -> None:
    provider = WireProvider(b"\x09" * 20, pack((HERE,)), 1, b"x")
    told = through(ruling, [provider])
    assert from_wire(told, all_of) == ruling
    assert told.providers == ([] if ruling == Released() else [provider])


def test_times_are_rounded_up_and_a_lie_is_cut() -> None:
    assert to_wire(Excluded(0.0001), [], ROOM_BYTES).for_ms == 1
    assert from_wire(codec.Ruling(Outcome.EXCLUDED, 2**32 - 1), all_of) == Excluded(FOR_MAX_S)


@pytest.mark.parametrize(
    "told",
    [
        codec.Ruling(Outcome.GRANTED, 1000),
        codec.Ruling(Outcome.LOST, 1000, FENCE),
        codec.Ruling(200, 1000),
        codec.Ruling(Outcome.WAIT, 0, FENCE, Participant(WireProvider(b"\x01" * 20, b"1234567", 0), 0)),
        codec.Ruling(Outcome.REDIRECT, 0, closer=[WireContact(b"\x01" * 20, 1, b"1234567")]),
    ],
    ids=[
        "grant without a fence",
        "lost to nobody",
        "later release",
        "bad endpoint",
        "bad endpoint of a closer",
    ],
)
def test_what_lacks_something_is_no_ruling(told: codec.Ruling) -> None:
    with pytest.raises(FrameInvalid):
        from_wire(told, all_of)


def test_whom_the_teller_may_not_name_is_left_out_and_a_holder_has_no_address() -> None:
    def only_host_2(node: bytes, told: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
        return told if node == host(2).node else ()

    read = from_wire(through(Wait(RUNNING, 1.0, OTHERS), []), only_host_2)
    assert isinstance(read, Wait)
    assert read.participants == (Holding(host(2), 0),)
    assert read.running == Running(FENCE, Holding(Contact(host(1).node, 0, (), b"i"), 7))
    assert from_wire(through(Redirect((host(2), host(3))), []), only_host_2) == Redirect((host(2),))


def test_what_is_better_known_takes_the_place_of_what_was_told() -> None:
    read = from_wire(through(Redirect((host(2),)), []), lambda _, __: (HERE,))
    assert read == Redirect((Contact(host(2).node, 0, (HERE,), b"i"),))


INFO = st.binary(max_size=48)
ENDPOINTS = st.sampled_from(
    [
        (HERE,),
        (Endpoint("fd00::1", 65535),),
        (Endpoint("10.200.200.200", 65535), Endpoint("fd00:1234:5678::1", 65535)),
    ]
)
CONTACTS = st.builds(Contact, st.binary(min_size=20, max_size=20), st.just(2**24 - 1), ENDPOINTS, INFO)
HOLDINGS = st.builds(Holding, CONTACTS, st.integers(0, 2**63 - 1))
PROVIDERS = st.builds(
    WireProvider,
    st.binary(min_size=20, max_size=20),
    ENDPOINTS.map(pack),
    st.integers(0, 255),
    INFO,
)
SEVERAL = st.lists(HOLDINGS, max_size=PARTICIPANTS_COUNT).map(tuple)
RULINGS = st.one_of(
    st.builds(Granted, st.just(FENCE), st.floats(0, 30), SEVERAL),
    st.builds(Wait, st.builds(Running, st.just(FENCE), HOLDINGS), st.just(1.0), SEVERAL),
    st.builds(Redirect, st.lists(CONTACTS, min_size=1, max_size=2).map(tuple)),
)


@given(ruling=RULINGS, providers=st.lists(PROVIDERS, max_size=16), room_bytes=st.integers(400, 1100))
def test_the_room_is_never_exceeded_and_the_holder_is_always_told(
    ruling: Ruling, providers: list[WireProvider], room_bytes: int
) -> None:
    told = through(ruling, providers, room_bytes)
    assert told.providers == providers[: len(told.providers)]
    if isinstance(ruling, Wait):
        assert told.holder is not None
    if isinstance(ruling, Redirect):
        assert len(told.closer) == len(ruling.closer)


def test_the_largest_of_everything_fits_any_room() -> None:
    endpoints = (Endpoint("10.200.200.200", 65535), Endpoint("fd00:1234:5678::1", 65535))
    largest = Holding(Contact(b"\xff" * 20, 2**24 - 1, endpoints, b"i" * 48), 2**63 - 1)
    providers = [WireProvider(b"\xff" * 20, pack(endpoints), 255, b"i" * 48)] * 16
    for room_bytes in range(300, 1200):
        through(Wait(Running(FENCE, largest), 600.0, (largest,) * PARTICIPANTS_COUNT), providers, room_bytes)


def test_participants_leave_half_of_the_room_to_providers() -> None:
    holdings = tuple(Holding(host(number, b"i" * 48), 2**60) for number in range(1, 9))
    providers = [WireProvider(bytes([number]) * 20, pack((HERE,)), 1, b"x" * 10) for number in range(16)]
    told = through(Granted(FENCE, 1.0, holdings), providers)
    assert 4 <= len(told.participants) < len(holdings)
    assert len(told.providers) >= 8
