"""Which pieces to ask one source for. Pure; keeps nothing.

Rules, the first that finds a piece holds. Only what is free and what the source holds is considered.
1. What a reader has waited for.
2. Now and then the readers' windows, else anything; of these the rarest, by lot among equals. Where all sources are
   complete there is nothing to keep diverse: the first. A source whose bytes cost more than another's (another zone,
   fed from the origin) is asked only for what no better one holds ...
3. ... or for what readers want now. The registry not even for that.
One piece is asked for at a time while sources are partial: larger requests make a herd slower. The only source is asked
for all that is free in a row, as one stream, once its rate is known; complete ones among themselves for what takes them
about half a second, and for less towards the end.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mirror.swarm.bitfield import lowest, ones_from, some_piece
from mirror.swarm.events import SourceKind
from mirror.swarm.params import SwarmParams
from mirror.swarm.pieces import PieceLayout
from mirror.swarm.rarity import Rarity
from mirror.swarm.sources import Source


@dataclass(slots=True)
class Wanted:
    """What may be asked for now: masks of pieces, and how many may be added to the spool; beyond that only what is
    `near` a reader. `peers_count` sources may be asked; `is_sole`: there is one; `is_warm`: all are complete."""

    free: int
    window: int
    urgent: int
    near: int
    peers_count: int
    is_sole: bool
    is_warm: bool
    room_count: int


class Picker:
    def __init__(self, layout: PieceLayout, params: SwarmParams, rng: random.Random) -> None:
        self._layout = layout
        self._params = params
        self._rng = rng

    def pick(self, source: Source, wanted: Wanted, spared: int, rarity: Rarity) -> range | None:
        """`spared`: what better sources hold. None: nothing of it is to be asked of this source now."""
        open_to_all = source.mask & wanted.free & ~source.distrusted
        window = open_to_all & wanted.window
        if not open_to_all:
            return None
        if wanted.is_sole or source.kind is SourceKind.OWN_INGEST:
            first = lowest(window or open_to_all)
            count = min(ones_from(open_to_all, first), max(1, wanted.room_count))
            if source.rate_bytes_per_s == 0:
                count = min(count, max(1, self._params.run_first_bytes // self._layout.piece_bytes))
            return range(first, first + count)
        allowed = open_to_all & ~spared
        is_last_resort = source.kind is SourceKind.ORIGIN
        urgent = (allowed if is_last_resort else open_to_all) & wanted.urgent
        if urgent:
            return range(lowest(urgent), lowest(urgent) + 1)
        chosen = allowed & window
        if not chosen or self._rng.random() >= self._params.window_ratio:
            chosen = allowed or (0 if is_last_resort else window)
        if not chosen:
            return None
        if wanted.is_warm:
            first = lowest(chosen)
            return range(first, first + min(ones_from(chosen, first), self._run_pieces_count(source, wanted)))
        first = some_piece(rarity.rarest(chosen), self._rng)
        return range(first, first + 1)

    def _run_pieces_count(self, source: Source, wanted: Wanted) -> int:
        run_bytes = min(source.rate_bytes_per_s * self._params.run_duration_s, self._params.run_max_bytes)
        share_count = wanted.free.bit_count() // (self._params.run_shares_count * wanted.peers_count)
        return max(1, min(int(run_bytes) // self._layout.piece_bytes, share_count))
