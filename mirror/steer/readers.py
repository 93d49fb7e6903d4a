"""The open requests of the own containerd for one digest, and how long each has been silent. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mirror.steer.events import Asked


class Phase(Enum):
    """HELD: nothing was ordered. READY: to be fed, its headers are not out. BODY: its headers are out."""

    HELD = "held"
    READY = "ready"
    BODY = "body"


@dataclass(slots=True)
class Reader:
    """`offset`: of the blob. `silent_since` None: bytes flow. `is_judged` false: not to be fed before it is known why
    the origin failed this host."""

    asked: Asked
    offset: int
    silent_since: float | None
    asked_at: float
    is_judged: bool
    phase: Phase = Phase.HELD
    is_paused: bool = False
    # How often providers were looked for in vain, for a HEAD.
    looks_count: int = 0

    @property
    def request_id(self) -> int:
        return self.asked.request_id

    @property
    def is_starved(self) -> bool:
        return self.silent_since is not None

    @property
    def has_bytes(self) -> bool:
        return self.offset > self.asked.range_start


class Readers:
    def __init__(self) -> None:
        self._readers: dict[int, Reader] = {}

    def __len__(self) -> int:
        return len(self._readers)

    def __iter__(self) -> Iterator[Reader]:
        """May be removed from while it runs."""
        return iter(tuple(self._readers.values()))

    def get(self, request_id: int) -> Reader | None:
        return self._readers.get(request_id)

    def add(self, asked: Asked, now: float, *, is_judged: bool) -> Reader:
        assert asked.request_id not in self._readers, asked
        reader = Reader(asked, asked.range_start, now, now, is_judged)
        self._readers[asked.request_id] = reader
        return reader

    def remove(self, request_id: int) -> Reader | None:
        return self._readers.pop(request_id, None)

    def at_first(self) -> list[Reader]:
        """GETs at the first host: those that a claim is for."""
        return [one for one in self._readers.values() if not one.asked.is_head and not one.asked.at_fallback]

    def at_fallback(self) -> list[Reader]:
        """GETs at the fallback host."""
        return [one for one in self._readers.values() if not one.asked.is_head and one.asked.at_fallback]

    def heads(self) -> list[Reader]:
        return [one for one in self._readers.values() if one.asked.is_head]

    def gets(self) -> list[Reader]:
        return [one for one in self._readers.values() if not one.asked.is_head]

    def sent(self, request_id: int, offset: int) -> None:
        """Headers alone break no silence, nor does what was sent before."""
        reader = self._readers.get(request_id)
        if reader is None:
            return
        reader.phase = Phase.BODY
        if offset > reader.offset:
            reader.offset = offset
            reader.silent_since = None

    def starved(self, request_id: int, offset: int, since: float) -> None:
        reader = self._readers.get(request_id)
        if reader is None or reader.phase is not Phase.BODY:
            return
        if offset > reader.offset or reader.silent_since is None:
            reader.offset = max(reader.offset, offset)
            reader.silent_since = since
