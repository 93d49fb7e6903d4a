"""What a daemon says through the DHT: of itself in a few opaque bytes, and of what it holds in one number.

Rules
1. The bytes are a msgpack array. A later release appends elements; none is ever taken away or given another meaning.
   What a later release appended is skipped.
2. What a peer says is hearsay: bytes that mean nothing make it no provider, and are nobody's error.

Byte by byte in docs/wire/discovery.md; its examples are run as tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from mirror.discovery.base import ProviderState

# What the DHT carries for each node.
INFO_MAX_BYTES: Final = 48
SEED_FLAG: Final = 0x01

_STATE_NUMBERS: Final = {ProviderState.COMPLETE: 0, ProviderState.PARTIAL: 1}


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """`http_port`: where the peer's HTTP listens, at the address of its node."""

    http_port: int
    is_seed: bool = False


class _Info(Struct, array_like=True, frozen=True):
    http_port: Annotated[int, Meta(ge=1, le=65535)]
    # Bits of a later release are skipped.
    flags: Annotated[int, Meta(ge=0)] = 0


_decoder = msgspec.msgpack.Decoder(_Info)


def encode(info: PeerInfo) -> bytes:
    return msgspec.msgpack.encode(_Info(info.http_port, SEED_FLAG if info.is_seed else 0))


def decode(data: bytes) -> PeerInfo | None:
    """None: nothing that this release understands."""
    if len(data) > INFO_MAX_BYTES:
        return None
    try:
        told = _decoder.decode(data)
    except msgspec.DecodeError:
        return None
    return PeerInfo(told.http_port, bool(told.flags & SEED_FLAG))


def state_number(state: ProviderState) -> int:
    return _STATE_NUMBERS[state]


def state_of(number: int) -> ProviderState:
    """A state of a later release is less than complete to this one."""
    return ProviderState.COMPLETE if number == 0 else ProviderState.PARTIAL
