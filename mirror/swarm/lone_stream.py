"""Whether a body may come from one complete peer past the swarm, straight into the own containerd's socket. Pure.

Rules
1. Only where nobody else is there to share pieces with: what is streamed is held by nobody here, and a herd in which
   each host streams from the one complete provider gets no more than that one's uplink.
2. Only for what containerd itself verifies and is seen to do so: large blobs, whose ingest is watched. What is small is
   verified whole before its first byte leaves, by the swarm.
3. Not where anything is in hand already, or comes from the origin: the swarm uses that.
4. A stream that was begun is left as soon as it is not alone any more, or what it brings is in hand, at the end of a
   piece, so that no piece is fetched twice.
5. A peer that broke off, or is slow where others could help, is not streamed from again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mirror.swarm.events import SourceId

# Two complete providers can each give a part. One that is slower than what a busy host still gives each of its 32
# askers on 1 Gbit/s is worth a swarm.
SLOW_BYTES_S = 4_000_000
# Shorter samples are noise.
SLOW_SAMPLE_S = 2.0
# containerd flushes a blob before it commits it. One that takes longer than this is hashed: a disk takes 200 MB/s, and
# all else a quarter of a second. Until a wrong one is thrown away every pull of the image fails; to hash a right one in
# vain costs 0.7 CPU-seconds a GB.
COMMIT_MIN_S = 0.25
COMMIT_MAX_S = 5.0
COMMIT_BYTES_S = 200_000_000
# A complete provider names those who joined with its own state: about two round trips after it was called. Who does not
# know by then asks it as a member of a swarm.
WORD_MAX_S = 0.25
# containerd makes its ingest before it asks, and a look at its folder takes a few milliseconds, on a busy host some
# tens. A client without one must not be the slower for it.
INGEST_MAX_S = 0.1


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of others. `completes`: who are said to hold it whole, the best first. `unheard`: those of them
    that were called and have not said who else is there. `others_count`: everybody else who takes part or was named."""

    completes: Sequence[SourceId]
    unheard: Collection[SourceId]
    others_count: int


@dataclass(frozen=True, slots=True)
class Here:
    """What is known of this host. `left_bytes`: of the body. `is_watched`: the own containerd's ingest is seen, and has
    this size for its end. `is_fed`: by its ingest, or the origin. `is_held`: some of what is left is in the spool.
    `is_suspect`: what was streamed before is wrong, or was not committed when it should have been."""

    size_bytes: int
    left_bytes: int
    readers_count: int
    is_watched: bool
    is_fed: bool
    is_held: bool
    is_suspect: bool


class Answer(Enum):
    # The swarm brings it.
    SWARM = auto()
    # It will be known in a moment: who else is there, or whether it is containerd that asks.
    WAIT_FOR_WORD = auto()
    WAIT_FOR_INGEST = auto()

    @property
    def wait_max_s(self) -> float:
        match self:
            case Answer.WAIT_FOR_WORD:
                return WORD_MAX_S
            case Answer.WAIT_FOR_INGEST:
                return INGEST_MAX_S
            case Answer.SWARM:
                return 0.0


def choose(
    here: Here, standing: Standing, whole_first_max_bytes: int, failed: Collection[SourceId]
) -> Answer | SourceId:
    """From whom to stream."""
    if min(here.size_bytes, here.left_bytes) <= whole_first_max_bytes:
        return Answer.SWARM
    if here.is_fed or here.is_suspect or not is_alone(here, standing):
        return Answer.SWARM
    usable = [one for one in standing.completes if one not in failed]
    if not usable:
        return Answer.SWARM
    if standing.unheard:
        return Answer.WAIT_FOR_WORD
    if not here.is_watched:
        return Answer.WAIT_FOR_INGEST
    return usable[0]


def is_alone(here: Here, standing: Standing) -> bool:
    """Also asked again while a stream goes on."""
    return here.readers_count == 1 and standing.others_count == 0 and not here.is_held


def is_slow(count_bytes: int, waited_s: float, standing: Standing, source_id: SourceId) -> bool:
    """`waited_s`: for the source, while it brought so much."""
    has_others = any(one != source_id for one in standing.completes)
    return has_others and waited_s >= SLOW_SAMPLE_S and count_bytes < SLOW_BYTES_S * waited_s


def commit_late_s(size_bytes: int) -> float:
    """A full-sized ingest that is not committed for so long is looked at."""
    return min(COMMIT_MAX_S, COMMIT_MIN_S + size_bytes / COMMIT_BYTES_S)
