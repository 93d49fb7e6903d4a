"""An alarm rings once, at the time that it was set to last, however often that was put off."""

from __future__ import annotations

import asyncio

import pytest

from mirror.herd.alarm import Alarm
from tests.support.virtual_time import run_virtual


@pytest.mark.parametrize(
    ("times", "rings"),
    [
        ([3.0], [3.0]),
        ([3.0, 5.0], [5.0]),
        ([3.0, 5.0, 9.0, 4.0], [4.0]),
        ([3.0, 1.0], [1.0]),
        ([3.0, 1.0, 2.0], [2.0]),
        ([3.0, None], []),
        ([3.0, 5.0, None, 4.0], [4.0]),
        ([3.0, None, 3.0], [3.0]),
        ([-1.0], [0.0]),
    ],
)
def test_it_rings_at_the_last_of_its_times(times: list[float | None], rings: list[float]) -> None:
    async def rung() -> list[float]:
        loop = asyncio.get_running_loop()
        began_at, found = loop.time(), list[float]()
        alarm = Alarm(loop.time, lambda: found.append(round(loop.time() - began_at, 3)))
        for after_s in times:
            alarm.set(None if after_s is None else began_at + after_s)
        await asyncio.sleep(20.0)
        return found

    assert run_virtual(lambda _: rung()) == rings


def test_it_is_put_off_while_it_waits_and_set_anew_when_it_rings() -> None:
    async def rung() -> list[float]:
        loop = asyncio.get_running_loop()
        began_at, found = loop.time(), list[float]()

        def due() -> None:
            found.append(round(loop.time() - began_at, 3))
            if len(found) < 3:
                alarm.set(loop.time() + 1.0)

        alarm = Alarm(loop.time, due)
        for after_s in (1.0, 2.0, 3.0, 4.0):
            alarm.set(began_at + after_s)
            await asyncio.sleep(0.5)
        await asyncio.sleep(20.0)
        return found

    assert run_virtual(lambda _: rung()) == [4.0, 5.0, 6.0]


def test_putting_it_off_makes_no_timer() -> None:
    async def made() -> int:
        loop, count = asyncio.get_running_loop(), 0
        call_later = loop.call_later

        def counting(*words: object) -> asyncio.TimerHandle:
            nonlocal count
            count += 1
            return call_later(*words)  # type: ignore[arg-type]

        loop.call_later = counting  # type: ignore[method-assign,assignment]
        alarm = Alarm(loop.time, lambda: None)
        for number in range(1000):
            alarm.set(loop.time() + 5.0 + number)
        return count

    assert run_virtual(lambda _: made()) == 1
