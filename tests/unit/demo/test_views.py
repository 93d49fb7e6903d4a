"""What a watcher sees of a phase: in lines and in a table, at 80 columns."""

from __future__ import annotations

import asyncio
import io
import os
import re

import pytest
from rich.console import Console

from mirror.demo.errors import DemoFailed
from mirror.demo.lines import HEARTBEAT_S, LinesView
from mirror.demo.progress import HostProgress, PhaseProgress
from mirror.demo.table import TableView

MIB = 2**20


def half_way() -> PhaseProgress:
    """At 10 s: one host is done, one has half, one has not begun."""
    return PhaseProgress(
        "With Peili: all at once",
        (
            HostProgress("host 1", 8 * MIB, 8 * MIB, 0, started_at=5.0, ended_at=7.5),
            HostProgress("host 2", 8 * MIB, 1 * MIB, 3 * MIB, started_at=7.5),
            HostProgress("host 10"),
        ),
    )


def finish(phase: PhaseProgress, now: float) -> None:
    for host in phase.hosts:
        host.total_bytes = 8 * MIB
        host.peer_bytes = 8 * MIB - host.origin_bytes
        host.started_at = host.started_at or now
        host.ended_at = host.ended_at or now


async def test_lines_tell_each_host_once_when_it_has_ended() -> None:
    out = io.StringIO()
    phase = half_way()
    ended = asyncio.Event()
    finish(phase, now=10.0)
    ended.set()
    await LinesView(out, clock=lambda: 10.0).draw(phase, ended)
    assert out.getvalue().splitlines() == [
        "",
        "With Peili: all at once",
        "  host 1     2.5 s      8.0 MiB from the origin      0.0 MiB from peers",
        "  host 2     2.5 s      1.0 MiB from the origin      7.0 MiB from peers",
        "  host 10    0.0 s      0.0 MiB from the origin      8.0 MiB from peers",
    ]


async def test_lines_show_a_sign_of_life() -> None:
    out = io.StringIO()
    phase = half_way()
    ended = asyncio.Event()
    now = 10.0

    def clock() -> float:
        nonlocal now
        if "of 16.0 MiB" in out.getvalue():
            finish(phase, now)
            ended.set()
        else:
            now += HEARTBEAT_S / 3
        return now

    async with asyncio.timeout(5):
        await LinesView(out, clock).draw(phase, ended)
    signs = [line for line in out.getvalue().splitlines() if " of " in line]
    assert signs == ["  4 s: 12.0 MiB of 16.0 MiB"]


def test_lines_that_nobody_reads_end_the_demo() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out, pytest.raises(DemoFailed, match="closed"):
        LinesView(out).say("hello")


def drawn(width: int, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    console = Console(
        file=out, width=width, height=24, force_terminal=True, no_color=True, legacy_windows=False
    )
    console.print(TableView(console, clock=lambda: 10.0).frame(half_way()))
    out.flush()
    return re.sub("\x1b\\[[0-9;]*m", "", raw.getvalue().decode(encoding)).split("\n")


def test_the_table_shows_who_has_what_from_where() -> None:
    blank, title, first, second, third, _ = drawn(80)
    assert blank == ""
    assert title == "With Peili: all at once                  from origin  from peers     seconds"
    assert first == f"host 1  {'▒' * 32}     8.0 MiB     0.0 MiB         2.5"
    assert second == f"host 2  {'▒' * 4}{'█' * 12}{'.' * 16}     1.0 MiB     3.0 MiB         2.5"
    assert third == f"host 10 {'.' * 32}     0.0 MiB     0.0 MiB       waits"


def test_the_table_does_without_unicode() -> None:
    assert drawn(80, "ascii")[3].startswith("host 2  " + "=" * 4 + "#" * 12 + "." * 16)


@pytest.mark.parametrize("width", [20, 52, 80, 200])
def test_no_line_of_the_table_is_wider_than_the_terminal(width: int) -> None:
    lines = drawn(width)
    assert len(lines) == 6
    assert max(len(line) for line in lines) <= width


async def test_the_table_ends_with_what_was_reached() -> None:
    out = io.StringIO()
    phase = half_way()
    ended = asyncio.Event()
    view = TableView(Console(file=out, width=80, force_terminal=True, no_color=True), clock=lambda: 10.0)
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(view.draw(phase, ended))
        while "waits" not in out.getvalue():
            await asyncio.sleep(0)
        finish(phase, now=10.0)
        ended.set()
    last = out.getvalue().rpartition("With Peili")[2]
    assert "waits" not in last
    assert "host 10" in last
