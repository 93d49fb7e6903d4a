"""What a digest is and whether bytes match it. Refuses every algorithm but sha256 and sha512.

Source: OCI image-spec, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirror.errors import MirrorError

if TYPE_CHECKING:
    from hashlib import _Hash

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_ENCODED = re.compile(r"[0-9a-f]+")


class DigestInvalid(MirrorError):
    """The text is not a digest of a supported algorithm."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """`algorithm:encoded`, lower-case hex."""

    algorithm: str
    encoded: str

    @staticmethod
    def parse(text: str) -> Digest:
        """Raises: DigestInvalid."""
        algorithm, colon, encoded = text.partition(":")
        length = _HEX_LENGTH.get(algorithm)
        if not colon or length is None:
            raise DigestInvalid(f"{text[:140]!r} is not a digest: expected sha256:<hex> or sha512:<hex>")
        if len(encoded) != length or not _ENCODED.fullmatch(encoded):
            raise DigestInvalid(
                f"{text[:140]!r} is not a digest: {algorithm} has {length} lower-case hex digits"
            )
        return Digest(algorithm, encoded)

    @staticmethod
    def of(data: bytes, algorithm: str = "sha256") -> Digest:
        return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> _Hash:
        return hashlib.new(self.algorithm)

    def matches(self, data: bytes) -> bool:
        return hashlib.new(self.algorithm, data).hexdigest() == self.encoded

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"
