"""Frames: what fits comes back the same, what does not is refused, and nothing else ever happens."""

from __future__ import annotations

import contextlib
import functools
import tracemalloc
import typing
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.errors import FrameInvalid
from dht.wire import codec
from dht.wire.codec import (
    AddProviders,
    Beacon,
    Challenge,
    Claim,
    Delta,
    Fence,
    FindNode,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Leave,
    Nodes,
    Page,
    Participant,
    Ping,
    Pong,
    RemoveProviders,
    Ruling,
    Sync,
    UnknownRpc,
    WireContact,
    WireProvider,
)

MESSAGE = b"m" * 20
KEY = b"k" * 20
V4 = pack((Endpoint("10.0.0.1", 29021),))
BOTH = pack((Endpoint("10.0.0.1", 29021), Endpoint("2001:db8::1", 29021)))
CONTACT = WireContact(KEY, 1, V4)
PROVIDER = WireProvider(KEY, V4, 1)

ids = st.binary(min_size=20, max_size=20)
infos = st.binary(max_size=48)
packed = st.sampled_from([V4, BOTH, pack((Endpoint("fd00::1", 1),))])
smalls = st.integers(0, 255)
u32s = st.integers(0, 2**32 - 1)
u63s = st.integers(0, 2**63 - 1)
contacts = st.builds(WireContact, ids, st.integers(0, 2**24 - 1), packed, infos)
providers = st.builds(WireProvider, ids, packed, smalls, infos)
fences = st.builds(Fence, ids, u63s)
participants = st.builds(Participant, providers, u63s)
keys = st.lists(ids, min_size=1, max_size=48).map(b"".join)
deltas = st.lists(st.builds(Delta, smalls, contacts), max_size=8)
requests = st.one_of(
    st.builds(Ping, infos),
    st.builds(FindNode, ids),
    st.builds(Join, infos),
    st.builds(GetMembers, ids, ids),
    st.builds(Sync, st.lists(st.integers(0, 15), max_size=8).map(bytes), st.binary(min_size=64, max_size=64)),
    st.builds(AddProviders, smalls, u32s, infos, keys),
    st.builds(RemoveProviders, keys),
    st.builds(GetProviders, ids, smalls),
    st.builds(Leave),
    st.builds(Claim, ids, smalls, smalls, u63s, st.none() | fences, st.lists(ids, max_size=8), smalls),
)
results = st.one_of(
    st.builds(Pong, infos, packed),
    st.builds(Nodes, st.lists(contacts, max_size=20)),
    st.builds(Page, st.lists(contacts, max_size=40), st.booleans(), u32s, infos),
    st.builds(codec.Differs, st.integers(0, 0xFFFF)),
    st.builds(codec.Added, smalls, st.binary(max_size=6)),
    st.builds(codec.Removed, smalls),
    st.builds(Found, st.lists(providers, max_size=64), st.lists(contacts, max_size=20), smalls),
    st.builds(
        Ruling,
        smalls,
        u32s,
        st.none() | fences,
        st.none() | participants,
        st.lists(participants, max_size=32),
        st.lists(providers, max_size=64),
        st.lists(contacts, max_size=20),
    ),
)
ASKED_BY = {result: request for request, result in codec.RESULTS.items()}
DECODERS: dict[str, Callable[[bytes], object]] = {
    "request": codec.decode_request,
    "challenge": codec.decode_challenge,
    "beacon": codec.decode_beacon,
    **{
        f"response to {codec.NAMES[asked]}": functools.partial(codec.decode_response, asked)
        for asked in codec.RESULTS
    },
}


def body_of(frame: bytes, frame_type: int) -> bytes:
    assert codec.split(frame)[:2] == (frame_type, MESSAGE)
    return codec.split(frame)[2]


@given(requests)
def test_a_request_reads_back(request: codec.Request) -> None:
    assert codec.decode_request(body_of(codec.encode_request(MESSAGE, request), 0)) == request


@given(results, deltas)
def test_a_response_reads_back(result: codec.Result, told: list[Delta]) -> None:
    body = body_of(codec.encode_response(MESSAGE, result, told), 1)
    assert codec.decode_response(ASKED_BY[type(result)], body) == (result, told)


@given(smalls, st.binary(max_size=8), st.integers(1, 65535))
def test_challenges_and_beacons_read_back(reason: int, token: bytes, port: int) -> None:
    challenge, beacon = Challenge(reason, token), Beacon(port)
    assert codec.decode_challenge(body_of(codec.encode_challenge(MESSAGE, challenge), 2)) == challenge
    assert codec.decode_beacon(body_of(codec.encode_beacon(MESSAGE, beacon), 3)) == beacon


def test_every_rpc_has_a_name_and_all_but_leave_an_answer() -> None:
    assert set(codec.NAMES) == set(typing.get_args(codec.Request))
    assert set(codec.RESULTS) == set(codec.NAMES) - {Leave}
    assert set(codec.RESULTS.values()) == set(typing.get_args(codec.Result))
    assert len(set(codec.NAMES.values())) == len(codec.NAMES)


@pytest.mark.parametrize(
    "request_",
    [
        Ping(b"i" * 49),
        FindNode(b"k" * 19),
        FindNode(b"k" * 21),
        Join(b"i" * 49),
        GetMembers(KEY, b""),
        Sync(bytes(9), bytes(64)),
        Sync(b"\x10", bytes(64)),
        Sync(b"", bytes(63)),
        AddProviders(1, 60, b"", b""),
        AddProviders(1, 60, b"", b"k" * 21),
        AddProviders(1, 60, b"", KEY * 49),
        AddProviders(256, 60, b"", KEY),
        AddProviders(1, 2**32, b"", KEY),
        AddProviders(1, -1, b"", KEY),
        AddProviders(1, 60, b"i" * 49, KEY),
        RemoveProviders(b""),
        RemoveProviders(b"k" * 39),
        GetProviders(b"", 1),
        GetProviders(KEY, 256),
        Claim(b"k", 0, 0),
        Claim(KEY, 0, 0, 2**63),
        Claim(KEY, 0, 0, 0, Fence(b"a", 0)),
        Claim(KEY, 0, 0, 0, None, [KEY] * 9),
        Claim(KEY, 0, 0, 0, None, [b"k"]),
    ],
)
def test_a_request_out_of_bounds(request_: codec.Request) -> None:
    with pytest.raises(FrameInvalid):
        codec.decode_request(codec.encode_request(MESSAGE, request_)[21:])


@pytest.mark.parametrize(
    "result",
    [
        Pong(b"", b"12345"),
        Pong(b"", b"1" * 25),
        Nodes([CONTACT] * 21),
        Nodes([WireContact(b"k", 1, V4)]),
        Nodes([WireContact(KEY, 2**24, V4)]),
        Nodes([WireContact(KEY, 1, V4, b"i" * 49)]),
        Page([CONTACT] * 41, False, 0),
        Page([], False, 2**32),
        codec.Differs(0x10000),
        codec.Added(1, bytes(7)),
        Found([PROVIDER] * 65, []),
        Found([], [CONTACT] * 21),
        Found([WireProvider(KEY, V4, 256)], []),
        Ruling(0, 0, None, None, [Participant(PROVIDER, 0)] * 33),
        Ruling(0, 0, None, Participant(PROVIDER, -1)),
    ],
)
def test_a_result_out_of_bounds(result: codec.Result) -> None:
    with pytest.raises(FrameInvalid):
        codec.decode_response(ASKED_BY[type(result)], codec.encode_response(MESSAGE, result, [])[21:])


def test_too_many_deltas() -> None:
    body = codec.encode_response(MESSAGE, Pong(b"", V4), [Delta(0, CONTACT)] * 9)[21:]
    with pytest.raises(FrameInvalid):
        codec.decode_response(Ping, body)


@given(deltas)
def test_the_longest_delta(told: list[Delta]) -> None:
    assert all(len(msgspec.msgpack.encode(one)) <= codec.DELTA_MAX_BYTES for one in told)
    longest = Delta(2, WireContact(KEY, 2**24 - 1, BOTH, b"i" * 48))
    assert len(msgspec.msgpack.encode(longest)) == codec.DELTA_MAX_BYTES


@pytest.mark.parametrize("body", [b"\x92\x00\xc4\x09123456789", b"\x91\xcd\x01\x00", b"\x90"])
def test_a_challenge_out_of_bounds(body: bytes) -> None:
    with pytest.raises(FrameInvalid):
        codec.decode_challenge(body)


@pytest.mark.parametrize("port", [0, 65536])
def test_a_beacon_out_of_bounds(port: int) -> None:
    with pytest.raises(FrameInvalid):
        codec.decode_beacon(codec.encode_beacon(MESSAGE, Beacon(port))[21:])


@given(ids, st.integers(0, 2**24 - 1), st.binary(min_size=6, max_size=24))
def test_endpoints_are_checked_when_they_are_read(node: bytes, epoch: int, endpoints: bytes) -> None:
    try:
        contact = WireContact(node, epoch, endpoints).contact()
    except FrameInvalid:
        return
    assert contact == Contact(node, epoch, contact.endpoints, b"")
    assert pack(contact.endpoints) == endpoints
    assert all(found.port for found in contact.endpoints)


# -- what another release sends ------------------------------------------------------------------------------------


@given(requests, st.lists(st.none() | st.integers() | st.binary() | st.just({"a": [1]}), max_size=4))
def test_elements_of_a_later_release_are_ignored(request: codec.Request, later: list[object]) -> None:
    """Behind the arguments, behind the name and arguments, and inside a nested struct."""
    pair = msgspec.msgpack.decode(codec.encode_request(MESSAGE, request)[21:])
    try:
        body = msgspec.msgpack.encode([pair[0], [*padded(request), *later], *later])
    except OverflowError:
        return
    assert codec.decode_request(body) == request


def padded(request: codec.Request) -> list[object]:
    return [getattr(request, name) for name in request.__struct_fields__]


def test_contacts_of_a_later_release() -> None:
    contact = [KEY, 1, V4, b"info", "later", {"more": 1}]
    body = msgspec.msgpack.encode([[[contact], "later"], [[0, contact, "later"]], "later"])
    found = WireContact(KEY, 1, V4, b"info")
    assert codec.decode_response(FindNode, body) == (Nodes([found]), [Delta(0, found)])


def test_elements_that_this_release_added_may_be_missing() -> None:
    body = msgspec.msgpack.encode([[[], []]])
    assert codec.decode_response(GetProviders, body) == (Found([], [], 0), [])
    assert codec.decode_request(msgspec.msgpack.encode(["claim", [KEY, 0, 4]])) == Claim(KEY, 0, 4)


@pytest.mark.parametrize("name", ["store", "find_value", "stun", "__init__", "", "Ping", "ping ", "x" * 24])
def test_an_unknown_name_is_no_error_of_form(name: str) -> None:
    with pytest.raises(UnknownRpc):
        codec.decode_request(msgspec.msgpack.encode([name, [b""]]))


def test_a_name_that_is_none() -> None:
    for name in ("x" * 25, b"ping", 1, None):
        with pytest.raises(FrameInvalid) as raised:
            codec.decode_request(msgspec.msgpack.encode([name, [b""]]))
        assert not isinstance(raised.value, UnknownRpc)


# -- what nobody sends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(22))
def test_a_short_frame(size: int) -> None:
    with pytest.raises(FrameInvalid):
        codec.split(bytes(size))


@pytest.mark.parametrize("name", DECODERS)
@given(st.binary(max_size=400))
def test_noise_is_refused_and_nothing_else(name: str, noise: bytes) -> None:
    with contextlib.suppress(FrameInvalid):
        DECODERS[name](noise)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "opening", [b"", b"\x92", b"\x92\xa4ping", b"\x92\xa4ping\x92\xc4\x00", b"\x93\xa4ping\x90"]
)
@pytest.mark.parametrize(
    "nest", [b"\x91", b"\x81\xc0", b"\xdd\0\0\0\1", b"\xdc\xff\xff", b"\xdf\0\0\0\1\xc0"]
)
def test_deep_nesting_ends_in_a_refusal(name: str, opening: bytes, nest: bytes) -> None:
    """As deep as a datagram can hold it."""
    body = (opening + nest * 1200)[:1144]
    with pytest.raises(FrameInvalid):
        DECODERS[name](body)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize(
    "opening", [b"", b"\x91", b"\x92\x91", b"\x92\xa4ping", b"\x92\x90", b"\x93\xa4ping\x91\xc4\0"]
)
@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
    ],
)
def test_a_size_that_lies_costs_no_memory(name: str, opening: bytes, bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(FrameInvalid):
            DECODERS[name](opening + bomb)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * 1024


@pytest.mark.parametrize(
    "body",
    [
        b"\x92\xa4ping\x91\xc4\x00\x00",
        b"\x92\xa4ping\x81\xa4info\xc4\x00",
        b"\x92\xa4ping\x91\xa4info",
        b"\x82\xa4ping\x91\xc4\x00",
        b"\x92\xa4\xff\xfe\xfd\xfc\x91\xc4\x00",
        b"\x92\xa5leave\xc0",
        b"\x92\xa9find_node\x90",
    ],
)
def test_what_is_almost_a_request(body: bytes) -> None:
    """Bytes behind the end, a map for an array, text for bytes, broken text, nothing at all."""
    with pytest.raises(FrameInvalid):
        codec.decode_request(body)


def test_keys_are_twenty_bytes_each() -> None:
    assert codec.keys_of(b"a" * 20 + b"b" * 20) == [b"a" * 20, b"b" * 20]
