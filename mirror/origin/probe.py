"""Asks an origin what it shows to anybody, at most once in ten seconds for each reference. Holds no credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from mirror.origin.base import Origin, Probed, Repository, Standing
from mirror.origin.errors import (
    OriginAbsent,
    OriginError,
    OriginForbidden,
    OriginRateLimited,
    OriginRefused,
)
from mirror.origin.flights import Flights
from mirror.origin.memory import OriginMemory

# A client waits for the answer, after his own question to the registry has failed: long enough for a slow token server,
# short enough for a user who watches. With the wait for a turn it is 5 s in all.
DEADLINE_S: Final = 4.0
TURN_WAIT_S: Final = 1.0
# A herd of pods on a host asks for one tag within seconds; who pushes and pulls again at once may see the old one so
# long.
REMEMBER_S: Final = 10.0
# About 1 MiB. Of more, the oldest are forgotten, and asked again.
REMEMBERED_MAX_COUNT: Final = 1024
# Questions under way at a time: any process on this host can cause one, and the registry counts them all as ours.
UNDER_WAY_MAX_COUNT: Final = 16
# A registry whose packets are lost costs seconds each time. After a failure that took so long it counts as failing
# for a while, unasked: a user's pull waits behind the question.
SLOW_S: Final = 1.0
SILENT_S: Final = 30.0
REGISTRIES_MAX_COUNT: Final = 256
# What an origin says of itself goes to the log.
DETAIL_MAX_LENGTH: Final = 200

_Key = tuple[Repository, str]


class OriginProbe:
    """Implements Prober. `clock` is monotonic seconds, `wall` seconds since 1970."""

    def __init__(
        self,
        origin: Origin,
        memory: OriginMemory,
        clock: Callable[[], float],
        wall: Callable[[], float],
        deadline_s: float = DEADLINE_S,
        turn_wait_s: float = TURN_WAIT_S,
        under_way_max_count: int = UNDER_WAY_MAX_COUNT,
    ) -> None:
        self._origin = origin
        self._memory = memory
        self._clock = clock
        self._wall = wall
        self._deadline_s = deadline_s
        self._turn_wait_s = turn_wait_s
        self._turns = asyncio.Semaphore(under_way_max_count)
        # By registry.
        self._silent_until_s: dict[str, float] = {}
        # The oldest first.
        self._remembered: dict[_Key, tuple[float, Probed]] = {}
        self._flights: Flights[_Key, Probed] = Flights()

    async def probe(self, repository: Repository, reference: str) -> Probed:
        key = (repository, reference)
        remembered_at_s, probed = self._remembered.get(key, (0.0, None))
        if probed is not None and self._clock() - remembered_at_s < REMEMBER_S:
            return probed
        return await self._flights.share(key, lambda: self._ask(key))

    async def _ask(self, key: _Key) -> Probed:
        # A time of its own: a turn that comes late would leave the registry no time, and look like its failure.
        try:
            async with asyncio.timeout(self._turn_wait_s):
                await self._turns.acquire()
        except TimeoutError:
            # It says nothing about the registry, and is not remembered.
            return Probed(Standing.NOT_ASKED, None, "too many questions were under way")
        registry = key[0].registry
        try:
            begun_at_s = self._clock()
            if begun_at_s < self._silent_until_s.get(registry, begun_at_s):
                return Probed(Standing.FAILING, None, "did not answer lately, and was not asked again")
            probed = await self._put(*key)
        finally:
            self._turns.release()
        if probed.standing is Standing.FAILING and self._clock() - begun_at_s >= SLOW_S:
            self._silent_until_s[registry] = self._clock() + SILENT_S
        else:
            self._silent_until_s.pop(registry, None)
        if len(self._silent_until_s) > REGISTRIES_MAX_COUNT:
            del self._silent_until_s[next(iter(self._silent_until_s))]
        self._remembered.pop(key, None)
        self._remembered[key] = (self._clock(), probed)
        if len(self._remembered) > REMEMBERED_MAX_COUNT:
            del self._remembered[next(iter(self._remembered))]
        self._memory.note(*key, probed.standing, self._wall())
        return probed

    async def _put(self, repository: Repository, reference: str) -> Probed:
        try:
            async with asyncio.timeout(self._deadline_s):
                head = await self._origin.head(repository, reference, is_anonymous=True)
        except TimeoutError:
            return Probed(Standing.FAILING, None, f"no answer within {self._deadline_s:g} s")
        except OriginError as exc:
            return Probed(_standing(exc), None, str(exc)[:DETAIL_MAX_LENGTH])
        return Probed(Standing.PUBLIC, head)


def _standing(error: OriginError) -> Standing:
    match error:
        case OriginRefused():
            return Standing.REFUSED
        case OriginAbsent():
            return Standing.ABSENT
        case OriginRateLimited():
            return Standing.RATE_LIMITED
        case OriginForbidden():
            return Standing.NOT_ASKED
        case _:
            # Nonsense, too: what is not the registry API is not a registry that answers.
            return Standing.FAILING
