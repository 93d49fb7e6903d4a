"""What one pasted line tells another host: the cluster's name, where to find it, and its secret if it has one. Pure.

A line is `peili-` and base64url without padding of a CRC-32 (4 bytes, big-endian) and of JSON. The checksum finds a
line that was cut while it was copied; it proves nothing. A line with a secret is a secret.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field

import msgspec

from mirror.host.errors import HostError
from mirror.secret import SECRET_BYTES
from mirror.settings.model import StaticBootstrap
from mirror.settings.values import ValueInvalid, bootstrap, cluster_name

PREFIX = "peili-"
FORMAT = 1
# A name, a secret and some addresses are below 400 characters. Longer is a paste of something else.
LINE_MAX_CHARS = 2_000
# A host has some networks; one address that answers is enough.
ADDRESSES_MAX_COUNT = 8
_CRC_BYTES = 4


class JoinLineInvalid(HostError):
    """The text is no join line, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`secret` None: the cluster is open. `peers`: some of its hosts."""

    cluster: str
    peers: tuple[StaticBootstrap, ...]
    secret: bytes | None = field(repr=False)


class _Document(msgspec.Struct, frozen=True):
    v: int
    cluster: str
    at: tuple[str, ...]
    secret: str | None = None


def write(invitation: Invitation) -> str:
    secret = None if invitation.secret is None else base64.b64encode(invitation.secret).decode()
    document = msgspec.json.encode(
        _Document(FORMAT, invitation.cluster, tuple(str(peer.address) for peer in invitation.peers), secret)
    )
    checked = zlib.crc32(document).to_bytes(_CRC_BYTES) + document
    return PREFIX + base64.urlsafe_b64encode(checked).decode().rstrip("=")


def read(line: str) -> Invitation:
    """Space around it and line breaks in it, as terminals add them, are no matter. Raises: JoinLineInvalid, without the
    text, which may hold a secret."""
    text = "".join(line.split())
    if not text.startswith(PREFIX) or len(text) > LINE_MAX_CHARS:
        raise JoinLineInvalid(
            f"this is no join line, which begins with {PREFIX}: copy the one that peili up prints"
        )
    body = text.removeprefix(PREFIX)
    try:
        checked = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _cut() from None
    document = checked[_CRC_BYTES:]
    if zlib.crc32(document).to_bytes(_CRC_BYTES) != checked[:_CRC_BYTES]:
        raise _cut()
    try:
        return _invitation(msgspec.json.decode(document, type=_Document))
    except (msgspec.DecodeError, RecursionError, ValueInvalid, ValueError):
        raise JoinLineInvalid(
            "the join line is of another release of peili: use the same one on all hosts"
        ) from None


def _invitation(document: _Document) -> Invitation:
    secret = None if document.secret is None else base64.b64decode(document.secret, validate=True)
    if document.v != FORMAT or (secret is not None and len(secret) != SECRET_BYTES):
        raise ValueError
    if len(document.at) > ADDRESSES_MAX_COUNT:
        raise ValueError
    return Invitation(cluster_name(document.cluster), tuple(map(_peer, document.at)), secret)


def _peer(text: str) -> StaticBootstrap:
    peer = bootstrap(f"static:{text}")
    assert isinstance(peer, StaticBootstrap)
    return peer


def _cut() -> JoinLineInvalid:
    return JoinLineInvalid("the join line is not whole or was changed: copy all of it, in one piece")
