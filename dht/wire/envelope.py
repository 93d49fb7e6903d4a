"""Who sent a datagram, for whom, in which cluster: seals a frame and opens what came. Byte by byte: docs/wire/dht.md.

Looks at nothing that the MAC covers before the MAC was found right. Judges neither time nor replays (dht/wire/guard.py
does), and decodes no frame (dht/wire/codec.py does).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from msgspec import Struct

from dht.contacts import EPOCH_MAX, stamp
from dht.endpoints import Endpoint, EndpointInvalid, endpoint
from dht.errors import DHTError, SettingsInvalid
from dht.ids import ID_BYTES
from dht.params import Params

VERSION: Final = 1
ADDRESSED: Final = 0x01
ADVERTISED: Final = 0x02
KEY_ID_BYTES: Final = 4
# BLAKE2b takes no longer key.
KEY_MAX_BYTES: Final = 64
TAG_BYTES: Final = 16
TOKEN_BYTES: Final = 8
ADVERTISED_BYTES: Final = 18
# Version, flags, key id, time (48 bits), sender, stamp: what the tag covers of the envelope.
_HEAD: Final = struct.Struct(">BB4sHI20sQ")
HEAD_BYTES: Final = _HEAD.size
ENVELOPE_BYTES: Final = HEAD_BYTES + TAG_BYTES

# Leaves 255/256 of the 40 bits to count in.
FIRST_SEQUENCE_LIMIT: Final = 1 << 32

_NO_ID: Final = bytes(ID_BYTES)
_NO_TOKEN: Final = bytes(TOKEN_BYTES)
_PORT: Final = struct.Struct(">H")
_V4_IN_V6: Final = bytes(10) + b"\xff\xff"


class Dropped(DHTError):
    """The datagram is not for us, or not from us. `reason` is one of a few words, for a counter."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FrameTooLong(DHTError):
    """The caller put more into a frame than a datagram holds."""


@dataclass(frozen=True, slots=True)
class Key:
    """`key_id` has 4 bytes and travels in the clear; `key` has 1 to 64."""

    key_id: bytes
    key: bytes = field(repr=False)


class Opened(Struct, frozen=True, gc=False):
    """`stamp` is the epoch and the sequence in one number (dht/contacts.py). `addressed`: the sender meant this node
    and no other; without a secret it only says so. `advertised` is the sender's wish, yet to be believed. `token` is
    empty with a secret and where there is none."""

    sender: bytes
    stamp: int
    sent_ms: int
    addressed: bool
    advertised: Endpoint | None
    token: bytes
    frame: bytes


class Envelope:
    """One a node: it counts the sequence. `keys[0]` signs, every key is accepted, none means a cluster without a
    secret. `first_sequence` should be drawn at random below FIRST_SEQUENCE_LIMIT: it tells our own datagrams
    from those of another node with our id. Raises: SettingsInvalid."""

    def __init__(
        self,
        node: bytes,
        epoch: int,
        cluster: str,
        keys: Sequence[Key] = (),
        *,
        first_sequence: int = 0,
        datagram_max_bytes: int | None = None,
    ) -> None:
        if len(node) != ID_BYTES:
            raise SettingsInvalid(f"a node id has {ID_BYTES} bytes, not {len(node)}")
        if not 0 <= epoch <= EPOCH_MAX:
            raise SettingsInvalid(f"epoch {epoch} is not between 0 and {EPOCH_MAX}")
        if not 0 <= first_sequence < FIRST_SEQUENCE_LIMIT:
            raise SettingsInvalid(f"the first sequence {first_sequence} is not below 2**32")
        name = hashlib.blake2s(cluster.encode()).digest()
        self.node = node
        self.epoch = epoch
        self.sealed = bool(keys)
        self._keyed: dict[bytes, hashlib.blake2b] = {}
        for key in keys:
            if len(key.key_id) != KEY_ID_BYTES or not 0 < len(key.key) <= KEY_MAX_BYTES:
                raise SettingsInvalid(
                    f"a key has an id of {KEY_ID_BYTES} bytes and 1 to {KEY_MAX_BYTES} bytes itself"
                )
            if any(key.key_id == other.key_id and key.key != other.key for other in keys):
                raise SettingsInvalid(f"two keys have the id {key.key_id.hex()}: make one of them anew")
            self._keyed[key.key_id] = hashlib.blake2b(key=key.key, digest_size=TAG_BYTES, person=name[:16])
        self._signing_id = keys[0].key_id if keys else name[:KEY_ID_BYTES]
        self._first_stamp = stamp(epoch, first_sequence)
        self._next_stamp = self._first_stamp
        self._max_bytes = Params().datagram_max_bytes if datagram_max_bytes is None else datagram_max_bytes

    def has_sent(self, stamped: int) -> bool:
        """Whether this object, and no other bearer of our id, gave out that stamp (up to chance)."""
        return self._first_stamp <= stamped < self._next_stamp

    def seal(
        self,
        frame: bytes,
        *,
        destination: bytes | None,
        now_ms: int,
        token: bytes = b"",
        advertised: Endpoint | None = None,
    ) -> bytes:
        """`now_ms`: since 1970. `token` is sent without a secret only. Raises: FrameTooLong."""
        flags = 0 if destination is None else ADDRESSED
        body = frame
        if advertised is not None:
            flags |= ADVERTISED
            body = _packed(advertised) + frame
        if len(body) > self._max_bytes - ENVELOPE_BYTES:
            raise FrameTooLong(
                f"{len(body)} bytes behind an envelope of {ENVELOPE_BYTES} exceed {self._max_bytes}"
            )
        stamped = self._next_stamp
        self._next_stamp = stamped + 1
        head = _HEAD.pack(
            VERSION,
            flags,
            self._signing_id,
            now_ms >> 32 & 0xFFFF,
            now_ms & 0xFFFFFFFF,
            self.node,
            stamped,
        )
        if not self.sealed:
            return head + (token or _NO_TOKEN) + _NO_TOKEN + body
        mac = self._keyed[self._signing_id].copy()
        mac.update(head + (destination or _NO_ID) + body)
        return head + mac.digest() + body

    def open(self, datagram: bytes) -> Opened:
        """Raises: Dropped (short, long, version, flags, foreign, mac, tag, advertised)."""
        size = len(datagram)
        if size <= ENVELOPE_BYTES:
            raise Dropped("short")
        if size > self._max_bytes:
            raise Dropped("long")
        version, flags, key_id, time_high, time_low, sender, stamped = _HEAD.unpack_from(datagram)
        if version != VERSION:
            raise Dropped("version")
        if flags & ~(ADDRESSED | ADVERTISED):
            raise Dropped("flags")
        addressed = bool(flags & ADDRESSED)
        body = datagram[ENVELOPE_BYTES:]
        token = b""
        if self.sealed:
            keyed = self._keyed.get(key_id)
            if keyed is None:
                raise Dropped("foreign")
            mac = keyed.copy()
            mac.update(datagram[:HEAD_BYTES] + (self.node if addressed else _NO_ID) + body)
            if not hmac.compare_digest(mac.digest(), datagram[HEAD_BYTES:ENVELOPE_BYTES]):
                raise Dropped("mac")
        else:
            if key_id != self._signing_id:
                raise Dropped("foreign")
            token = datagram[HEAD_BYTES : HEAD_BYTES + TOKEN_BYTES]
            if datagram[HEAD_BYTES + TOKEN_BYTES : ENVELOPE_BYTES] != _NO_TOKEN:
                raise Dropped("tag")
            if token == _NO_TOKEN:
                token = b""
        advertised = None
        if flags & ADVERTISED:
            if len(body) <= ADVERTISED_BYTES:
                raise Dropped("short")
            advertised = _unpacked(body[:ADVERTISED_BYTES])
            body = body[ADVERTISED_BYTES:]
            if advertised is None:
                raise Dropped("advertised")
        return Opened(sender, stamped, time_high << 32 | time_low, addressed, advertised, token, body)


def said(datagram: bytes) -> tuple[bytes, int, int]:
    """The sender, its stamp, and when it was sent (ms since 1970). Only of a datagram that was opened."""
    _, _, _, time_high, time_low, sender, stamped = _HEAD.unpack_from(datagram)
    return sender, stamped, time_high << 32 | time_low


@lru_cache(maxsize=16)
def _packed(found: Endpoint) -> bytes:
    address = ipaddress.ip_address(found.address.partition("%")[0]).packed
    return (_V4_IN_V6 + address if len(address) == 4 else address) + _PORT.pack(found.port)


@lru_cache(maxsize=16_384)
def _unpacked(packed: bytes) -> Endpoint | None:
    """None for what is no endpoint."""
    try:
        return endpoint(str(ipaddress.IPv6Address(packed[:16])), _PORT.unpack_from(packed, 16)[0])
    except EndpointInvalid:
        return None
