"""What the commands in a daemon's container print, read with what is used of it. Pure.

Another release's documents have more fields, or fewer of the later ones: none of those is an error.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct, field

from mirror.errors import MirrorError

Document = TypeVar("Document")

# Of node ids, as `peili peers` shows them.
SHOWN_DIGITS = 12


class NotOurs(MirrorError):
    """The text is no document of this kind."""


class _Status(Struct):
    version: str
    node_id: str
    cluster: str = ""
    peer_wire_version: int = 0
    unready: list[str] = []
    members: int = 0
    uptime_s: float = 0.0
    clock_offset_s: float = 0.0
    refused_datagrams: dict[str, int] = {}
    key_ids: list[str] | None = None


class _Peer(Struct):
    node_id: str


class _Peers(Struct):
    peers: list[_Peer] = []


class HostFinding(Struct, frozen=True):
    """Of the host's own doctor."""

    code: str
    level: str
    what: str = ""
    evidence: str = ""
    mend: list[str] = field(default_factory=list)


class _Doctor(Struct):
    findings: list[HostFinding]


class Told(Struct, frozen=True, kw_only=True):
    """`node`, and those in `peers`, have `SHOWN_DIGITS`. `peers` None: not known. `key_ids` None: an older release."""

    version: str
    node: str
    cluster: str
    wire_version: int
    unready: tuple[str, ...]
    members: int
    uptime_s: float
    clock_offset_s: float
    refused: dict[str, int]
    key_ids: tuple[str, ...] | None
    peers: frozenset[str] | None


def read_told(status: bytes, peers: bytes | None) -> Told:
    """Raises: NotOurs."""
    own = _read(status, _Status)
    known = None if peers is None else _read(peers, _Peers)
    return Told(
        version=own.version,
        node=own.node_id[:SHOWN_DIGITS],
        cluster=own.cluster,
        wire_version=own.peer_wire_version,
        unready=tuple(own.unready),
        members=own.members,
        uptime_s=own.uptime_s,
        clock_offset_s=own.clock_offset_s,
        refused=own.refused_datagrams,
        key_ids=None if own.key_ids is None else tuple(own.key_ids),
        peers=None if known is None else frozenset(one.node_id[:SHOWN_DIGITS] for one in known.peers),
    )


def read_findings(doctor: bytes) -> tuple[HostFinding, ...]:
    """Raises: NotOurs."""
    return tuple(_read(doctor, _Doctor).findings)


def _read(text: bytes, kind: type[Document]) -> Document:
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as exc:
        raise NotOurs(f"what it printed is no document of Peili ({exc})") from exc
