"""Bodies of frames that no release ever sent: malformed, out of bounds, and good ones spoilt."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

import msgspec

from dht.endpoints import Endpoint, pack
from dht.wire.codec import (
    NAMES,
    Added,
    AddProviders,
    Claim,
    Delta,
    Differs,
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
    Removed,
    RemoveProviders,
    Request,
    Result,
    Ruling,
    Sync,
    WireContact,
    WireProvider,
    encode_request,
    encode_response,
)

ID: Final = b"i" * 20
_AT: Final = pack((Endpoint("127.0.0.1", 9),))
_CONTACT: Final = WireContact(ID, 3, _AT, b"info")
_PROVIDER: Final = WireProvider(ID, _AT, 1, b"info")
_FENCE: Final = Fence(ID, 7)

# Without those that end or undo something.
REQUESTS: Final[tuple[Request, ...]] = (
    Ping(b"info"),
    FindNode(ID),
    Join(b"info"),
    GetMembers(bytes(20), b"\xff" * 20),
    Sync(b"\x01\x0f", bytes(64)),
    AddProviders(1, 3600, b"info", ID + b"j" * 20),
    RemoveProviders(ID),
    GetProviders(ID, 16),
    Claim(ID, 1, 16, 5, _FENCE, [b"p" * 20], 0),
    Leave(),
)
RESULTS: Final[tuple[Result, ...]] = (
    Pong(b"info", _AT),
    Nodes([_CONTACT]),
    Page([_CONTACT], True, 9, b"info"),
    Differs(0xFFFF),
    Added(1, b"\x01"),
    Removed(1),
    Found([_PROVIDER], [_CONTACT], 1),
    Ruling(1, 100, _FENCE, Participant(_PROVIDER, 3), [Participant(_PROVIDER, 3)], [_PROVIDER], [_CONTACT]),
)
_DELTAS: Final = [Delta(0, _CONTACT), Delta(2, WireContact(ID, 3, _AT))]

_packed = msgspec.msgpack.encode
_HUGE: Final = (2**64 - 1, -(2**63), 2**24, 2**32, 1.5, float("nan"))
_ODD: Final[tuple[object, ...]] = (
    None,
    True,
    "text",
    {},
    {"a": 1},
    [],
    [[]],
    b"",
    bytes(19),
    bytes(40),
    *_HUGE,
)
# Heads that promise more than there is, extension types, text that is none.
_HEADS: Final = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xd4\x01\x00",
    b"\xd6\xff\x00\x00\x00\x00",
    b"\xa2\xff\xfe",
    b"\xc1",
)


def nonsense() -> Iterator[bytes]:
    yield from _HEADS
    for nest in (b"\x91", b"\x81\xa0", b"\x92\xa4ping"):
        yield nest * (1000 // len(nest))
    for name in (*NAMES.values(), "store", "", "n" * 25, "\0", "pïng"):
        start = b"\x92" + _packed(name)
        yield start[:-1]
        yield start
        for head in _HEADS:
            yield start + head
            yield start + b"\x97" + head
        yield start + b"\x91" * 900
        yield start + b"\x97" + b"\x91" * 900
        for count in range(9):
            yield _packed([name, [0] * count])
            yield _packed([name, [ID] * count, ID])
        for odd in _ODD:
            yield _packed([name, odd])
            yield _packed([odd, name])
            yield from (_packed([name, [*[ID] * place, odd, odd, odd]]) for place in range(4))


def spoilt_requests(rng: random.Random, times: int = 2) -> Iterator[bytes]:
    for request in REQUESTS:
        yield from _spoilt(encode_request(ID, request)[21:], rng, times)


def spoilt_results(rng: random.Random, times: int = 2) -> Iterator[bytes]:
    for result in RESULTS:
        yield from _spoilt(encode_response(ID, result, _DELTAS)[21:], rng, times)


def _spoilt(body: bytes, rng: random.Random, times: int) -> Iterator[bytes]:
    for size in range(1, len(body)):
        yield body[:size]
    for place in range(len(body)):
        for _ in range(times):
            changed = bytearray(body)
            changed[place] = rng.randrange(256)
            yield bytes(changed)
    yield body + b"\xc0"
