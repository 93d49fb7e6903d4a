"""A swarm of small pieces with the executor's books beside it: scenarios tell it events and look at its commands."""

from __future__ import annotations

import random

from mirror.oci.byterange import ByteSpan
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.events import (
    CancelRun,
    Command,
    Event,
    Failure,
    FindSources,
    PieceArrived,
    ReaderOpened,
    RequestRun,
    RunFailed,
    SourceFound,
    SourceKind,
    SourceState,
    Timer,
    TrimRun,
)
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.swarm import Swarm

PIECE_BYTES = 100
PARAMS = SwarmParams(run_first_bytes=10**9, ahead_max_bytes=10**9)
PEER = SourceKind.PEER


class Bed:
    """A swarm of `count` pieces of 100 bytes, the last of 50, and its clock."""

    def __init__(
        self,
        count: int,
        params: SwarmParams = PARAMS,
        *,
        is_whole_first: bool = False,
        is_for_readers: bool = False,
    ) -> None:
        self.count = count
        self.now = 100.0
        layout = PieceLayout(count * PIECE_BYTES - 50, PIECE_BYTES)
        self.swarm = Swarm(
            layout,
            params,
            random.Random(5),
            self.now,
            is_whole_first=is_whole_first,
            is_for_readers=is_for_readers,
        )
        self.runs: dict[int, tuple[str, list[int]]] = {}

    def tell(self, *events: Event) -> list[Command]:
        """The commands, but for searches."""
        out: list[Command] = []
        for event in events:
            for command in self.swarm.handle(event, self.now):
                if isinstance(command, RequestRun):
                    pieces = list(range(command.first, command.first + command.count))
                    self.runs[command.run_id] = (command.source_id, pieces)
                elif isinstance(command, TrimRun):
                    source_id, pieces = self.runs[command.run_id]
                    self.runs[command.run_id] = (source_id, [p for p in pieces if p < command.stop])
                elif isinstance(command, CancelRun):
                    del self.runs[command.run_id]
                if not isinstance(command, FindSources):
                    out.append(command)
            self.swarm.check()
        return out

    def complete(self, *names: str) -> list[Command]:
        return self.tell(*(SourceFound(name, PEER, True, 0) for name in names))

    def partial(self, name: str, *pieces: int, distance: int = 0, is_fed: bool = False) -> list[Command]:
        bitfield = Bitfield.holding(self.count, pieces)
        return self.tell(SourceFound(name, PEER, False, distance), SourceState(name, bitfield, 0.0, is_fed))

    def read(self, start: int = 0, stop: int | None = None, reader_id: int = 1) -> list[Command]:
        return self.tell(ReaderOpened(reader_id, ByteSpan(start, stop or self.swarm.layout.size_bytes)))

    def arrive(self, run_id: int, count: int = 1) -> list[Command]:
        out = []
        for _ in range(count):
            source_id, pieces = self.runs[run_id]
            piece, rest = pieces[0], pieces[1:]
            self.runs[run_id] = (source_id, rest)
            if not rest:
                del self.runs[run_id]
            out += self.tell(PieceArrived(run_id, piece))
        return out

    def fail(self, run_id: int, failure: Failure) -> list[Command]:
        del self.runs[run_id]
        return self.tell(RunFailed(run_id, failure))

    def wait(self, seconds: float) -> list[Command]:
        out = []
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            out += self.tell(Timer())
        return out

    def asked(self, name: str) -> list[int]:
        return sorted(
            piece for source_id, pieces in self.runs.values() if source_id == name for piece in pieces
        )

    def bring_all(self) -> None:
        """All runs bring all."""
        while self.runs:
            self.arrive(min(self.runs))
