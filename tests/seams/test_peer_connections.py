"""The peer client on kept connections, against peers that say byte by byte what a test wants: what is used again, what
is waited for, and what is never believed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer import client as peer_client
from mirror.peer import connection as peer_connection
from mirror.peer.client import PeerClient
from mirror.peer.errors import PeerBroke, PeerNonsense, PeerRefused, PeerStalled, PeerUnreachable
from mirror.peer.strangers import Strangers
from tests.support.mirror_host import subkeys

BLOB = random.Random(4).randbytes(700_001)
D = Digest.of(BLOB)
OTHER = Digest.of(b"another")


@dataclass
class Saying:
    """`say` answers each request; a connection is open until it returns False. `ended`: how connections ended."""

    say: Callable[[asyncio.StreamWriter, int], Awaitable[bool]]
    peer: Peer = field(default_factory=lambda: Peer("127.0.0.1", 1))
    connections_count: int = 0
    requests: list[bytes] = field(default_factory=list)
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_count += 1
        how = "by it"
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if not await self.say(writer, len(self.requests)):
                    break
        except asyncio.IncompleteReadError:
            how = "by the client"
        except ConnectionError:
            how = "by a reset"
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        self.ended.put_nowait(how)


@contextlib.asynccontextmanager
async def saying(say: Callable[[asyncio.StreamWriter, int], Awaitable[bool]]) -> AsyncIterator[Saying]:
    it = Saying(say)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(it.connected(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        it.peer = Peer("127.0.0.1", server.sockets[0].getsockname()[1])
        try:
            yield it
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def whole(data: bytes = BLOB, more: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data


async def answer_whole(writer: asyncio.StreamWriter, _: int) -> bool:
    writer.write(whole())
    await writer.drain()
    return True


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[PeerClient]:
    async with PeerClient(subkeys(), time.time, Strangers()) as made:
        yield made


async def read(it: PeerClient, peer: Peer, part_bytes: int = 100_000) -> bytes:
    with await it.fetch(peer, D, 0, None) as body:
        data = bytearray(body.span.length_bytes)
        view = memoryview(data)
        for start in range(0, len(data), part_bytes):
            await body.fill(view[start : start + part_bytes])
        assert body.came_bytes == len(data)
        return bytes(data)


async def test_a_connection_is_used_again_and_again() -> None:
    async with saying(answer_whole) as it:
        async with client() as asking:
            for part_bytes in (1_000_000, 100_000, 4097, 65_536):
                assert await read(asking, it.peer, part_bytes) == BLOB
            assert (it.connections_count, len(it.requests)) == (1, 4)
        assert await it.ended.get() == "by the client"


@pytest.mark.parametrize("seed", range(5))
async def test_however_it_comes_the_bytes_are_the_same(seed: int) -> None:
    rng = random.Random(seed)

    async def in_shreds(writer: asyncio.StreamWriter, _: int) -> bool:
        rest = whole(BLOB[:40_000])
        while rest:
            count = rng.choice((1, 7, 300, 5000, 20_000))
            writer.write(rest[:count])
            rest = rest[count:]
            await writer.drain()
            await asyncio.sleep(rng.choice((0.0, 0.0, 0.002)))
        return True

    async with saying(in_shreds) as it, client() as asking:
        for _ in range(3):
            assert await read(asking, it.peer, rng.choice((1, 50_000, 3000)) + 999) == BLOB[:40_000]
        assert it.connections_count == 1


async def test_two_at_once_have_a_connection_each() -> None:
    async with saying(answer_whole) as it, client() as asking:
        assert await asyncio.gather(*(read(asking, it.peer) for _ in range(3))) == [BLOB] * 3
        assert it.connections_count == 3
        assert await read(asking, it.peer) == BLOB
        assert it.connections_count == 3


async def test_a_peer_that_closed_what_was_kept_is_asked_anew() -> None:
    """It may do so at any time: that is no failure of the peer."""

    async def once(writer: asyncio.StreamWriter, count: int) -> bool:
        return await answer_whole(writer, count) and count % 2 == 0

    async with saying(once) as it, client() as asking:
        for _ in range(4):
            assert await read(asking, it.peer) == BLOB
        assert it.connections_count > 1


async def test_one_that_closes_each_time_without_an_answer_is_unreachable() -> None:
    async def never(writer: asyncio.StreamWriter, count: int) -> bool:
        return count == 1 and await answer_whole(writer, count)

    async with saying(never) as it, client() as asking:
        assert await read(asking, it.peer) == BLOB
        with pytest.raises(PeerUnreachable, match="without an answer"):
            await read(asking, it.peer)
        assert len(it.requests) == 3, "on the kept connection, and once more on a new one"


@pytest.mark.parametrize("more", [b"x", b"y" * 10_000], ids=["a byte", "many"])
async def test_what_comes_behind_a_body_is_no_answer_to_the_next_request(more: bytes) -> None:
    async def too_much(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole() + more)
        await writer.drain()
        return True

    async with saying(too_much) as it, client() as asking:
        assert await read(asking, it.peer) == BLOB
        for _ in range(3):
            # It may come before the next request is sent, or be what is read as its answer.
            with contextlib.suppress(PeerNonsense):
                assert await read(asking, it.peer) == BLOB
        assert it.connections_count > 1


async def test_a_peer_that_says_that_it_closes_is_believed() -> None:
    async def last(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole(more="Connection: close\r\n"))
        await writer.drain()
        return True

    async with saying(last) as it, client() as asking:
        for _ in range(2):
            assert await read(asking, it.peer) == BLOB
        assert it.connections_count == 2


async def test_who_leaves_early_closes_the_connection() -> None:
    async with saying(answer_whole) as it, client() as asking:
        with await asking.fetch(it.peer, D, 0, None) as body:
            await body.fill(memoryview(bytearray(10)))
        assert await it.ended.get() in ("by the client", "by a reset")
        assert await read(asking, it.peer) == BLOB
        assert it.connections_count == 2


async def test_who_is_cancelled_is_given_nothing_more() -> None:
    is_asked, goes_on = asyncio.Event(), asyncio.Event()

    async def in_two(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole()[:1000])
        is_asked.set()
        await goes_on.wait()
        writer.write(whole()[1000:])
        return False

    async with saying(in_two) as it, client() as asking:
        body = await asking.fetch(it.peer, D, 0, None)
        data = bytearray(len(BLOB))
        filling = asyncio.ensure_future(body.fill(memoryview(data)))
        await is_asked.wait()
        while not body.came_bytes:
            await asyncio.sleep(0)
        filling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await filling
        before = bytes(data)
        body.close()
        body.close()
        goes_on.set()
        assert await it.ended.get()
        assert bytes(data) == before


# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_connection, "STALL_TIMEOUT_S", 0.6)
    monkeypatch.setattr(peer_connection, "LESS_AFTER_S", 0.3)


@pytest.mark.usefixtures("short_stall")
async def test_a_source_that_has_become_slow_is_no_stall() -> None:
    """After a fast beginning much is waited for at once; it is seen in time that less comes."""

    async def slower(writer: asyncio.StreamWriter, _: int) -> bool:
        answer = whole()
        fast_bytes = len(answer) - 40
        writer.write(answer[:fast_bytes])
        await writer.drain()
        for start in range(fast_bytes, len(answer), 8):
            await asyncio.sleep(0.25)
            writer.write(answer[start : start + 8])
        return True

    async with saying(slower) as it, client() as asking:
        assert await read(asking, it.peer, part_bytes=len(BLOB)) == BLOB


@pytest.mark.usefixtures("short_stall")
@pytest.mark.parametrize("at", [300, 300_000])
async def test_a_silent_source_has_stalled(at: int) -> None:
    async def silent(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole()[:at])
        await asyncio.Event().wait()
        return False

    async with saying(silent) as it, client() as asking:
        began_at = time.monotonic()
        with (
            await asking.fetch(it.peer, D, 0, None) as body,
            pytest.raises(PeerStalled, match="sent no byte"),
        ):
            await body.fill(memoryview(bytearray(len(BLOB))))
        assert time.monotonic() - began_at >= 0.6
        assert 0 < body.came_bytes < len(BLOB)


@pytest.mark.usefixtures("short_stall")
async def test_a_silent_peer_has_stalled_on_a_kept_connection_too() -> None:
    """Which was idle for a while: it may be gone."""

    async def once(writer: asyncio.StreamWriter, count: int) -> bool:
        if count > 1:
            await asyncio.Event().wait()
        return await answer_whole(writer, count)

    async with saying(once) as it, client() as asking:
        assert await read(asking, it.peer) == BLOB
        (idle,) = asking._idle[it.peer]
        async with asyncio.timeout(5):
            while idle._timer is None or idle._timer.when() < asyncio.get_running_loop().time() + 1:
                await asyncio.sleep(0.01)
            with pytest.raises(PeerStalled, match="did not answer"):
                await asking.fetch(it.peer, D, 0, None)
        assert it.connections_count == 1


@pytest.mark.usefixtures("short_stall")
async def test_a_reader_that_pauses_is_no_stall() -> None:
    async with saying(answer_whole) as it, client() as asking:
        with await asking.fetch(it.peer, D, 0, None) as body:
            data = bytearray(len(BLOB))
            await body.fill(memoryview(data)[:100])
            await asyncio.sleep(0.9)
            await body.fill(memoryview(data)[100:])
        assert bytes(data) == BLOB


@pytest.mark.usefixtures("short_stall")
async def test_a_head_that_comes_a_byte_at_a_time_is_none() -> None:
    async def drop_by_drop(writer: asyncio.StreamWriter, _: int) -> bool:
        for byte in whole()[:200]:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)
        return False

    async with saying(drop_by_drop) as it, client() as asking:
        async with asyncio.timeout(5):
            with pytest.raises(PeerStalled, match="did not answer"):
                await asking.fetch(it.peer, D, 0, None)


async def test_an_idle_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_connection, "LESS_AFTER_S", 0.05)
    monkeypatch.setattr(peer_connection, "IDLE_MAX_S", 0.2)
    async with saying(answer_whole) as it, client() as asking:
        assert await read(asking, it.peer) == BLOB
        async with asyncio.timeout(5):
            assert await it.ended.get() == "by the client"
            while asking._idle:
                await asyncio.sleep(0)
        assert await read(asking, it.peer) == BLOB
        assert it.connections_count == 2


# -- answers that are none -------------------------------------------------------------------------------------------


async def test_a_body_that_ends_early_is_told_and_what_came_is_counted() -> None:
    async def cut(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole()[:-300_000])
        return False

    async with saying(cut) as it, client() as asking:
        with (
            await asking.fetch(it.peer, D, 0, None) as body,
            pytest.raises(PeerBroke, match="ended the body"),
        ):
            await body.fill(memoryview(bytearray(len(BLOB))))
        assert body.came_bytes == len(BLOB) - 300_000


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops", "500: oops"),
        (b"HTTP/1.1 500 No\r\n\r\nno length", "500: no length"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nshort", "answered 500"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 99999\r\n\r\n" + b"z" * 99_999, "500: z{2048}$"),
    ],
    ids=["told", "untold", "cut", "long"],
)
async def test_the_reason_of_an_error_is_read_as_far_as_it_is_worth(answer: bytes, told: str) -> None:
    async def refuse(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(answer)
        return False

    async with saying(refuse) as it, client() as asking:
        with pytest.raises(PeerRefused, match=told):
            await asking.fetch(it.peer, D, 0, None)


async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async def chatty(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(whole())
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(whole(b"a body of another"))
        return True

    async with saying(chatty) as it, client() as asking:
        assert await read(asking, it.peer) == BLOB
        async with asyncio.timeout(5):
            assert await it.ended.get() in ("by the client", "by a reset")
        assert await read(asking, it.peer) == BLOB


async def test_a_head_without_an_end_is_refused() -> None:
    async def endless(writer: asyncio.StreamWriter, _: int) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000)
        return True

    async with saying(endless) as it, client() as asking:
        with pytest.raises(PeerNonsense, match="a head of over"):
            await asking.fetch(it.peer, D, 0, None)


async def test_there_are_never_more_connections_than_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_client, "CONNECTIONS_MAX_COUNT", 2)
    async with saying(answer_whole) as it, client() as asking:
        first = await asking.fetch(it.peer, D, 0, None)
        second = await asking.fetch(it.peer, D, 0, None)
        third = asyncio.ensure_future(asking.fetch(it.peer, D, 0, None))
        await asyncio.wait([third], timeout=0.1)
        assert not third.done()
        first.close()
        (await third).close()
        second.close()
        for _ in range(2):
            with pytest.raises(PeerUnreachable):
                await asking.fetch(Peer("127.0.0.1", 1), OTHER, 0, None)
        # Nothing that failed keeps its place.
        async with asyncio.timeout(5):
            assert await asyncio.gather(*(read(asking, it.peer) for _ in range(4))) == [BLOB] * 4
