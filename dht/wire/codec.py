"""Bytes to messages and back: the frame inside a datagram. Every bound is checked here; nothing is acted on.

A frame is what rpcudp puts into a datagram: one type byte, a 20-byte message id, msgpack. Requests hold
``[name, arguments]``, responses ``[result, deltas]``. All structs are msgpack arrays; elements that a later release
appends are ignored (docs/wire/dht.md).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from dht.contacts import Contact
from dht.endpoints import PACKED_MAX_BYTES, EndpointInvalid, unpack
from dht.errors import FrameInvalid

MESSAGE_ID_BYTES: Final = 20
FRAME_MIN_BYTES: Final = 1 + MESSAGE_ID_BYTES + 1
_ID: Final = 20

Id = Annotated[bytes, Meta(min_length=_ID, max_length=_ID)]
Info = Annotated[bytes, Meta(max_length=48)]
PackedEndpoints = Annotated[bytes, Meta(min_length=6, max_length=PACKED_MAX_BYTES)]
Keys = Annotated[bytes, Meta(min_length=_ID, max_length=48 * _ID)]
Hashes = Annotated[bytes, Meta(min_length=64, max_length=64)]
Nibbles = Annotated[bytes, Meta(max_length=8)]
Mask = Annotated[int, Meta(ge=0, le=0xFFFF)]
Small = Annotated[int, Meta(ge=0, le=255)]
U24 = Annotated[int, Meta(ge=0, le=0xFFFFFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
U63 = Annotated[int, Meta(ge=0, le=0x7FFFFFFFFFFFFFFF)]


class FrameType(IntEnum):
    REQUEST = 0
    RESPONSE = 1
    CHALLENGE = 2
    BEACON = 3


class WireContact(Struct, array_like=True, frozen=True):
    node: Id
    epoch: U24
    endpoints: PackedEndpoints
    info: Info = b""

    def contact(self) -> Contact:
        """Raises: FrameInvalid."""
        try:
            return Contact(self.node, self.epoch, unpack(self.endpoints), self.info)
        except EndpointInvalid as exc:
            raise FrameInvalid("bad endpoint") from exc


class WireProvider(Struct, array_like=True, frozen=True):
    node: Id
    endpoints: PackedEndpoints
    state: Small
    info: Info = b""


Contacts = Annotated[list[WireContact], Meta(max_length=40)]
Closer = Annotated[list[WireContact], Meta(max_length=20)]
Providers = Annotated[list[WireProvider], Meta(max_length=64)]


class DeltaKind(IntEnum):
    JOINED = 0
    LEFT = 1
    SILENT = 2


class Delta(Struct, array_like=True, frozen=True):
    """News of a member. SILENT is a suspicion: whoever hears it asks for himself."""

    kind: Small
    member: WireContact


Deltas = Annotated[list[Delta], Meta(max_length=8)]
# The longest delta: three array heads and numbers of 1 byte, id 22, epoch 5, endpoints 26, info 50.
DELTA_MAX_BYTES: Final = 106


# -- requests and their results ------------------------------------------------------------------------------------


class Ping(Struct, array_like=True, frozen=True):
    info: Info = b""


class Pong(Struct, array_like=True, frozen=True):
    """`seen` is where the request came from, packed."""

    info: Info
    seen: PackedEndpoints


class FindNode(Struct, array_like=True, frozen=True):
    target: Id


class Nodes(Struct, array_like=True, frozen=True):
    nodes: Closer


class Join(Struct, array_like=True, frozen=True):
    """Ping by a node that is new or back: the answer is the first page of `members` from the zero id on."""

    info: Info


class GetMembers(Struct, array_like=True, frozen=True):
    """Members with first <= id <= last, in id order."""

    first: Id
    last: Id


class Page(Struct, array_like=True, frozen=True):
    """`more`: the range goes on after the last contact. `count`: all members the answering node knows. `info` is the
    answering node's own."""

    contacts: Contacts
    more: bool
    count: U32
    info: Info = b""


class Sync(Struct, array_like=True, frozen=True):
    """16 big-endian hashes of 4 bytes, one a child of the range whose ids start with `prefix` (one nibble a byte)."""

    prefix: Nibbles
    hashes: Hashes


class Differs(Struct, array_like=True, frozen=True):
    """Bit n: child n differs."""

    mask: Mask


class AddProviders(Struct, array_like=True, frozen=True):
    """The sender provides these keys (20 bytes each, concatenated)."""

    state: Small
    ttl_s: U32
    info: Info
    keys: Keys


class Added(Struct, array_like=True, frozen=True):
    """Bit n of `saturated` (little-endian bytes): the n-th key has enough providers and was not stored."""

    stored: Small
    saturated: Annotated[bytes, Meta(max_length=6)] = b""


class RemoveProviders(Struct, array_like=True, frozen=True):
    keys: Keys


class Removed(Struct, array_like=True, frozen=True):
    count: Small


class GetProviders(Struct, array_like=True, frozen=True):
    key: Id
    want: Small


class Found(Struct, array_like=True, frozen=True):
    """`closer`: members nearer to the key than the answering node. `stored`: providers it knows in all."""

    providers: Providers
    closer: Closer
    stored: Small = 0


class Leave(Struct, array_like=True, frozen=True):
    """Not answered."""


class Fence(Struct, array_like=True, frozen=True, order=True):
    """Names one grant: a later grant of the same arbiter has a higher counter."""

    arbiter: Id
    counter: U63


class Verb(IntEnum):
    ASK = 0
    RENEW = 1
    RELEASE = 2


class AskReason(IntEnum):
    """`reason` of an ASK or a RENEW; one of a later release counts as NEEDED. HELD_LONG and SLOW_CLAIMANT ask for one
    claim more though one runs: since nothing came from whoever holds it, or too little does. QUEUED, of a RENEW: the
    holder is busy with other keys of his, and has still to begin this one or to come back to it."""

    NEEDED = 0
    HELD_LONG = 1
    SLOW_CLAIMANT = 2
    QUEUED = 3


class Claim(Struct, array_like=True, frozen=True):
    """`progress` counts up, in units of the caller's. `fence` is the running claim's for RENEW and RELEASE, also
    towards an arbiter that did not grant it. `passed_over`: nearer nodes that did not answer. `reason` of an ASK or a
    RENEW is an AskReason, that of a RELEASE the caller's."""

    key: Id
    verb: Small
    want: Small
    progress: U63 = 0
    fence: Fence | None = None
    passed_over: Annotated[list[Id], Meta(max_length=8)] = []
    reason: Small = 0


class Outcome(IntEnum):
    GRANTED = 0
    WAIT = 1
    REDIRECT = 2
    EXCLUDED = 3
    RELEASED = 4
    LOST = 5
    NOT_JOINED = 6
    FULL = 7
    REFUSED = 8


class Participant(Struct, array_like=True, frozen=True):
    provider: WireProvider
    progress: U63


class Ruling(Struct, array_like=True, frozen=True):
    """The answer to Claim. All times are on the arbiter's clock and relative: `for_ms` is how long the claim holds
    without progress (GRANTED), or when to ask again (every other outcome). `holder` is the claimant of a WAIT."""

    outcome: Small
    for_ms: U32
    fence: Fence | None = None
    holder: Participant | None = None
    participants: Annotated[list[Participant], Meta(max_length=32)] = []
    providers: Providers = []
    closer: Closer = []


class Challenge(Struct, array_like=True, frozen=True):
    """Why a request was not served: the clock (the envelope's time is ours) or a missing token (here it is)."""

    reason: Small
    token: Annotated[bytes, Meta(max_length=8)] = b""


class ChallengeReason(IntEnum):
    CLOCK = 0
    TOKEN = 1


class Beacon(Struct, array_like=True, frozen=True):
    """`port`: the UDP port that the sender's DHT listens on, at the address that the beacon came from."""

    port: Annotated[int, Meta(ge=1, le=65535)]


Request = (
    Ping | FindNode | Join | GetMembers | Sync | AddProviders | RemoveProviders | GetProviders | Leave | Claim
)
Result = Pong | Nodes | Page | Differs | Added | Removed | Found | Ruling

NAMES: Final[dict[type[Struct], str]] = {
    Ping: "ping",
    FindNode: "find_node",
    Join: "join",
    GetMembers: "members",
    Sync: "sync",
    AddProviders: "add_providers",
    RemoveProviders: "remove_providers",
    GetProviders: "get_providers",
    Leave: "leave",
    Claim: "claim",
}
RESULTS: Final[dict[type[Struct], type[Struct]]] = {
    Ping: Pong,
    FindNode: Nodes,
    Join: Page,
    GetMembers: Page,
    Sync: Differs,
    AddProviders: Added,
    RemoveProviders: Removed,
    GetProviders: Found,
    Claim: Ruling,
}


class _Call(Struct, array_like=True, frozen=True):
    name: Annotated[str, Meta(max_length=24)]
    arguments: msgspec.Raw


class _Answer(Struct, array_like=True, frozen=True):
    result: msgspec.Raw
    deltas: Deltas = []


_encode = msgspec.msgpack.Encoder().encode
_call = msgspec.msgpack.Decoder(_Call)
_answer = msgspec.msgpack.Decoder(_Answer)
_arguments = {name: msgspec.msgpack.Decoder(kind) for kind, name in NAMES.items()}
_results = {request: msgspec.msgpack.Decoder(kind) for request, kind in RESULTS.items()}
_challenge = msgspec.msgpack.Decoder(Challenge)
_beacon = msgspec.msgpack.Decoder(Beacon)
# msgspec recurses over elements that it skips.
_BAD: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

_S = TypeVar("_S", bound=Struct)


class UnknownRpc(FrameInvalid):
    """A well-formed request with a name of a later release, or of nobody."""


def split(frame: bytes) -> tuple[int, bytes, bytes]:
    """Type, message id, body. Raises: FrameInvalid."""
    if len(frame) < FRAME_MIN_BYTES:
        raise FrameInvalid("short frame")
    return frame[0], frame[1 : 1 + MESSAGE_ID_BYTES], frame[1 + MESSAGE_ID_BYTES :]


def encode_request(message_id: bytes, request: Request) -> bytes:
    return b"\x00" + message_id + _encode((NAMES[type(request)], request))


def encode_response(message_id: bytes, result: Result, deltas: list[Delta]) -> bytes:
    return b"\x01" + message_id + _encode((result, deltas))


def encode_challenge(message_id: bytes, challenge: Challenge) -> bytes:
    return b"\x02" + message_id + _encode(challenge)


def encode_beacon(message_id: bytes, beacon: Beacon) -> bytes:
    return b"\x03" + message_id + _encode(beacon)


def decode_request(body: bytes) -> Request:
    """Raises: UnknownRpc, FrameInvalid."""
    call = _decode(_call, body, "bad request")
    decoder = _arguments.get(call.name)
    if decoder is None:
        raise UnknownRpc("unknown rpc")
    request = _decode(decoder, call.arguments, "bad arguments")
    keys = getattr(request, "keys", b"")
    if len(keys) % _ID or (isinstance(request, Sync) and any(nibble > 15 for nibble in request.prefix)):
        raise FrameInvalid("bad arguments")
    return request  # type: ignore[return-value]


def decode_response(asked: type[Struct], body: bytes) -> tuple[Result, list[Delta]]:
    """`asked` is the type of the request it answers. Raises: FrameInvalid."""
    answer = _decode(_answer, body, "bad response")
    result = _decode(_results[asked], answer.result, "bad result")
    return result, answer.deltas  # type: ignore[return-value]


def decode_challenge(body: bytes) -> Challenge:
    """Raises: FrameInvalid."""
    return _decode(_challenge, body, "bad challenge")


def decode_beacon(body: bytes) -> Beacon:
    """Raises: FrameInvalid."""
    return _decode(_beacon, body, "bad beacon")


def keys_of(packed: bytes) -> list[bytes]:
    return [packed[start : start + _ID] for start in range(0, len(packed), _ID)]


def _decode(decoder: msgspec.msgpack.Decoder[_S], body: bytes | msgspec.Raw, reason: str) -> _S:
    try:
        return decoder.decode(body)
    except _BAD as exc:
        raise FrameInvalid(reason) from exc
