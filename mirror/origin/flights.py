"""One question at a time: whoever asks what is being asked already waits for that answer.

The first asker does the work in its own task. If it is cancelled, one of those who wait asks again. Nothing is
remembered after the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mirror.errors import MirrorError

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Answered(Generic[Value]):
    value: Value


class Flights(Generic[Key, Value]):
    def __init__(self) -> None:
        # None: it was given up without an answer.
        self._under_way: dict[Key, asyncio.Future[_Answered[Value] | MirrorError | None]] = {}

    async def share(self, key: Key, ask: Callable[[], Awaitable[Value]]) -> Value:
        """Raises: what `ask` raises, to everybody who waits where it is a MirrorError."""
        while (running := self._under_way.get(key)) is not None:
            # A waiter that is cancelled must not cancel what the others wait for.
            outcome = await asyncio.shield(running)
            if isinstance(outcome, _Answered):
                return outcome.value
            if outcome is not None:
                raise outcome
        future = asyncio.get_running_loop().create_future()
        self._under_way[key] = future
        outcome = None
        try:
            value = await ask()
            outcome = _Answered(value)
            return value
        except MirrorError as exc:
            outcome = exc
            raise
        finally:
            del self._under_way[key]
            future.set_result(outcome)
