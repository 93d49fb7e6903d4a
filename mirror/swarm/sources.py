"""What is known of each source of one blob: its pieces, its rate, its failures. Pure; decides nothing about pieces.

Rules
1. A failure makes a source rest, twice as long each time in a row; a piece that arrives forgives it. SILENT counts
   twice. BUSY is no failure: it rests shortly, by lot, so that those who were sent away do not come back together.
2. ABSENT costs the piece too: it is not asked of that source again until it says anew that it has it. A complete source
   that says so holds nothing any more.
3. A ban lasts twice as long for each earlier one that is not yet forgotten. A source that went and came again keeps its
   rest and its bans.
4. A source with a silent run gets no second one. The number of runs at a source grows with its rate times its round
   trip: one where that is less than half a request, since what waits at a source is under way for longer.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.swarm.bitfield import mask_of
from mirror.swarm.events import Failure, SourceFound, SourceId, SourceKind
from mirror.swarm.params import SwarmParams
from mirror.swarm.rarity import Rarity

# A rate is read from at least so much time with a run under way: shorter samples are noise.
SAMPLE_MIN_S = 0.05
# Weight of the latest round trip (RFC 6298 §2).
RTT_GAIN = 1 / 8
# Beyond, doubling changes nothing.
STREAK_MAX_COUNT = 16
# Our own ingest is nearer than any peer of the zone.
OWN_DISTANCE = -1


class Source:
    """`mask`: its pieces. `distrusted`: pieces that are to come from somebody else, because they came wrong once."""

    __slots__ = (
        "_sample_bytes",
        "_sample_s",
        "_sampled_at",
        "ban_count",
        "banned_at",
        "banned_until",
        "busy_count",
        "distance",
        "distrusted",
        "failure_count",
        "is_complete",
        "is_fed_from_origin",
        "is_present",
        "kind",
        "load_ratio",
        "mask",
        "rate_bytes_per_s",
        "rests_until",
        "rtt_s",
        "run_count",
        "silent_count",
        "source_id",
    )

    def __init__(self, source_id: SourceId) -> None:
        self.source_id = source_id
        self.kind = SourceKind.PEER
        self.distance = 0
        self.mask = 0
        self.is_present = False
        self.is_complete = False
        self.is_fed_from_origin = False
        self.load_ratio = 0.0
        self.rate_bytes_per_s = 0.0
        self.rtt_s = 0.0
        self.failure_count = 0
        self.busy_count = 0
        self.rests_until = -math.inf
        self.ban_count = 0
        self.banned_at = -math.inf
        self.banned_until = -math.inf
        self.distrusted = 0
        self.run_count = 0
        self.silent_count = 0
        self._sample_bytes = 0
        self._sample_s = 0.0
        self._sampled_at = -math.inf

    def is_usable(self, now: float) -> bool:
        return (
            self.is_present
            and self.silent_count == 0
            and self.rests_until <= now
            and self.banned_until <= now
        )

    def runs_max_count(self, run_bytes: float, limit_count: int) -> int:
        """Rule 4. `run_bytes`: what a request asks for."""
        if self.rate_bytes_per_s == 0:
            return 1
        under_way_count = self.rate_bytes_per_s * self.rtt_s / run_bytes
        return min(limit_count, 1 + math.floor(under_way_count + 0.5))

    def rank(self) -> tuple[int, int, float, float]:
        """The least is asked first."""
        return self.distance, self.failure_count, self.load_ratio, -self.rate_bytes_per_s

    def asked(self, now: float) -> None:
        if self.run_count == 0:
            self._sampled_at = now
        self.run_count += 1

    def answered(self, rtt_s: float) -> None:
        """The first bytes of a run came."""
        self.rtt_s += (rtt_s - self.rtt_s) * (RTT_GAIN if self.rtt_s else 1)

    def brought(self, count_bytes: int, now: float, memory_s: float) -> None:
        self._sample_bytes += count_bytes
        self._sample_s += now - self._sampled_at
        self._sampled_at = now
        if self._sample_s < SAMPLE_MIN_S:
            return
        rate = self._sample_bytes / self._sample_s
        weight = 1 - math.exp(-self._sample_s / memory_s) if self.rate_bytes_per_s else 1
        self.rate_bytes_per_s += (rate - self.rate_bytes_per_s) * weight
        self._sample_bytes = 0
        self._sample_s = 0.0

    def forgiven(self) -> None:
        self.failure_count = 0
        self.busy_count = 0


@dataclass(frozen=True, slots=True)
class Reach:
    """What peers that may be of use have together: which pieces, whether one has all of them, and whether one gets more
    of them from the origin."""

    mask: int
    is_complete: bool
    is_fed_from_origin: bool


class Sources:
    def __init__(self, piece_count: int, params: SwarmParams, rng: random.Random) -> None:
        self._all = mask_of(0, piece_count)
        self._params = params
        self._rng = rng
        self._by_id: dict[SourceId, Source] = {}
        self._present: dict[SourceId, Source] = {}
        # Of partial sources: complete ones make no piece rarer than another.
        self.rarity = Rarity()
        # Whether some are nearer than others, or fed from the origin: if not, nobody is to be spared.
        self.is_level = True
        self.has_own_ingest = False
        # Whoever rests may be asked again by then.
        self._resting_until = -math.inf
        # Counts all that `reach` is made of, but for the time.
        self.version = 0

    def __iter__(self) -> Iterator[Source]:
        """Those that are present, the first found first."""
        return iter(self._present.values())

    def __len__(self) -> int:
        return len(self._present)

    def get(self, source_id: SourceId) -> Source | None:
        """Also one that went; None for one never found."""
        return self._by_id.get(source_id)

    def present(self, source_id: SourceId) -> Source | None:
        return self._present.get(source_id)

    # -- what they hold --------------------------------------------------------------------------------------------

    def found(self, event: SourceFound) -> Source | None:
        """None: there are too many."""
        source = self._present.get(event.source_id)
        if source is None:
            if len(self._present) >= self._params.sources_max_count:
                return None
            source = self._by_id.setdefault(event.source_id, Source(event.source_id))
            self._forget_gone()
            source.is_present = True
            self._present[event.source_id] = source
        source.kind = event.kind
        source.distance = OWN_DISTANCE if event.kind is SourceKind.OWN_INGEST else event.zone_distance
        self.version += 1
        if event.is_complete:
            self.holds(source, self._all)
        self._level()
        return source

    def described(self, source: Source, load_ratio: float, is_fed_from_origin: bool) -> None:
        source.load_ratio = load_ratio
        if source.is_fed_from_origin != is_fed_from_origin:
            source.is_fed_from_origin = is_fed_from_origin
            self.version += 1
            self._level()

    def holds(self, source: Source, mask: int) -> None:
        """Exactly these."""
        if mask == source.mask:
            return
        self.version += 1
        if not source.is_complete:
            self.rarity.remove(source.mask & ~mask)
            if mask != self._all:
                self.rarity.add(mask & ~source.mask)
            else:
                self.rarity.remove(source.mask & mask)
        elif mask != self._all:
            self.rarity.add(mask)
        source.mask = mask
        source.is_complete = bool(mask) and mask == self._all

    def gone(self, source: Source) -> None:
        self.holds(source, 0)
        self.version += 1
        source.is_present = False
        source.is_fed_from_origin = False
        source.load_ratio = 0.0
        del self._present[source.source_id]
        self._level()

    def _level(self) -> None:
        present = list(self._present.values())
        self.has_own_ingest = any(source.kind is SourceKind.OWN_INGEST for source in present)
        self.is_level = len({source.distance for source in present}) <= 1 and not any(
            source.is_fed_from_origin or source.kind is SourceKind.ORIGIN for source in present
        )

    def _forget_gone(self) -> None:
        """As many are remembered as may be present; the longest known of those who went is forgotten first."""
        excess_count = len(self._by_id) - 2 * self._params.sources_max_count
        if excess_count > 0:
            gone = [source_id for source_id, source in self._by_id.items() if not source.is_present]
            gone.sort(key=lambda source_id: self._by_id[source_id].banned_until)
            for source_id in gone[:excess_count]:
                del self._by_id[source_id]

    # -- who may be asked ------------------------------------------------------------------------------------------

    def tick_s(self, now: float) -> float:
        """How long from now the clock need not be looked at, while nothing is under way."""
        return self._params.tick_s if self._resting_until > now else self._params.tick_busy_s

    def usable(self, now: float) -> list[Source]:
        return [source for source in self._present.values() if source.is_usable(now)]

    def held_by_better(self, source: Source, now: float) -> int:
        """Pieces that others should bring: those who are nearer, and for a source that is fed from the origin those
        who are not. Its uplink is the one that all depend on."""
        mask = 0
        is_spared = source.is_fed_from_origin
        is_last = source.kind is SourceKind.ORIGIN
        for other in self._present.values():
            if other is source or not other.is_usable(now):
                continue
            if (
                is_last
                or other.distance < source.distance
                or (is_spared and other.distance == source.distance and not other.is_fed_from_origin)
            ):
                mask |= other.mask & ~other.distrusted
        return mask

    def is_useless(self, source: Source, now: float) -> bool:
        """It lied, was asked in vain again and again, or does not have what it said it has: nobody should wait for it,
        though it may be asked once more."""
        has_nothing = source.failure_count > 0 and not source.mask
        is_failing = source.failure_count >= self._params.useless_failures_count
        return source.banned_until > now or is_failing or has_nothing

    # -- what they did ---------------------------------------------------------------------------------------------

    def failed(self, source: Source, failure: Failure, piece: int, now: float) -> None:
        """`piece`: the one that was under way."""
        params = self._params
        if failure is Failure.BUSY:
            rest_s = min(params.busy_rest_s * 2.0**source.busy_count, params.busy_rest_max_s)
            source.busy_count = min(source.busy_count + 1, STREAK_MAX_COUNT)
            self._rests(source, now + rest_s * (0.5 + self._rng.random() / 2))
            return
        self.version += 1
        if failure is Failure.ABSENT:
            self.holds(source, 0 if source.is_complete else source.mask & ~(1 << piece))
        elif failure is Failure.WRONG_SIZE:
            self.holds(source, 0)
        rest_s = min(params.failure_rest_s * 2.0**source.failure_count, params.failure_rest_max_s)
        # Silence took long to find already: who waits has no time for another.
        count = 2 if failure is Failure.SILENT else 1
        source.failure_count = min(source.failure_count + count, STREAK_MAX_COUNT)
        self._rests(source, now + rest_s)

    def _rests(self, source: Source, until: float) -> None:
        source.rests_until = max(source.rests_until, until)
        self._resting_until = max(self._resting_until, until)

    def forgive(self, source: Source) -> None:
        """A piece of it arrived."""
        if source.failure_count or source.busy_count:
            source.forgiven()
            self.version += 1

    def ban(self, source: Source, now: float) -> float:
        """Until when."""
        params = self._params
        self.version += 1
        if source.ban_count:
            passed_count = int((now - source.banned_at) / params.ban_forget_s)
            source.ban_count = max(0, source.ban_count - passed_count)
        ban_s = min(params.ban_s * 2.0**source.ban_count, params.ban_max_s)
        source.ban_count = min(source.ban_count + 1, STREAK_MAX_COUNT)
        source.banned_at = now
        source.banned_until = now + ban_s
        return source.banned_until

    def trust_again(self, free: int, now: float) -> bool:
        """If nobody else can bring what some are distrusted with. Whether that was so."""
        trusted = distrusted = 0
        for source in self._present.values():
            if source.banned_until <= now:
                trusted |= source.mask & ~source.distrusted
                distrusted |= source.mask & source.distrusted
        if trusted & free or not distrusted & free:
            return False
        for source in self._by_id.values():
            source.distrusted = 0
        return True

    def reach(self, now: float) -> Reach:
        """Of those that are present and may be of use."""
        mask, is_complete, is_fed = 0, False, False
        for source in self._present.values():
            if source.kind is SourceKind.PEER and not self.is_useless(source, now):
                mask |= source.mask
                is_complete = is_complete or source.is_complete
                is_fed = is_fed or source.is_fed_from_origin
        return Reach(mask, is_complete, is_fed)

    def witnesses(self, now: float) -> tuple[SourceId, ...]:
        """Who is to say what its pieces are. Who holds the most knows the most; among equals by lot."""
        peers = [
            source
            for source in self._present.values()
            if source.kind is SourceKind.PEER and source.banned_until <= now and source.mask
        ]
        self._rng.shuffle(peers)
        peers.sort(key=lambda source: -source.mask.bit_count())
        return tuple(source.source_id for source in peers[: self._params.blame_ask_count])

    def check(self) -> None:
        counts = Rarity()
        for source in self._present.values():
            assert source.is_present and 0 <= source.mask <= self._all
            assert source.is_complete == (source.mask == self._all != 0)
            assert 0 <= source.silent_count <= source.run_count
            if not source.is_complete:
                counts.add(source.mask)
        for piece in range(self._all.bit_length()):
            assert counts.count(piece) == self.rarity.count(piece), piece
        assert len(self._present) <= self._params.sources_max_count
        assert len(self._by_id) <= 3 * self._params.sources_max_count
        for source in self._by_id.values():
            assert source.is_present == (source.source_id in self._present)
            assert source.is_present or (source.run_count == 0 and source.mask == 0)
