"""What systemd is told, over sockets of both kinds, and that nobody is told where nobody asked."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mirror.host.notify import Notifier

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    address = f"\0peili-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(5)
        yield sock


def environment(manager: socket.socket, **more: str) -> dict[str, str]:
    name = manager.getsockname()
    address = "@" + name[1:].decode() if isinstance(name, bytes) else name
    return {"NOTIFY_SOCKET": address, **more}


def heard(manager: socket.socket) -> list[str]:
    """All that waits."""
    manager.setblocking(False)
    found: list[str] = []
    with suppress(BlockingIOError):
        while True:
            found.append(manager.recv(4096).decode())
    return found


def test_ready_and_stopping_carry_a_status(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager), PID)
    notifier.ready("serving")
    notifier.stopping("draining")
    assert heard(manager) == ["READY=1\nSTATUS=serving", "STOPPING=1\nSTATUS=draining"]


async def test_it_beats_in_a_quarter_of_the_time(manager: socket.socket) -> None:
    notifier = Notifier(environment(manager, WATCHDOG_USEC="400000", WATCHDOG_PID=str(PID)), PID)
    loop = asyncio.get_running_loop()
    manager.setblocking(False)
    # Before the first is sent: on a busy machine it is received late, and the second is not.
    began_at = loop.time()
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(notifier.run())
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        assert loop.time() - began_at > 0.09
        running.cancel()


@pytest.mark.parametrize(
    "watchdog",
    [
        {},
        {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": str(PID + 1)},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
    ],
    ids=range(5),
)
async def test_it_does_not_beat_where_nobody_waits_for_it(
    manager: socket.socket, watchdog: dict[str, str]
) -> None:
    async with asyncio.timeout(5):
        await Notifier(environment(manager, **watchdog), PID).run()
    assert heard(manager) == []


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative/path"])
async def test_without_a_socket_it_says_nothing(address: str, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"}, PID)
    notifier.ready("serving")
    async with asyncio.timeout(5):
        await notifier.run()
    assert caplog.records == []


def test_a_manager_that_is_gone_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}, PID)
    with caplog.at_level(logging.WARNING):
        notifier.ready("serving")
        notifier.stopping("draining")
    assert [record.getMessage() for record in caplog.records] == [
        "systemd cannot be told READY=1: No such file or directory"
    ]


def test_a_manager_that_does_not_read_stops_nobody(manager: socket.socket) -> None:
    """Its queue is full after some hundred."""
    notifier = Notifier(environment(manager), PID)
    for _ in range(2_000):
        notifier.ready("serving")
    assert heard(manager)
