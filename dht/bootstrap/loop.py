"""When to ask which bootstrap source, and what is wrong when nobody was found.

Rules
1. Every source is followed by itself: one that hangs or fails delays no other.
2. Alone, a source is asked again after a pause that doubles up to `bootstrap_alone_s`; with members every
   `bootstrap_joined_s`, for ever: two islands that can reach each other again merge by that.
3. Saved peers are pinged only while there is nobody else.

Pings whom the sources name, and leaves what a ping teaches to the caller.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial

from dht.bootstrap.sources import Source, SourceFailed
from dht.endpoints import Endpoint
from dht.params import Params

log = logging.getLogger(__name__)

# What one source makes us send at once.
PINGS_PARALLEL_COUNT = 16
# Who starts with its whole cluster finds nobody yet, perhaps not even the name: no trouble in the first seconds.
TROUBLE_AFTER_COUNT = 3
# Pauses are varied by up to this share, up and down: hosts that started together drift apart.
JITTER = 0.25

_SAVED = "saved peers"


def _nobody() -> AbstractSet[Endpoint]:
    return frozenset()


def _never(found: Endpoint) -> bool:
    del found
    return False


@dataclass(frozen=True, slots=True)
class _Trouble:
    """`is_silence`: it named somebody, and nobody answered."""

    text: str
    is_silence: bool
    rounds_count: int


class Bootstrap:
    """`ping` says whether the endpoint answered; `members_count` leaves this node out. `known` gives the members'
    endpoints, and is asked once a round. `is_own`: an endpoint of this very node, which cannot answer and is no sign of
    trouble."""

    def __init__(
        self,
        sources: Sequence[Source],
        saved: Sequence[Endpoint],
        ping: Callable[[Endpoint], Awaitable[bool]],
        members_count: Callable[[], int],
        params: Params,
        rng: random.Random,
        *,
        known: Callable[[], AbstractSet[Endpoint]] = _nobody,
        is_own: Callable[[Endpoint], bool] = _never,
    ) -> None:
        self._sources = tuple(sources)
        self._saved = tuple(dict.fromkeys(saved))
        self._ping = ping
        self._members_count = members_count
        self._params = params
        self._rng = rng
        self._known = known
        self._is_own = is_own
        self._troubles: dict[str, _Trouble] = {}
        self._logged: dict[str, str] = {}
        self._unasked = {str(source) for source in self._sources} | ({_SAVED} if self._saved else set())
        self._asked = asyncio.Event()
        if not self._unasked:
            self._asked.set()

    @property
    def trouble(self) -> str | None:
        """In words for an operator: what is wrong and what to check. Someone who does not answer is no trouble while
        others do."""
        texts = [self._text(name) for name in self._troubles]
        return "; ".join(dict.fromkeys(text for text in texts if text)) or None

    @property
    def has_asked(self) -> bool:
        """Every source was asked once, and whoever it named has answered or was waited for. A node without members is
        alone from then on, and not before."""
        return self._asked.is_set()

    async def asked(self) -> None:
        await self._asked.wait()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._saved:
                tasks.create_task(self._follow(self._round_of_saved))
            for source in self._sources:
                tasks.create_task(self._follow(partial(self._round, source)))

    async def _follow(self, ask: Callable[[], Awaitable[None]]) -> None:
        pause_s = self._params.bootstrap_backoff_start_s
        while True:
            await ask()
            if self._members_count():
                await self._rest_while_joined()
                pause_s = self._params.bootstrap_backoff_start_s
            else:
                await asyncio.sleep(self._jittered(pause_s))
                pause_s = min(2 * pause_s, self._params.bootstrap_alone_s)

    async def _round_of_saved(self) -> None:
        await self._ping_all(self._saved, only_while_alone=True)
        self._was_asked(_SAVED)

    async def _round(self, source: Source) -> None:
        name = str(source)
        try:
            found = await source.endpoints(self._known())
        except SourceFailed as exc:
            self._in_trouble(name, str(exc), is_silence=False)
        else:
            answered_count = await self._ping_all(found)
            if answered_count or all(map(self._is_own, found)):
                self._troubles.pop(name, None)
            else:
                text = (
                    f"nobody answers at {name}; check that a node runs there, that its UDP port is open, and that "
                    f"cluster name and secret are the same"
                )
                self._in_trouble(name, text, is_silence=True)
        self._was_asked(name)
        self._log(name)

    async def _ping_all(self, found: Sequence[Endpoint], *, only_while_alone: bool = False) -> int:
        answered_count = 0
        for start in range(0, len(found), PINGS_PARALLEL_COUNT):
            if only_while_alone and self._members_count():
                break
            async with asyncio.TaskGroup() as tasks:
                pings = [
                    tasks.create_task(self._answers(one))
                    for one in found[start : start + PINGS_PARALLEL_COUNT]
                ]
            answered_count += sum(ping.result() for ping in pings)
        return answered_count

    async def _answers(self, found: Endpoint) -> bool:
        return await self._ping(found)

    async def _rest_while_joined(self) -> None:
        """Ends early when all members are gone."""
        left_s = self._jittered(self._params.bootstrap_joined_s)
        while left_s > 0 and self._members_count():
            slice_s = min(left_s, self._jittered(self._params.bootstrap_alone_s))
            await asyncio.sleep(slice_s)
            left_s -= slice_s

    def _jittered(self, pause_s: float) -> float:
        return pause_s * (1 - JITTER + 2 * JITTER * self._rng.random())

    def _was_asked(self, name: str) -> None:
        self._unasked.discard(name)
        if not self._unasked:
            self._asked.set()

    def _in_trouble(self, name: str, text: str, *, is_silence: bool) -> None:
        last = self._troubles.get(name)
        self._troubles[name] = _Trouble(text, is_silence, 1 if last is None else last.rounds_count + 1)

    def _text(self, name: str) -> str:
        found = self._troubles.get(name)
        if found is None or found.rounds_count < TROUBLE_AFTER_COUNT:
            return ""
        return "" if found.is_silence and self._members_count() else found.text

    def _log(self, name: str) -> None:
        """Once a change, not once a try."""
        text = self._text(name)
        if text == self._logged.get(name, ""):
            return
        if text:
            log.warning("%s", text)
        else:
            log.info("bootstrap by %s is no trouble any more", name)
        self._logged[name] = text
