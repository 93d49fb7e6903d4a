"""Whose own word is waited for before it is asked for what others say that it holds. Knows no pieces.

A provider's own word comes a round trip after the call, and may be that others should be asked first
(`mirror.swarm.offers`). Who says nothing in time is taken at the others' word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mirror.herd.runs import Spawn
from mirror.swarm.events import SourceId

OWN_WORD_S = 0.2


class OwnWords:
    """`said_nothing` is called of each who was expected to speak and will not, or did not in time."""

    def __init__(self, spawn: Spawn, said_nothing: Callable[[SourceId], None]) -> None:
        self._spawn = spawn
        self._said_nothing = said_nothing
        self._awaited: set[SourceId] = set()

    def __contains__(self, source_id: SourceId) -> bool:
        return source_id in self._awaited

    def expect(self, source_id: SourceId) -> None:
        self._awaited.add(source_id)
        self._spawn(self._wait(source_id))

    def came(self, source_id: SourceId) -> None:
        self._awaited.discard(source_id)

    def will_not_come(self, source_id: SourceId) -> None:
        if source_id in self._awaited:
            self._awaited.discard(source_id)
            self._said_nothing(source_id)

    async def _wait(self, source_id: SourceId) -> None:
        await asyncio.sleep(OWN_WORD_S)
        self.will_not_come(source_id)
