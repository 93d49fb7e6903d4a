"""What a swarm is told and what it asks for: the contract between `Swarm` and who executes its commands. Holds nothing.

A run is one ranged request for adjacent pieces at one source; its number never comes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import Bitfield

SourceId = str
ReaderId = int
RunId = int


class SourceKind(Enum):
    PEER = auto()
    # The file into which our own containerd downloads. Reading it costs nothing.
    OWN_INGEST = auto()
    # The registry itself, read by our daemon (relay): asked only for what no other source holds.
    ORIGIN = auto()


class Failure(Enum):
    """How a run ended early."""

    # Nothing came: not connected in time.
    SILENT = auto()
    # The connection ended before the last byte.
    BROKE = auto()
    # 401, 403 or any answer that a peer does not give.
    REFUSED = auto()
    # 404 or 416: it does not hold what it said it holds.
    ABSENT = auto()
    # 429: it has no free upload slot. No failure of its own.
    BUSY = auto()
    # The answer is of a blob of another size, or of another range.
    WRONG_SIZE = auto()


class GoneReason(Enum):
    CLOSED = auto()
    UNREACHABLE = auto()
    # What it held was replaced: an ingest that shrank or has a new inode. What came from it is dropped.
    REPLACED = auto()


class GiveUpReason(Enum):
    # No byte for `give_up_s` while a reader waited.
    STARVED = auto()
    # The digest did not match `mismatches_max_count` times.
    WRONG_BYTES = auto()


# -- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SourceFound:
    """`zone_distance`: 0 is our own zone. A source that was found again is not thereby forgiven."""

    source_id: SourceId
    kind: SourceKind
    is_complete: bool
    zone_distance: int


@dataclass(frozen=True, slots=True)
class SourceState:
    """Replaces what was known of its pieces. `load_ratio`: the share of its upload slots in use. Ignored for a source
    that was not found, and where the bitfield is of another size."""

    source_id: SourceId
    bitfield: Bitfield
    load_ratio: float
    is_fed_from_origin: bool


@dataclass(frozen=True, slots=True)
class Have:
    """It holds these, too. Pieces outside of the blob are ignored."""

    source_id: SourceId
    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SourceGone:
    """Its runs ended with it: no `RunFailed` follows."""

    source_id: SourceId
    reason: GoneReason


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """Everybody that `FindSources` brought was told with `SourceFound`."""


@dataclass(frozen=True, slots=True)
class ReaderOpened:
    """Somebody wants `span` of the blob, in order."""

    reader_id: ReaderId
    span: ByteSpan


@dataclass(frozen=True, slots=True)
class ReaderMoved:
    """All bytes before `offset` were handed to him; at most what was released."""

    reader_id: ReaderId
    offset: int


@dataclass(frozen=True, slots=True)
class ReaderClosed:
    reader_id: ReaderId


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Bytes came: all before `offset` of the run are here. Told a few times a second."""

    run_id: RunId
    offset: int


@dataclass(frozen=True, slots=True)
class PieceArrived:
    """All bytes of the run's next piece are here and can be read back. Pieces of a run arrive in order. Of two runs
    with the same piece the first to complete counts: the executor keeps them apart until then and throws the second
    away, so that each piece is of one source. The run is over with its last piece."""

    run_id: RunId
    piece: int


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The run is over; what of it did not arrive is to be asked for again."""

    run_id: RunId
    failure: Failure


@dataclass(frozen=True, slots=True)
class PrefixHashed:
    """The first pieces went into the digest."""

    piece_count: int


@dataclass(frozen=True, slots=True)
class DigestMatched:
    """All pieces together are the blob. `piece_digests`: SHA-256 of each piece that was ever dropped."""

    piece_digests: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class DigestMismatched:
    """All pieces together are not the blob. `piece_digests`: SHA-256 of each, in order."""

    piece_digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class PieceDigests:
    """What a source says its pieces are; empty if it would not say."""

    source_id: SourceId
    piece_digests: Mapping[int, bytes]


@dataclass(frozen=True, slots=True)
class Lied:
    """It is proven to have sent wrong bytes past this swarm."""

    source_id: SourceId


@dataclass(frozen=True, slots=True)
class FetchAhead:
    """Whether pieces are wanted though nobody here reads: one at a time of each source, as long as nobody does.
    The same again changes nothing."""

    is_wanted: bool


@dataclass(frozen=True, slots=True)
class BeginAgain:
    """After `GiveUp`: somebody wants the blob once more. Of wrong bytes nothing is kept; bans are. Ignored else."""


@dataclass(frozen=True, slots=True)
class Timer:
    """`next_timer` has passed."""


Event = (
    SourceFound
    | SourceState
    | Have
    | SourceGone
    | SearchEnded
    | ReaderOpened
    | ReaderMoved
    | ReaderClosed
    | RunProgress
    | PieceArrived
    | RunFailed
    | PrefixHashed
    | DigestMatched
    | DigestMismatched
    | PieceDigests
    | Lied
    | FetchAhead
    | BeginAgain
    | Timer
)

# -- commands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRun:
    """Ask for `count` pieces from `first` on. Answered by `RunProgress`, `PieceArrived` for each, or `RunFailed`."""

    run_id: RunId
    source_id: SourceId
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class TrimRun:
    """Another source brings the end of that run: it is over before piece `stop`. Answered as the run."""

    run_id: RunId
    stop: int


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Not answered: whatever else comes of that run is ignored, and is not to be written."""

    run_id: RunId


@dataclass(frozen=True, slots=True)
class FindSources:
    """Answered by any number of `SourceFound`, then `SearchEnded`."""


@dataclass(frozen=True, slots=True)
class Release:
    """This reader may be handed all bytes before `upto_offset`. Answered by `ReaderMoved`."""

    reader_id: ReaderId
    upto_offset: int


@dataclass(frozen=True, slots=True)
class EndReader:
    """He was handed, or may have been, bytes that were dropped: end his body by FIN, abort his client's ingest, hand
    out no more. He is forgotten here; not answered."""

    reader_id: ReaderId


@dataclass(frozen=True, slots=True)
class AskPieceDigests:
    """Answered by one `PieceDigests` for each, or `SourceGone`."""

    source_ids: tuple[SourceId, ...]


@dataclass(frozen=True, slots=True)
class Ban:
    """It sent wrong bytes, or stood by them. `until`: on the clock of `now`. Not answered."""

    source_id: SourceId
    until: float


@dataclass(frozen=True, slots=True)
class DropPieces:
    """These are not held any more and not to be offered; the digest starts again before the first. Not answered;
    `DigestMatched` names their digests."""

    pieces: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """The blob is whole and right. Nothing more is asked for; readers go on. Not answered."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nothing more comes of this swarm before `BeginAgain`: its readers are to be ended. Not answered."""

    reason: GiveUpReason


Command = (
    RequestRun
    | TrimRun
    | CancelRun
    | FindSources
    | Release
    | EndReader
    | AskPieceDigests
    | Ban
    | DropPieces
    | Finish
    | GiveUp
)
