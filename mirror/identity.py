"""Who this daemon is: the node id that it keeps, and the epoch that tells its starts apart.

Both live in `node.json` of the data directory, so that a host that comes back is the same node. Refuses to
guess: a damaged file ends the start, since a new id would leave the old one's records with every other node
for an hour.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from dht.contacts import EPOCH_MAX
from dht.ids import ID_BYTES, IdInvalid, NodeId
from mirror import whole_file
from mirror.errors import MirrorError

NODE_FILE = "node.json"
# The file has about 80 bytes; whatever is longer is not ours.
FILE_MAX_BYTES = 4096


class IdentityDamaged(MirrorError):
    """`node.json` does not hold an identity."""


class IdentityUsedUp(MirrorError):
    """This node id has been started as often as the wire can tell."""


class IdentityUnwritable(MirrorError):
    """The data directory does not take `node.json`."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`epoch` counts the starts with this data directory, from 1 to `EPOCH_MAX`."""

    node: NodeId
    epoch: int


class _NodeFile(msgspec.Struct, frozen=True):
    id: str
    epoch: int


def begin(data_dir: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> Identity:
    """Reads the identity, or makes one, and counts this start: it is on disk before this returns. Makes the
    data directory (0700) where there is none. Raises: IdentityDamaged, IdentityUsedUp, IdentityUnwritable."""
    path = data_dir / NODE_FILE
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        last = _read(path)
        identity = Identity(NodeId(random_bytes(ID_BYTES)), 1) if last is None else _next(last, path)
        _write(path, identity)
    except OSError as exc:
        raise IdentityUnwritable(
            f"{path} cannot be read and written: {exc.strerror or exc}; free the disk, mend the permissions, "
            f"or choose another --data-dir"
        ) from exc
    return identity


def _next(last: Identity, path: Path) -> Identity:
    if last.epoch >= EPOCH_MAX:
        raise IdentityUsedUp(
            f"{path} has counted {EPOCH_MAX} starts or more, and no node id lasts longer; delete it and this host "
            f"joins under a new node id"
        )
    return Identity(last.node, last.epoch + 1)


def _read(path: Path) -> Identity | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    try:
        if len(content) > FILE_MAX_BYTES:
            raise ValueError(f"it is longer than {FILE_MAX_BYTES} bytes")
        stored = msgspec.json.decode(content, type=_NodeFile)
        if stored.epoch <= 0:
            raise ValueError(f"epoch {stored.epoch} is out of range")
        return Identity(NodeId.parse(stored.id), stored.epoch)
    except (msgspec.DecodeError, IdInvalid, ValueError, RecursionError) as exc:
        raise IdentityDamaged(
            f"{path} is damaged: {exc}; restore it, or delete it and this host joins under a new node id"
        ) from exc


def _write(path: Path, identity: Identity) -> None:
    whole_file.replace(path, msgspec.json.encode(_NodeFile(str(identity.node), identity.epoch)) + b"\n")
