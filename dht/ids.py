"""What names a node and a key in the DHT: 160 bits each, and the distance between them.

Source: Maymounkov, Mazières: Kademlia (2002), §2. Node ids are random, not derived from an address: hosts of a home
network share names and change addresses.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

ID_BYTES = 20


class IdInvalid(ValueError):
    """The text or bytes are no 160-bit id."""


@dataclass(frozen=True, slots=True, order=True)
class NodeId:
    """20 bytes; text form is 40 lower-case hex digits."""

    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != ID_BYTES:
            raise IdInvalid(f"a node id has {ID_BYTES} bytes, not {len(self.value)}")

    @staticmethod
    def parse(text: str) -> NodeId:
        """Raises: IdInvalid."""
        if len(text) != 2 * ID_BYTES or text != text.lower():
            raise IdInvalid(f"{text[:60]!r} is not a node id: expected {2 * ID_BYTES} lower-case hex digits")
        try:
            return NodeId(bytes.fromhex(text))
        except ValueError as exc:
            raise IdInvalid(f"{text[:60]!r} is not a node id: {exc}") from exc

    def __str__(self) -> str:
        return self.value.hex()


def key_of(text: str) -> bytes:
    """The 20-byte key of a key string such as ``sha256:…``. Case is the caller's to settle."""
    return hashlib.sha256(text.encode()).digest()[:ID_BYTES]


def distance(left: bytes, right: bytes) -> int:
    """XOR of two ids or keys, as an unsigned number."""
    return int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
