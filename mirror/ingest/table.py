"""What each look at containerd's ingest folder means: which ingest of a digest counts, and what has happened
since the last look.

Pure: a look is an argument (`Sighting`), events are the answer. Refuses to open anything, and to believe that a
file of the right size is a complete blob.

Rules
1. Several ingests of one digest may exist (one for each namespace). One counts, the leader: of those that grow
   the largest, and what was never seen to grow comes last. It stays the leader while it grows, since a new one
   makes every reader start again.
2. Where the leader is another file, or shorter than it was, `Born` is told again.
3. What stands in the folder of blobs is complete, and its ingests are not told of.
4. An ingest that was there at the first look is told of, its size only when it grows: it may be a leftover.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mirror.ingest.base import Born, Committed, Grew, IngestEvent, Vanished
from mirror.oci.digest import Digest

# A leader that is silent for this long is left for a larger one: as long as a silent peer is waited for.
LEADER_SILENT_S = 1.0

# containerd fills a new folder within milliseconds, and a manifest's ingest lives no longer than that.
NASCENT_POLL_S = 0.005
NASCENT_S = 0.5

# 1 MiB steps at 160 Mbit/s; waiters of other hosts are at most this far behind.
GROWTH_POLL_S = 0.05

# Where nobody waits for it, such as where this daemon itself sends what the ingest holds. At 20 looks a second these
# took a seventh of a daemon's CPU time in a herd.
PATIENT_POLL_S = 0.25

# Longer than a paused body may last (20 s). What is still after that is a leftover, or waits for long.
QUIET_AFTER_S = 30.0
QUIET_POLL_S = 1.0

# Only against signs that never came: some file systems give none.
IDLE_POLL_S = 10.0

# How long an ended ingest can still be opened. Its reader was told at once and needs milliseconds; more would
# hold on to the disk space of deleted files.
KEPT_AFTER_END_S = 5.0


@dataclass(frozen=True, slots=True)
class IngestKey:
    """One file: containerd uses a folder again."""

    folder_name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One ingest as a look found it."""

    key: IngestKey
    namespace: str
    ref: str
    digest: Digest | None
    total_bytes: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look. `nascent` are folders that hold no data file yet; `arrived` came into the folder of blobs since
    the last look; `complete` stands there, of those whose ingest is here or was at the last look."""

    ingests: Sequence[Seen]
    nascent: frozenset[str]
    arrived: frozenset[Digest]
    complete: frozenset[Digest]


@dataclass(slots=True)
class _Pace:
    digest: Digest | None
    size_bytes: int
    changed_at_s: float
    has_grown: bool


class IngestTable:
    """`note` belongs to one caller at a time; the questions cost no I/O."""

    def __init__(self) -> None:
        self._leaders: dict[Digest, Seen] = {}
        self._paces: dict[IngestKey, _Pace] = {}
        self._nameless: dict[IngestKey, Seen] = {}
        self._nascent_since_s: dict[str, float] = {}
        self._ended: dict[Digest, tuple[IngestKey, float]] = {}
        self._has_looked = False

    def note(self, sighting: Sighting, now: float) -> list[IngestEvent]:
        """Events in the order in which they happened, as far as one look can tell."""
        self._note_paces(sighting, now)
        events: list[IngestEvent] = list(self._note_nameless(sighting.ingests))
        complete = sighting.complete | sighting.arrived
        candidates: dict[Digest, list[Seen]] = {}
        for seen in sighting.ingests:
            if seen.digest is not None and seen.digest not in complete:
                candidates.setdefault(seen.digest, []).append(seen)
        ended = [digest for digest in self._leaders if digest not in candidates]
        events += self._note_ends(ended, complete, now)
        events += [Committed(digest) for digest in sorted(sighting.arrived.difference(ended))]
        for digest, found in candidates.items():
            events += self._note_leader(digest, found, now)
        self._ended = {digest: kept for digest, kept in self._ended.items() if kept[1] > now}
        self._has_looked = True
        return events

    def wait_s(self, now: float, is_patient: Callable[[Digest], bool]) -> float:
        """How long the next look may wait for a sign. `is_patient`: the growth of that digest may be told late."""
        newest_s = max(self._nascent_since_s.values(), default=-math.inf)
        if now - newest_s < NASCENT_S:
            return NASCENT_POLL_S
        if now - newest_s < QUIET_AFTER_S:
            return GROWTH_POLL_S
        growing = [pace.digest for pace in self._paces.values() if now - pace.changed_at_s < QUIET_AFTER_S]
        if growing:
            # Of what has no digest no growth is told at all.
            is_awaited = any(digest is not None and not is_patient(digest) for digest in growing)
            return GROWTH_POLL_S if is_awaited else PATIENT_POLL_S
        return QUIET_POLL_S if self._paces or self._nascent_since_s else IDLE_POLL_S

    def present(self) -> list[IngestEvent]:
        """What a new watcher must be told."""
        events: list[IngestEvent] = [_born(seen) for seen in self._nameless.values()]
        for digest, leader in self._leaders.items():
            events.append(_born(leader))
            if self._paces[leader.key].has_grown:
                events.append(Grew(digest, leader.size_bytes))
        return events

    def size_bytes(self, digest: Digest) -> int | None:
        leader = self._leaders.get(digest)
        return None if leader is None else leader.size_bytes

    def total_bytes(self, digest: Digest) -> int | None:
        leader = self._leaders.get(digest)
        return None if leader is None else leader.total_bytes

    def key_to_open(self, digest: Digest) -> IngestKey | None:
        if (leader := self._leaders.get(digest)) is not None:
            return leader.key
        ended = self._ended.get(digest)
        return None if ended is None else ended[0]

    def wanted_keys(self) -> set[IngestKey]:
        """What must stay open: everything that is there, and what ended a moment ago."""
        return self._paces.keys() | {key for key, _ in self._ended.values()}

    def _note_paces(self, sighting: Sighting, now: float) -> None:
        paces: dict[IngestKey, _Pace] = {}
        for seen in sighting.ingests:
            pace = self._paces.get(seen.key)
            if pace is None:
                pace = _Pace(seen.digest, seen.size_bytes, now, self._has_looked and seen.size_bytes > 0)
            elif seen.size_bytes != pace.size_bytes:
                # A shorter one began again, so that what it has now is growth, too.
                pace = _Pace(seen.digest, seen.size_bytes, now, seen.size_bytes > 0)
            paces[seen.key] = pace
        self._paces = paces
        self._nascent_since_s = {name: self._nascent_since_s.get(name, now) for name in sighting.nascent}

    def _note_nameless(self, ingests: Iterable[Seen]) -> Iterable[Born]:
        before, self._nameless = self._nameless, {seen.key: seen for seen in ingests if seen.digest is None}
        return [_born(seen) for key, seen in self._nameless.items() if key not in before]

    def _note_ends(
        self, ended: Iterable[Digest], complete: frozenset[Digest], now: float
    ) -> list[IngestEvent]:
        events: list[IngestEvent] = []
        for digest in ended:
            self._ended[digest] = (self._leaders.pop(digest).key, now + KEPT_AFTER_END_S)
            events.append(Committed(digest) if digest in complete else Vanished(digest))
        return events

    def _note_leader(self, digest: Digest, found: list[Seen], now: float) -> list[IngestEvent]:
        before = self._leaders.get(digest)
        same = None if before is None else next((seen for seen in found if seen.key == before.key), None)
        best = max(found, key=lambda seen: (self._rank(seen), seen is same))
        if before is not None and same is not None and same.size_bytes >= before.size_bytes:
            is_silent = now - self._paces[same.key].changed_at_s >= LEADER_SILENT_S
            if not is_silent or self._rank(best) <= self._rank(same):
                self._leaders[digest] = same
                return [Grew(digest, same.size_bytes)] if same.size_bytes > before.size_bytes else []
        self._leaders[digest] = best
        events: list[IngestEvent] = [_born(best)]
        if self._paces[best.key].has_grown:
            events.append(Grew(digest, best.size_bytes))
        return events

    def _rank(self, seen: Seen) -> tuple[bool, int]:
        return self._paces[seen.key].has_grown, seen.size_bytes


def _born(seen: Seen) -> Born:
    return Born(seen.namespace, seen.ref, seen.digest, seen.total_bytes)
