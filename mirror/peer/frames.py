"""Bytes to frames of the state channel and back. Every bound is checked here; nothing is acted on. Pure.

A message is one version byte and a msgpack array of frames; a frame is an array that begins with its type. Byte by byte
in docs/wire/state-channel.md; its examples are run as tests.

Rules
1. Size first, then the counts of arrays and maps as their heads tell them; nothing is allocated for a promise. The
   decoder's own limit ends deep nests.
2. Types of a later release are passed over, so are elements that it appends.
3. The first message of each side is HELLO and nothing else. Its version byte is the newest version that the sender
   speaks, that of all later messages the one that both agreed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from mirror.errors import MirrorError

CHANNEL_VERSION: Final = 1
# Its own and the one before.
SPOKEN_VERSIONS: Final = (CHANNEL_VERSION,)

# One piece digest answer of 1,024 pieces is 38 KB; a bitfield of the largest blob 16 KiB.
MESSAGE_MAX_BYTES: Final = 64 * 1024
# A host in 256 swarms tells all of them in one message.
FRAMES_MAX_COUNT: Final = 512
# 1 TiB in pieces of 8 MiB: 131,072 pieces.
BLOB_MAX_BYTES: Final = 1 << 40
BITFIELD_MAX_BYTES: Final = 16 * 1024
# More gaps than that are told as a bitfield.
RANGES_MAX_COUNT: Final = 64
# More new pieces than that are told as a state.
HAVE_MAX_COUNT: Final = 64
PEERS_MAX_COUNT: Final = 16
DIGESTS_MAX_COUNT: Final = 1024
ZONE_MAX_CHARS: Final = 64

Byte = Annotated[int, Meta(ge=0, le=0xFF)]
U32 = Annotated[int, Meta(ge=0, le=0xFFFFFFFF)]
Port = Annotated[int, Meta(ge=1, le=0xFFFF)]
Id = Annotated[bytes, Meta(min_length=20, max_length=20)]
Size = Annotated[int, Meta(ge=0, le=BLOB_MAX_BYTES)]
Zone = Annotated[str, Meta(max_length=ZONE_MAX_CHARS)]
DigestText = Annotated[str, Meta(max_length=135)]
# A bitfield, or [first, stop] pairs in order.
Held = (
    Annotated[bytes, Meta(max_length=BITFIELD_MAX_BYTES)]
    | Annotated[list[tuple[U32, U32]], Meta(max_length=RANGES_MAX_COUNT)]
)
Pieces = Annotated[list[U32], Meta(max_length=HAVE_MAX_COUNT)]
PackedPeer = Annotated[bytes, Meta(min_length=6, max_length=18)]
PackedPeers = Annotated[list[PackedPeer], Meta(max_length=PEERS_MAX_COUNT)]
PieceDigest = Annotated[bytes, Meta(min_length=32, max_length=32)]
PieceDigestMap = Annotated[dict[U32, PieceDigest], Meta(max_length=DIGESTS_MAX_COUNT)]


class FrameInvalid(MirrorError):
    """The bytes are no message of the state channel: whoever sent them is not listened to any longer."""


class LeaveReason(IntEnum):
    """Why a stream was closed by who opened it."""

    DONE = 0
    GIVEN_UP = 1
    # What it held is another blob's, or gone: nothing that came from it is to be relied on.
    REPLACED = 2


class DeclineReason(IntEnum):
    """Why the other side does not listen to a stream."""

    ABSENT = 0
    FULL = 1


class Hello(Struct, array_like=True, frozen=True, tag=0):
    """`port`: where the sender's peer HTTP listens, at the address that it speaks from. `load`: percent of its upload
    slots in use."""

    node: Id
    port: Port
    load: Byte
    zone: Zone = ""


class Keep(Struct, array_like=True, frozen=True, tag=1):
    """From the lower node id: of the connections between these two, this one is used."""


class Open(Struct, array_like=True, frozen=True, tag=2):
    """The sender takes part in the swarm of `digest`; `stream` is its short name for that from here on. `size` 0: it
    does not know it, and `held` is empty. Again for an open stream: replaces what was told."""

    stream: U32
    digest: DigestText
    size: Size
    held: Held
    is_fed: bool


class State(Struct, array_like=True, frozen=True, tag=3):
    """Replaces what was told of the pieces. `is_fed`: what is new comes from the origin, not from peers."""

    stream: U32
    held: Held
    is_fed: bool


class Have(Struct, array_like=True, frozen=True, tag=4):
    stream: U32
    pieces: Pieces


class Load(Struct, array_like=True, frozen=True, tag=5):
    load: Byte


class Peers(Struct, array_like=True, frozen=True, tag=6):
    """Others in that swarm: address and port of their peer HTTP."""

    stream: U32
    peers: PackedPeers


class Close(Struct, array_like=True, frozen=True, tag=7):
    stream: U32
    reason: Byte


class Decline(Struct, array_like=True, frozen=True, tag=8):
    """`stream` is the receiver's: the sender does not listen to it."""

    stream: U32
    reason: Byte


class DigestsAsk(Struct, array_like=True, frozen=True, tag=9):
    """`stream` is the receiver's: the SHA-256 of its pieces from `first` to before `stop` are wanted."""

    stream: U32
    first: U32
    stop: U32


class Digests(Struct, array_like=True, frozen=True, tag=10):
    """Answers one DIGESTS_ASK. A piece that is left out is not held, or not told."""

    stream: U32
    first: U32
    stop: U32
    digests: PieceDigestMap


Frame = Keep | Open | State | Have | Load | Peers | Close | Decline | DigestsAsk | Digests

NAMES: Final[dict[int, type[Struct]]] = {
    0: Hello,
    1: Keep,
    2: Open,
    3: State,
    4: Have,
    5: Load,
    6: Peers,
    7: Close,
    8: Decline,
    9: DigestsAsk,
    10: Digests,
}


class _Head(Struct, array_like=True, frozen=True):
    type: Annotated[int, Meta(ge=0)]


_encode = msgspec.msgpack.Encoder().encode
_frames = msgspec.msgpack.Decoder(
    Annotated[list[msgspec.Raw], Meta(min_length=1, max_length=FRAMES_MAX_COUNT)]
)
_head = msgspec.msgpack.Decoder(_Head)
_hello = msgspec.msgpack.Decoder(Hello)
_kinds: Final[dict[int, msgspec.msgpack.Decoder[Frame]]] = {
    number: msgspec.msgpack.Decoder(kind) for number, kind in NAMES.items() if kind is not Hello
}
# msgspec recurses over elements that it skips.
_BAD: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)

_T = TypeVar("_T")


def negotiate(newest: int) -> int | None:
    """The version that both speak, where the other side's newest is `newest`; None: there is none."""
    version = min(newest, CHANNEL_VERSION)
    return version if version in SPOKEN_VERSIONS and newest - version <= 1 else None


def encode_hello(hello: Hello) -> bytes:
    return bytes((CHANNEL_VERSION,)) + _encode([hello])


def decode_hello(data: bytes) -> tuple[int, Hello]:
    """The newest version that the sender speaks, and its first message. Raises: FrameInvalid."""
    (first, *_) = _split(data)
    return data[0], _decode(_hello, first, "the first message is no HELLO")


def encode_frame(frame: Frame) -> bytes:
    return _encode(frame)


def join(version: int, frames: Sequence[bytes]) -> bytes:
    """One message of encoded frames, at most `FRAMES_MAX_COUNT` of them."""
    assert 0 < len(frames) <= FRAMES_MAX_COUNT, len(frames)
    return bytes((version,)) + _encode([msgspec.Raw(frame) for frame in frames])


def decode_message(data: bytes, version: int) -> tuple[list[Frame], int]:
    """The frames that this release knows, and how many there were in all. Raises: FrameInvalid."""
    raw_frames = _split(data)
    if data[0] != version:
        raise FrameInvalid(f"a message of version {data[0]} where {version} was agreed on")
    found = []
    for raw in raw_frames:
        kind = _decode(_head, raw, "a frame without a type").type
        decoder = _kinds.get(kind)
        if decoder is not None:
            found.append(_decode(decoder, raw, "a frame is malformed"))
    return found, len(raw_frames)


def _split(data: bytes) -> list[msgspec.Raw]:
    if not 2 <= len(data) <= MESSAGE_MAX_BYTES:
        raise FrameInvalid(f"a message of {len(data)} bytes")
    return _decode(_frames, memoryview(data)[1:], "a message is no array of frames")


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | memoryview | msgspec.Raw, reason: str) -> _T:
    try:
        return decoder.decode(data)
    except _BAD as exc:
        raise FrameInvalid(f"{reason}: {str(exc)[:120]}") from exc
