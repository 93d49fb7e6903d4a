"""What the ladder of a digest orders. Types only; each names the event that answers it, if one does."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mirror.steer.rulings import Fence


@dataclass(frozen=True, slots=True)
class Answer404:
    """The request is over. Only for one whose headers are not out."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Feed:
    """Serve it from the blob, the own ingest or the swarm as bytes come. Headers go out with the first byte in hand.
    A HEAD: its headers as soon as a source told them. Answered by Fed, Starved and, at its end, Left."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Its body has no source: send what is in hand, then keep it open and idle, whatever the swarm says, until Resume
    or EndByFin."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Answered as Feed."""

    request_id: int


@dataclass(frozen=True, slots=True)
class EndByFin:
    """The request is over: end its body where it is, by FIN with the read side drained."""

    request_id: int


class AskReason(Enum):
    """Why a claim is asked for. HELD_LONG and SLOW_CLAIMANT ask for one more though a claim may run; FALLBACK_ONLY
    cannot use a claim, and wants to know whether anybody else has one."""

    NEEDED = "a request waits"
    SOURCES_FAILED = "providers were of no use"
    HELD_LONG = "a request was held for long without a byte"
    SLOW_CLAIMANT = "the claimant is slow"
    FALLBACK_ONLY = "the origin refused this host"
    FED_ALREADY = "the own containerd reads from the origin without a claim"


@dataclass(frozen=True, slots=True)
class AskClaim:
    """Answered by Ruled. `known`: the claim that this host was told to wait for. `wants_providers` false: they are
    known and of no use."""

    ask_id: int
    progress_bytes: int
    reason: AskReason
    known: Fence | None
    wants_providers: bool


@dataclass(frozen=True, slots=True)
class RenewClaim:
    """Answered by Ruled. `is_queued`: the own containerd gets nothing of it yet, or just now, and reads others."""

    ask_id: int
    fence: Fence
    progress_bytes: int
    is_queued: bool = False


class ReleaseReason(Enum):
    """The value goes on the wire: 0 and 4 are nobody's fault, any other excludes this host for a while."""

    def __init__(self, wire_value: int, text: str) -> None:
        self.wire_value = wire_value
        self.text = text

    COMMITTED = (4, "it is whole, and others can find it here")
    VANISHED = (0, "the own containerd gave its ingest up")
    UNUSED = (0, "nobody here needs it")
    NO_GAIN = (0, "this host is not faster than the one it should have helped")
    REFUSED = (1, "the origin refused this host")
    SILENT = (2, "the origin sent nothing")
    WRONG = (3, "the bytes do not have the digest")


@dataclass(frozen=True, slots=True)
class ReleaseClaim:
    """Not answered."""

    fence: Fence
    progress_bytes: int
    reason: ReleaseReason


@dataclass(frozen=True, slots=True)
class FindProviders:
    """Answered by ProvidersKnown."""


@dataclass(frozen=True, slots=True)
class StartSwarm:
    """Run the swarm, with these nodes among its sources; again for more of them. Answered by SourceProgress, and by
    SourcesGone whenever they are."""

    sources: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class StopSwarm:
    """Nobody at this host reads it any more: fetch no more; what is in hand may still be served to peers until
    they are done. Not answered."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Open the own ingest at its birth, keep its descriptor through commit, unlink and cancel until peers are done,
    and make it a source of the swarm. `is_judged`: it begins with bytes that nobody verified, so follow it to its end,
    hash it and say IngestRight or BytesWrong. Answered by the Ingest events."""

    is_judged: bool


@dataclass(frozen=True, slots=True)
class AbortIngest:
    """Content.Abort of the own ingest: while wrong bytes stand in it the image cannot be pulled. Answered by
    IngestVanished."""


@dataclass(frozen=True, slots=True)
class Remember404:
    """Whoever outlives this ladder answers 404 to any GET of the digest for so long, at the first host only or at
    both. 0: forget it. Not answered."""

    for_s: float
    at_both: bool


@dataclass(frozen=True, slots=True)
class SetTimer:
    """In place of the last one; None: there is nothing to wait for. Answered by Timer."""

    at: float | None


Command = (
    Answer404
    | Feed
    | Pause
    | Resume
    | EndByFin
    | AskClaim
    | RenewClaim
    | ReleaseClaim
    | FindProviders
    | StartSwarm
    | StopSwarm
    | Tail
    | AbortIngest
    | Remember404
    | SetTimer
)
