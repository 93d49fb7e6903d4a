"""Which neighbour a host that gets a blob from the origin tells of which piece. Pure; sends nothing.

All of the herd depends on what this host lends: nobody else has it, and its uplink is hardly faster than the origin.
If it told all neighbours of each piece at once, they would all fetch the same ones from it, and the new ones would
wait. So it shows each piece to one of them, who passes it on (BitTorrent calls that super-seeding, BEP 16).

Rules
1. A new piece is offered to the neighbour with the fewest open offers, by lot among equals. An offer is open until a
   neighbour says that he has the piece.
2. So many offers are open as keep the uplink busy until the next news. If there are too few new pieces for that, as
   with an origin that is slower than the uplink, a piece that few neighbours have is offered once more.
3. An offer that stays open for long is made to another one. He who let it stay comes behind the others.
4. When the origin has brought all, this goes on until the neighbours have all, or for `offers_after_s`. Then, as at
   any host that is not fed from the origin, everybody may be told of everything; and at once where the origin was lost
   on the way, since neighbours tell this host no more what they have.
5. While the uplink is needed for another blob, whose neighbours lack what nobody else has, this goes on, and no piece
   is offered once more but to a neighbour who gets nothing elsewhere: what the neighbours have among them is theirs to
   pass on to a newcomer. A blob needs the uplink for `offers_after_s` after its origin's end at most: two that wait for
   each other end.
6. What a neighbour has who is fed from the origin himself is offered as if nobody had it, but not to him: he tells few
   of it, and another host reads it from the origin only where he is slow, or cannot be reached.
7. What was told is never taken back, and whoever asks for more than he was told of is to be served.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from mirror.swarm.bitfield import pieces_of, some_piece
from mirror.swarm.params import SwarmParams
from mirror.swarm.rarity import Rarity

N = TypeVar("N", bound=Hashable)

# Weight of the latest sample of how long an offer is open (RFC 6298 §2).
OPEN_GAIN = 1 / 8


@dataclass(slots=True)
class _Neighbour:
    """`has`: what he said, `counted`: as much of it as others get from him. `told`: what he was told, or may be.
    `open`: offered and not had by anybody, and since when. `ignored_count`: offers in a row that he let stay open.
    `grew_at`: when he last had more."""

    has: int = 0
    counted: int = 0
    told: int = 0
    open: dict[int, float] = field(default_factory=dict)
    ignored_count: int = 0
    grew_at: float = -math.inf


class Offers(Generic[N]):
    """Of one blob. `N` names a neighbour. `look` is called whenever the host has more, a neighbour has more, or
    `next_timer` has passed; `told` then says what each may be told."""

    def __init__(self, params: SwarmParams, rng: random.Random) -> None:
        self._params = params
        self._rng = rng
        self._neighbours: dict[N, _Neighbour] = {}
        self._own = 0
        self._is_fed = False
        self._is_needed_elsewhere = False
        # Neighbours lack what nobody else has, or soon will. Changes in `look` alone.
        self.is_needed = False
        # Not everybody is told of everything (rule 4). Changes in `look` alone; what follows counts meanwhile.
        self.is_careful = False
        self._rarity = Rarity()
        # When the origin began to bring pieces, and how many were there before.
        self._fed_at = -math.inf
        self._fed_from_count = 0
        self._ended_at = math.inf
        # Pieces of open offers; and those that a neighbour has, too.
        self._open = 0
        self._placed = 0
        # How long an offer is open, as a rule; at least, of those that were too late.
        self._open_s = 0.0

    # -- neighbours ------------------------------------------------------------------------------------------------

    def joined(self, name: N) -> None:
        self._neighbours.setdefault(name, _Neighbour())

    def left(self, name: N) -> None:
        gone = self._neighbours.pop(name, None)
        if gone is not None and self.is_careful:
            self._rarity.remove(gone.counted)
            self._place()

    def has(self, name: N, mask: int, now: float, *, is_fed: bool = False) -> None:
        """All that he has. `is_fed`: from the origin, as this host."""
        neighbour = self._neighbours.get(name)
        if neighbour is None:
            return
        if mask & ~neighbour.has or neighbour.grew_at == -math.inf:
            neighbour.grew_at = now
        counted = 0 if is_fed else mask
        new, lost = counted & ~neighbour.counted, neighbour.counted & ~counted
        neighbour.has, neighbour.counted = mask, counted
        if not self.is_careful:
            return
        self._rarity.remove(lost)
        self._rarity.add(new)
        if new & self._open:
            self._had(neighbour, new, now)
        if lost:
            self._place()
        self._placed |= new

    # -- what they may be told -------------------------------------------------------------------------------------

    def told(self, name: N) -> int:
        """What he may be told of, and what he was told of before."""
        neighbour = self._neighbours.get(name)
        if neighbour is None:
            return 0
        if not self.is_careful:
            neighbour.told |= self._own
        return neighbour.told

    def look(
        self, own: int, is_fed: bool, now: float, *, is_lost: bool = False, is_needed_elsewhere: bool = False
    ) -> None:
        """`own`: what this host holds, `is_fed`: from the origin, now. `is_lost`: it is not, and not all is here.
        `is_needed_elsewhere`: `is_needed` of another blob of this host."""
        count = own.bit_count()
        if is_fed and not self._is_fed:
            self._begin(count)
        elif self._is_fed and not is_fed:
            self._ended_at = now
        if count <= self._fed_from_count:
            # The origin has brought nothing yet.
            self._fed_at = now
        self._own, self._is_fed, self._is_needed_elsewhere = own, is_fed, is_needed_elsewhere
        # Whether it still depends on this host, once the origin has brought all.
        is_after = self.is_careful and not (is_fed or is_lost) and now < self._careful_until()
        is_wanted = is_after and self._lacking() != 0
        self.is_needed = bool(self._neighbours) and (is_fed or is_wanted)
        if self.is_careful and (is_lost or not (is_fed or is_wanted or is_needed_elsewhere)):
            self._end()
        if not self.is_careful:
            return
        self._withdraw_late(now)
        open_count = self._open_count()
        for piece in pieces_of(own & ~self._placed):
            if open_count >= self._open_max_count(now):
                return
            if self._offer(piece, now):
                open_count += 1
        while open_count < self._params.offers_again_count and self._offer_again(now):
            open_count += 1

    def next_timer(self) -> float | None:
        """When an offer has been open for too long, or all this is over."""
        if not self.is_careful:
            return None
        times = [min(one.open.values()) + self._late_s() for one in self._neighbours.values() if one.open]
        if self._is_sparing and self._open_count() < self._params.offers_again_count:
            times += [self._starves_at(one) for one in self._idle() if self._useful(one)]
        if not self._is_fed and (self.is_needed or not self._is_sparing):
            times.append(self._careful_until())
        return min(times, default=None)

    @property
    def _is_sparing(self) -> bool:
        """Rule 5."""
        return self._is_needed_elsewhere and not self._is_fed

    def _open_count(self) -> int:
        return sum(len(one.open) for one in self._neighbours.values())

    def _idle(self) -> list[_Neighbour]:
        return [one for one in self._neighbours.values() if not one.open]

    def _starves_at(self, one: _Neighbour) -> float:
        return max(one.grew_at, self._ended_at) + self._params.offers_starved_s

    def _useful(self, one: _Neighbour) -> int:
        """What he has not, and was not told of."""
        return self._own & ~one.has & ~one.told

    def _careful_until(self) -> float:
        return self._ended_at + self._params.offers_after_s

    def _begin(self, count: int) -> None:
        self._fed_from_count = count
        self._ended_at = math.inf
        for one in self._neighbours.values():
            if not self.is_careful:
                one.told |= self._own
        self.is_careful = True
        self._rarity = Rarity()
        for one in self._neighbours.values():
            self._rarity.add(one.counted)
        self._place()

    def _end(self) -> None:
        self.is_careful = False
        for one in self._neighbours.values():
            one.open.clear()

    # -- offers ----------------------------------------------------------------------------------------------------

    def _open_max_count(self, now: float) -> int:
        params = self._params
        # Nothing is new after its end: those that are left are shown as fast as they came.
        fed_s = max(min(now, self._ended_at) - self._fed_at, params.offers_cover_s)
        new_count = self._own.bit_count() - self._fed_from_count
        return params.offers_min_count + math.ceil(new_count / fed_s * params.offers_cover_s)

    def _late_s(self) -> float:
        return max(self._params.offer_open_min_s, self._params.offer_open_factor * self._open_s)

    def _withdraw_late(self, now: float) -> None:
        late_s = self._late_s()
        is_any = False
        for neighbour in self._neighbours.values():
            for piece in [piece for piece, since in neighbour.open.items() if now - since >= late_s]:
                del neighbour.open[piece]
                neighbour.ignored_count += 1
                is_any = True
        if is_any:
            # Where uplinks are slow, or shared by other blobs, all offers take longer than the first ones did; an offer
            # that is made twice is fetched twice. Once for all that are late together: they are one delay.
            self._was_open(late_s)
            self._place()

    def _offer(self, piece: int, now: float) -> bool:
        best: list[_Neighbour] = []
        least = math.inf
        for one in self._neighbours.values():
            if (one.told | one.has) >> piece & 1:
                continue
            rank = len(one.open) + one.ignored_count
            if rank < least:
                best, least = [one], rank
            elif rank == least:
                best.append(one)
        if not best:
            return False
        self._show(self._rng.choice(best), piece, now)
        return True

    def _offer_again(self, now: float) -> bool:
        idle = self._idle()
        if self._is_sparing:
            idle = [one for one in idle if now >= self._starves_at(one)]
        self._rng.shuffle(idle)
        for one in idle:
            useful = self._useful(one)
            if useful:
                self._show(one, some_piece(self._rarity.rarest(useful), self._rng), now)
                return True
        return False

    def _show(self, neighbour: _Neighbour, piece: int, now: float) -> None:
        neighbour.told |= 1 << piece
        neighbour.open[piece] = now
        self._open |= 1 << piece
        self._placed |= 1 << piece

    def _had(self, neighbour: _Neighbour, new: int, now: float) -> None:
        """These he has: whoever was offered them need not fetch them for the herd's sake."""
        self._open &= ~new
        for other in self._neighbours.values():
            for piece in [piece for piece in other.open if new >> piece & 1]:
                open_s = now - other.open.pop(piece)
                if other is neighbour:
                    other.ignored_count = 0
                    self._was_open(open_s)

    def _was_open(self, for_s: float) -> None:
        self._open_s += (for_s - self._open_s) * (OPEN_GAIN if self._open_s else 1)

    def _lacking(self) -> int:
        """What no neighbour has, if any lacks it."""
        had, lacked = 0, 0
        for one in self._neighbours.values():
            had |= one.counted
            lacked |= self._own & ~one.has
        return lacked & ~had

    def _place(self) -> None:
        self._open = self._placed = 0
        for one in self._neighbours.values():
            self._placed |= one.counted
            for piece in one.open:
                self._open |= 1 << piece
        self._placed |= self._open
