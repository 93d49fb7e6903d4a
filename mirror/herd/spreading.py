"""Carries out `mirror.swarm.offers` for one digest: asks it whenever something changed, here or with another digest of
this host, and when its time has come.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from mirror.herd.alarm import Alarm
from mirror.swarm.events import SourceId
from mirror.swarm.lending import Lending
from mirror.swarm.offers import Offers
from mirror.swarm.params import SwarmParams


class Spreading:
    """`due` is called when offers changed by time or by another digest alone. `lending` is that of this host."""

    def __init__(
        self,
        params: SwarmParams,
        rng: random.Random,
        clock: Callable[[], float],
        due: Callable[[], None],
        lending: Lending[Spreading],
    ) -> None:
        self._lending = lending
        self._offers: Offers[SourceId] = Offers(params, rng)
        self._clock = clock
        self._due = due
        self._own = 0
        self._is_fed = False
        self._is_lost = False
        self._is_closed = False
        self._alarm = Alarm(clock, self._time_has_come)

    @property
    def is_careful(self) -> bool:
        """Not everybody is told of everything."""
        return self._offers.is_careful

    def joined(self, name: SourceId) -> None:
        self._offers.joined(name)
        self._look()

    def left(self, name: SourceId) -> None:
        self._offers.left(name)
        self._look()

    def has(self, name: SourceId, mask: int, *, is_fed: bool) -> None:
        self._offers.has(name, mask, self._clock(), is_fed=is_fed)
        if self.is_careful:
            self._look()
            # Others may be told of more now, and nothing else happens at a host that has all.
            self._due()

    def holds(self, own: int, *, is_fed_from_origin: bool, is_whole: bool) -> None:
        """What this host has now. `is_whole`: that is all of the blob."""
        self._own, self._is_fed = own, is_fed_from_origin
        self._is_lost = not (is_fed_from_origin or is_whole)
        self._look()

    def told(self, name: SourceId) -> int:
        """What this neighbour may be told of."""
        return self._offers.told(name)

    def close(self) -> None:
        self._is_closed = True
        self._alarm.set(None)
        self._tell_others(self._lending.left(self))

    def _look(self) -> None:
        if self._is_closed:
            return
        was_careful, now = self.is_careful, self._clock()
        is_needed_elsewhere = self._lending.is_needed_elsewhere(self)
        self._offers.look(
            self._own, self._is_fed, now, is_lost=self._is_lost, is_needed_elsewhere=is_needed_elsewhere
        )
        if was_careful and not self.is_careful:
            # All are to hear of all, in a turn of its own: this may be amid an event.
            self._alarm.set(now)
        else:
            self._alarm.set(self._offers.next_timer() if self.is_careful else None)
        self._tell_others(self._lending.told(self, self._offers.is_needed))

    def _tell_others(self, others: list[Spreading]) -> None:
        """In their own turn: this may be amid an event."""
        for other in others:
            if other.is_careful:
                other._alarm.set(other._clock())

    def _time_has_come(self) -> None:
        self._look()
        self._due()
