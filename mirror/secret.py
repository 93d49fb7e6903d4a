"""What the cluster's secret file holds, and the keys made from it. Signs nothing itself: that is the wire's
part.

Rules
1. The file has one or two lines, each 32 random bytes in base64. The first signs, both are accepted, so that
   a secret is changed host by host: new line second everywhere, then first everywhere, then the old one
   removed.
2. No use of the secret sees the secret: each gets a subkey that is bound to its use and to the cluster's
   name.
3. No bytes of a secret or subkey appear in a repr, a message or a log line.
"""

from __future__ import annotations

import base64
import binascii
import stat
from dataclasses import dataclass, field
from hashlib import blake2s
from pathlib import Path

from mirror.errors import MirrorError

SECRET_BYTES = 32
# One that signs and one that is on its way in or out.
LINES_MAX_COUNT = 2
# Two lines are 90 bytes; whatever is longer is another file and is not read into memory.
FILE_MAX_BYTES = 4096
# BLAKE2s takes this much personalisation.
USE_MAX_BYTES = 8
_KEY_ID_USE = b"key-id"
_HOW_TO_MAKE = "make one with: head -c 32 /dev/urandom | base64"


class SecretInvalid(MirrorError):
    """The secret file cannot be read or does not hold a secret."""


@dataclass(frozen=True, slots=True)
class Subkey:
    """A key for one use. `key_id` is 8 hex digits and says nothing about the key."""

    key_id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClusterSecret:
    """The secrets of one cluster, the signing one first."""

    secrets: tuple[bytes, ...] = field(repr=False)

    @staticmethod
    def load(path: Path) -> ClusterSecret:
        """Raises: SecretInvalid."""
        try:
            with path.open("rb") as file:
                content = file.read(FILE_MAX_BYTES + 1)
        except OSError as exc:
            raise SecretInvalid(f"{path} cannot be read: {exc.strerror or exc}; {_HOW_TO_MAKE}") from exc
        return ClusterSecret.parse(content, str(path))

    @staticmethod
    def parse(content: bytes, name: str) -> ClusterSecret:
        """`name` is what messages call the source. Raises: SecretInvalid."""
        if len(content) > FILE_MAX_BYTES:
            raise SecretInvalid(f"{name} is no secret file: it is longer than {FILE_MAX_BYTES} bytes")
        lines = content.split(b"\n")
        while lines and not lines[-1].strip():
            lines.pop()
        if not 1 <= len(lines) <= LINES_MAX_COUNT:
            raise SecretInvalid(
                f"{name} has {len(lines)} lines: expected one secret, or two while it is changed; "
                f"{_HOW_TO_MAKE}"
            )
        return ClusterSecret(tuple(_secret(line, number, name) for number, line in enumerate(lines, 1)))

    @staticmethod
    def line(secret: bytes) -> bytes:
        """As it stands in the file."""
        assert len(secret) == SECRET_BYTES
        return base64.b64encode(secret) + b"\n"

    def subkeys(self, use: str, cluster: str) -> tuple[Subkey, ...]:
        """One subkey for each secret, the signing one first. `use` is at most 8 ASCII characters."""
        person = use.encode("ascii")
        assert 0 < len(person) <= USE_MAX_BYTES, f"{use!r} is no use of 1 to {USE_MAX_BYTES} characters"
        return tuple(_subkey(secret, person, cluster) for secret in self.secrets)


def readable_by_others(path: Path) -> bool:
    """Whether any user of this host can read the file. False where it cannot be told."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _secret(line: bytes, number: int, name: str) -> bytes:
    try:
        secret = base64.b64decode(line.strip(), validate=True)
    except (binascii.Error, ValueError):
        # Without the cause: its traceback could show the line.
        raise SecretInvalid(f"line {number} of {name} is not base64; {_HOW_TO_MAKE}") from None
    if len(secret) != SECRET_BYTES:
        raise SecretInvalid(
            f"line {number} of {name} holds {len(secret)} bytes, not {SECRET_BYTES}; {_HOW_TO_MAKE}"
        )
    return secret


def _subkey(secret: bytes, person: bytes, cluster: str) -> Subkey:
    key = blake2s(cluster.encode(), key=secret, person=person).digest()
    return Subkey(blake2s(key, person=_KEY_ID_USE, digest_size=4).hexdigest(), key)
