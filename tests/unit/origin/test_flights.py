"""Questions that are shared: one answer for all, an error for all, and nobody hangs when the first gives up."""

from __future__ import annotations

import asyncio

import pytest

from mirror.errors import MirrorError
from mirror.origin.flights import Flights


class Questions:
    def __init__(self) -> None:
        self.count = 0
        self.answer = asyncio.Event()
        self.error: Exception | None = None

    async def ask(self) -> int:
        self.count += 1
        number = self.count
        await self.answer.wait()
        if self.error is not None:
            raise self.error
        return number


async def until_asked(questions: Questions, count: int) -> None:
    async with asyncio.timeout(5):
        while questions.count < count:
            await asyncio.sleep(0)


async def test_one_answer_for_all_and_none_is_remembered() -> None:
    flights: Flights[str, int] = Flights()
    questions = Questions()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(flights.share("a", questions.ask)) for _ in range(10)]
        other = group.create_task(flights.share("b", questions.ask))
        await until_asked(questions, 2)
        questions.answer.set()
    assert [task.result() for task in tasks] == [1] * 10
    assert other.result() == 2
    assert await flights.share("a", questions.ask) == 3


async def test_an_error_is_everybodys() -> None:
    flights: Flights[str, int] = Flights()
    questions = Questions()
    questions.error = MirrorError("no")
    asked = [asyncio.ensure_future(flights.share("a", questions.ask)) for _ in range(3)]
    await until_asked(questions, 1)
    questions.answer.set()
    assert [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == ["no"] * 3
    assert questions.count == 1
    questions.error = None
    assert await flights.share("a", questions.ask) == 2


@pytest.mark.parametrize("leaver", [0, 1])
async def test_who_is_cancelled_leaves_the_others_alone(leaver: int) -> None:
    flights: Flights[str, int] = Flights()
    questions = Questions()
    asked = [asyncio.ensure_future(flights.share("a", questions.ask)) for _ in range(4)]
    await until_asked(questions, 1)
    asked[leaver].cancel()
    await until_asked(questions, 2 if leaver == 0 else 1)
    questions.answer.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(results.pop(leaver), asyncio.CancelledError)
    # The first asker's leaving has one of the others ask again, once.
    assert results == ([2] * 3 if leaver == 0 else [1] * 3)


async def test_a_defect_is_only_the_askers() -> None:
    flights: Flights[str, int] = Flights()
    questions = Questions()
    questions.error = RuntimeError("a defect")
    asked = [asyncio.ensure_future(flights.share("a", questions.ask)) for _ in range(2)]
    await until_asked(questions, 1)
    questions.answer.set()
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError] * 2
    assert questions.count == 2
