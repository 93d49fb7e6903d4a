"""What the ladder of a digest is told. Types only; what it orders is in mirror.steer.commands.

Times are monotonic seconds. Nodes are ids of the DHT, opaque here. A request is a request of this host's own
containerd, by a number of the shell's that is never used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mirror.steer.rulings import Ruling


@dataclass(frozen=True, slots=True)
class Asked:
    """A request came. `range_start`: its first byte; 0 without a Range. `at_fallback`: at the fallback host, so the
    origin refused or failed it."""

    request_id: int
    is_head: bool
    range_start: int
    at_fallback: bool


@dataclass(frozen=True, slots=True)
class Left:
    """The request is over: containerd hung up, or it was served whole. Nothing is said of it any more."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Fed:
    """Its body is sent as far as `offset` (of the blob, not of the range) and goes on. `offset` at the start of the
    range: headers are out, and no byte. Not for every write: when a body begins, and when it goes on after Starved."""

    request_id: int
    offset: int


@dataclass(frozen=True, slots=True)
class Starved:
    """All that is in hand was sent, up to `offset`. `since`: when, if that is told later; None: now."""

    request_id: int
    offset: int
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Ruled:
    """Answers AskClaim and RenewClaim, once each. `providers`: nodes that the asked ones named as holding it whole or
    in part. `is_alone`: no other host is known."""

    ask_id: int
    ruling: Ruling
    providers: tuple[bytes, ...] = ()
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class Replaced:
    """A nearer arbiter's grant, which came late, takes the place of the one that was told: that one is released."""

    ruling: Ruling


@dataclass(frozen=True, slots=True)
class ProvidersKnown:
    """Answers FindProviders; may come unasked."""

    providers: tuple[bytes, ...]
    is_alone: bool = False


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """What the swarm has; also when this host drops what it had. `prefix_bytes`: in order, in hand at this host (the
    descriptor of the own ingest included, though the ingest be gone). `frontier_bytes`: in order, had by this host and
    its sources together. `size_bytes` None: not known yet. `is_rooted`: a source has it whole, or from the origin
    itself, this host's own ingest included while Ladder.is_fed_from_origin; a chain of sources that ends at a host
    that waits is not rooted, and is no progress. `reached_bytes`: had by any of them, in order or not; 0: as far as the
    frontier."""

    prefix_bytes: int
    frontier_bytes: int
    size_bytes: int | None
    is_rooted: bool
    reached_bytes: int = 0

    @property
    def is_any(self) -> bool:
        """Somebody has more than this host."""
        return self.is_rooted or self.frontier_bytes > self.prefix_bytes

    def is_mere_growth(self, before: SourceProgress) -> bool:
        """Somebody had more and has, the same is known of it, and nothing was lost; not all of it is here."""
        return (
            before.is_any
            and self.is_any
            and self.is_rooted is before.is_rooted
            and self.size_bytes == before.size_bytes
            and self.frontier_bytes >= before.frontier_bytes
            and before.prefix_bytes <= self.prefix_bytes != self.size_bytes
        )


@dataclass(frozen=True, slots=True)
class SourcesGone:
    """The swarm has nobody left who has more than this host."""


@dataclass(frozen=True, slots=True)
class IngestBorn:
    """The own containerd began an ingest, or began it anew. `total_bytes` None: not said."""

    total_bytes: int | None


@dataclass(frozen=True, slots=True)
class IngestGrew:
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Committed:
    """It stands in the own containerd's blobs."""


@dataclass(frozen=True, slots=True)
class IngestVanished:
    """Without a commit: the pull was cancelled, or failed."""


@dataclass(frozen=True, slots=True)
class IngestRight:
    """The own ingest, full-sized, has the digest."""


@dataclass(frozen=True, slots=True)
class BytesWrong:
    """What was fed here, or the own ingest, does not have the digest."""


@dataclass(frozen=True, slots=True)
class Provided:
    """After Committed: others find this host as a provider."""


class RefusalKind(Enum):
    """What the origin says to an anonymous question after it failed this host."""

    FORBIDDEN = "401 or 403"
    ABSENT = "404"
    LIMITED = "429"
    FAILED = "5xx"
    UNREACHABLE = "no answer"
    SHOWN = "it shows it to everybody"
    NOT_ASKED = "it was not asked"


@dataclass(frozen=True, slots=True)
class OriginRefused:
    """Why a request came to the fallback host. For a manifest nothing is fed there before it came."""

    request_id: int
    kind: RefusalKind


@dataclass(frozen=True, slots=True)
class DaemonJoining:
    """Whether this host's daemon is still finding its neighbours. Until it comes: it is not."""

    is_joining: bool


@dataclass(frozen=True, slots=True)
class Timer:
    """Answers SetTimer, at that time or later."""


Event = (
    Asked
    | Left
    | Fed
    | Starved
    | Ruled
    | Replaced
    | ProvidersKnown
    | SourceProgress
    | SourcesGone
    | IngestBorn
    | IngestGrew
    | Committed
    | IngestVanished
    | IngestRight
    | BytesWrong
    | Provided
    | OriginRefused
    | DaemonJoining
    | Timer
)
