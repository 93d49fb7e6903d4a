"""How two nodes find out in which ranges of ids they know different members: hashes of 16 children a range.

A range is named by the nibbles that its ids start with, one a byte. The hash of a range covers id and epoch of the
members in it and of the node itself:
- named by two nibbles or more: BLAKE2s, 4 bytes of digest, of ``id | epoch (3 bytes, big endian)`` in id order;
- named by one nibble: the same function of the hashes of its 16 children.
Fetches nothing.
"""

from __future__ import annotations

import hashlib

from dht.errors import FrameInvalid
from dht.ids import ID_BYTES
from dht.members.members import Members

CHILDREN_COUNT = 16
HASH_BYTES = 4
_EPOCH_BYTES = 3
_NIBBLES_MAX_COUNT = 2 * ID_BYTES


class MemberHashes:
    """Remembers the hashes of the 256 ranges of two nibbles, each until a member in it changes."""

    __slots__ = ("_members", "_of_byte", "_of_nibble", "_revision", "_revisions")

    def __init__(self, members: Members) -> None:
        self._members = members
        self._revision = -1
        self._revisions = [-1] * 256
        self._of_byte = [b""] * 256
        self._of_nibble = [b""] * CHILDREN_COUNT

    def hashes(self, prefix: bytes) -> bytes:
        """Of the 16 children of the range, concatenated: 64 bytes. Raises: FrameInvalid."""
        _check(prefix)
        if len(prefix) > 1:
            return b"".join([self._hash_of(prefix, child) for child in range(CHILDREN_COUNT)])
        self._refresh()
        if prefix:
            start = prefix[0] * CHILDREN_COUNT
            return b"".join(self._of_byte[start : start + CHILDREN_COUNT])
        return b"".join(self._of_nibble)

    def differing(self, prefix: bytes, theirs: bytes) -> int:
        """Bit n: child n differs. `theirs` has 64 bytes. Raises: FrameInvalid."""
        ours = self.hashes(prefix)
        if len(theirs) != len(ours):
            raise FrameInvalid("bad hashes")
        if ours == theirs:
            return 0
        mask = 0
        for child in range(CHILDREN_COUNT):
            at = slice(child * HASH_BYTES, (child + 1) * HASH_BYTES)
            if ours[at] != theirs[at]:
                mask |= 1 << child
        return mask

    def count(self, prefix: bytes, child: int) -> int:
        """Of the members in that child, own included. Raises: FrameInvalid."""
        return self._members.count(*range_of(prefix, child))

    def _refresh(self) -> None:
        members = self._members
        if self._revision == members.revision:
            return
        for nibble in range(CHILDREN_COUNT):
            start = nibble * CHILDREN_COUNT
            is_changed = False
            for child in range(CHILDREN_COUNT):
                byte = start + child
                revision = members.revision_of(byte)
                if self._revisions[byte] != revision:
                    self._revisions[byte] = revision
                    self._of_byte[byte] = self._hash_of(bytes((nibble,)), child)
                    is_changed = True
            if is_changed:
                self._of_nibble[nibble] = _hash(b"".join(self._of_byte[start : start + CHILDREN_COUNT]))
        self._revision = members.revision

    def _hash_of(self, prefix: bytes, child: int) -> bytes:
        found, _ = self._members.page(*range_of(prefix, child), len(self._members) + 1)
        return _hash(b"".join([one.node + one.epoch.to_bytes(_EPOCH_BYTES, "big") for one in found]))


def range_of(prefix: bytes, child: int) -> tuple[bytes, bytes]:
    """The first and the last id of that child of the range. Raises: FrameInvalid."""
    _check(prefix)
    nibbles = prefix.hex()[1::2] + f"{child:x}"
    missing = _NIBBLES_MAX_COUNT - len(nibbles)
    return bytes.fromhex(nibbles + "0" * missing), bytes.fromhex(nibbles + "f" * missing)


def _check(prefix: bytes) -> None:
    if len(prefix) >= _NIBBLES_MAX_COUNT or any(nibble >= CHILDREN_COUNT for nibble in prefix):
        raise FrameInvalid("bad prefix")


def _hash(covered: bytes) -> bytes:
    return hashlib.blake2s(covered, digest_size=HASH_BYTES).digest()
