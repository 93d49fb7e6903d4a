"""An event loop that really stands still: what clients see meanwhile, by sockets of another thread, and afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web

from mirror.web.listener import Listener, bind
from mirror.web.watchdog import Watchdog
from tests.support.raw_client import PATIENCE_S, raw_client

BODY = b"b" * 100_000
LATE_S = 0.3


@dataclass
class Bed:
    listener: Listener
    cancelled_count: int = 0
    asked_count: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked_count += 1
        if request.path == "/hi":
            return web.Response(text="hi")
        response = web.StreamResponse(headers={"Content-Length": str(2 * len(BODY))})
        await response.prepare(request)
        await response.write(BODY)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled_count += 1
            raise
        return response

    async def is_answered(self) -> bool:
        try:
            async with raw_client(self.listener.address) as client:
                await client.get("/hi")
                return (await client.head())[0] == 200
        except (ConnectionError, EOFError):
            return False


@contextlib.asynccontextmanager
async def bed(late_s: float = LATE_S) -> AsyncIterator[Bed]:
    app = web.Application()
    made = Bed(Listener(app, bind("test", "127.0.0.1", 0), drain_s=0.1))
    app.router.add_get("/{rest:.*}", made.answer)
    await made.listener.start()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(Watchdog(made.listener, late_s).run())
        await asyncio.sleep(0)
        try:
            yield made
        finally:
            watching.cancel()
            await made.listener.stop()


class Client:
    """Blocks, for a thread."""

    def __init__(self, address: tuple[str, int], path: str = "") -> None:
        self.sock = socket.create_connection(address, timeout=PATIENCE_S)
        if path:
            self.ask(path)

    def ask(self, path: str) -> None:
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def receive(self, until: bytes) -> None:
        received = b""
        while not received.endswith(until):
            received += self.sock.recv(1 << 20)

    def end(self) -> tuple[bytes, str]:
        received = b""
        try:
            while chunk := self.sock.recv(1 << 20):
                received += chunk
        except OSError as exc:
            return received, type(exc).__name__
        return received, "FIN"


@dataclass
class Seen:
    newcomer: tuple[bytes, str]
    body: tuple[bytes, str]
    idle: tuple[bytes, str]
    later: str


class StandingStill:
    """Three clients around a loop that is blocked from the newcomer's first word to the last look of all."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    async def see(self) -> Seen:
        self.body = await asyncio.to_thread(Client, self._address, "/body")
        await asyncio.to_thread(self.body.receive, BODY)
        self.idle = await asyncio.to_thread(Client, self._address, "/hi")
        await asyncio.to_thread(self.idle.receive, b"hi")
        self._stands, self._seen = threading.Event(), threading.Event()
        looking = asyncio.ensure_future(asyncio.to_thread(self._look))
        asyncio.get_running_loop().call_soon(self._stand_still)
        return await looking

    def close(self) -> None:
        for client in (self.body, self.idle, self.newcomer):
            client.sock.close()

    def _stand_still(self) -> None:
        self._stands.set()
        assert self._seen.wait(4 * PATIENCE_S)

    def _look(self) -> Seen:
        assert self._stands.wait(PATIENCE_S)
        try:
            self.newcomer = Client(self._address, "/hi")
            self.body.sock.sendall(b"what the daemon does not read any more")
            ends = self.newcomer.end(), self.body.end(), self.idle.end()
            try:
                Client(self._address).sock.close()
            except OSError as exc:
                return Seen(*ends, later=type(exc).__name__)
            return Seen(*ends, later="connected")
        finally:
            self._seen.set()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_when_the_loop_stands_still_all_connections_end_and_when_it_goes_on_so_does_the_listener(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bed() as host:
        congestion = host.listener._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
        for _ in range(2):
            still = StandingStill(host.listener.address)
            with contextlib.closing(still):
                assert await still.see() == Seen(
                    newcomer=(b"", "FIN"),
                    body=(b"", "FIN"),
                    idle=(b"", "FIN"),
                    later="ConnectionRefusedError",
                )
                await until(host.is_answered)
        assert host.listener._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16) == congestion
    told = [record for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == len(caplog.records) == 2
    assert all("_stand_still" in record.__dict__["stood_at"] for record in told)


async def test_what_was_ended_is_not_worked_on_though_the_client_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mirror.web.ending.FAREWELL_S", 3600.0)  # it is not for time that they end
    async with bed() as host:
        with contextlib.closing(StandingStill(host.listener.address)) as still:
            await still.see()
            await until(host.is_answered)
            assert host.cancelled_count == 1
            asked_count = host.asked_count
            await asyncio.to_thread(still.idle.ask, "/hi")
            assert await host.is_answered()
            assert host.asked_count == asked_count + 1


async def test_a_loop_that_is_only_busy_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with bed(late_s=60) as host, raw_client(host.listener.address) as client:
        await client.get("/body")
        await client.head()
        threading.Event().wait(LATE_S)
        await client.exactly(len(BODY))
        assert await host.is_answered()
        assert host.cancelled_count == 0
    assert caplog.records == []


class Noting:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.came = asyncio.Event()
        self.enders: set[str] = set()

    def end_open(self) -> None:
        self.enders.add(threading.current_thread().name)
        self.notes.append("ended")

    def begin_again(self) -> None:
        assert threading.current_thread() is threading.main_thread()
        self.notes.append("begun")
        self.came.set()


@pytest.mark.parametrize("thread_sees_it", [True, False])
async def test_whoever_wakes_first_ends_what_is_open_and_only_once(thread_sees_it: bool) -> None:
    """As after SIGCONT: the thread and the loop both find that time has passed, or the loop is first."""
    now = [0.0]
    noting = Noting()

    def clock() -> float:
        is_loop = threading.current_thread() is threading.main_thread()
        return now[0] if is_loop or thread_sees_it else 0.0

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(Watchdog(noting, 0.01, clock).run())
        await asyncio.sleep(0)  # it has begun
        for times in range(1, 31):
            now[0] += 60
            async with asyncio.timeout(PATIENCE_S):
                await noting.came.wait()
            noting.came.clear()
            assert noting.notes == ["ended", "begun"] * times
        watching.cancel()
    assert noting.enders <= {"watchdog", threading.main_thread().name}
    assert not [thread for thread in threading.enumerate() if thread.name == "watchdog"]


async def test_a_listener_that_is_told_to_stop_while_it_stands_still_stops() -> None:
    async with bed() as host:
        client = await asyncio.to_thread(Client, host.listener.address, "/body")
        await asyncio.to_thread(client.receive, BODY)
        stopping = asyncio.ensure_future(host.listener.stop())
        await asyncio.sleep(0)
        ending = asyncio.ensure_future(asyncio.to_thread(client.end))
        await asyncio.sleep(0.01)
        while not ending.done():
            threading.Event().wait(2 * LATE_S)
            await asyncio.sleep(0)
        assert await ending == (b"", "FIN")
        client.sock.close()
        await stopping
        with pytest.raises(ConnectionRefusedError):
            await asyncio.to_thread(Client, host.listener.address)
