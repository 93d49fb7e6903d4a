"""What should be announced and what was: the difference as commands. Pure.

Rules
1. Every blob that the store holds is announced, whatever image it belongs to.
2. A snapshot is the whole truth: what it lacks is withdrawn. Replaying one changes nothing.
3. When the store is lost, what was announced stays: the files are still there while containerd restarts.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.oci.digest import Digest
from mirror.store.base import ContentAdded, ContentEvent, ContentRemoved, Snapshot, StreamLost


@dataclass(frozen=True, slots=True)
class Announce:
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Withdraw:
    keys: tuple[str, ...]


Command = Announce | Withdraw


class Inventory:
    """The digests that this host has announced."""

    def __init__(self) -> None:
        self._announced: set[Digest] = set()

    @property
    def announced_count(self) -> int:
        return len(self._announced)

    def is_announced(self, digest: Digest) -> bool:
        return digest in self._announced

    def handle(self, event: ContentEvent) -> list[Command]:
        match event:
            case Snapshot(sizes_bytes):
                return self._become(set(sizes_bytes))
            case ContentAdded(digest, _):
                if digest in self._announced:
                    return []
                self._announced.add(digest)
                return [Announce((str(digest),))]
            case ContentRemoved(digest):
                if digest not in self._announced:
                    return []
                self._announced.discard(digest)
                return [Withdraw((str(digest),))]
            case StreamLost():
                return []

    def _become(self, held: set[Digest]) -> list[Command]:
        added, gone = sorted(held - self._announced), sorted(self._announced - held)
        self._announced = held
        commands: list[Command] = []
        if added:
            commands.append(Announce(tuple(str(digest) for digest in added)))
        if gone:
            commands.append(Withdraw(tuple(str(digest) for digest in gone)))
        return commands
