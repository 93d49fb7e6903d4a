"""Peers that misuse a state channel, over real sockets: what they cost, how they are left, whom they do not touch."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
import tracemalloc
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from mirror.oci.digest import Digest
from mirror.peer import frames, wire
from mirror.peer.channel_params import ChannelParams
from mirror.peer.news import ChannelDown, ChannelEnd, ChannelUp, PeerHolds, PeerJoined, PeerLoad
from mirror.swarm.bitfield import Bitfield
from mirror.swarm.pieces import PieceLayout
from tests.support.channel_hosts import (
    DEADLINE_S,
    HELLO,
    KEEP,
    ChannelHost,
    channel_host,
    message,
    raw_server,
    raw_socket,
)

D = Digest.of(b"layer")
RawWs = aiohttp.ClientWebSocketResponse[bool]
ServedWs = web.WebSocketResponse[bool]


async def greet(ws: RawWs) -> None:
    """Node 9 calls node 1, which says KEEP."""
    await ws.send_bytes(frames.encode_hello(HELLO))
    assert frames.decode_hello((await ws.receive()).data)[1].node == b"\x01" * 20
    assert (await ws.receive()).data == KEEP


async def closed_with(ws: RawWs) -> int | None:
    """Reads to the end, which is a FIN: a reset would raise."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            got = await ws.receive()
            if got.type is aiohttp.WSMsgType.CLOSE:
                return int(got.data)
            assert got.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.PING), got


GARBAGE = {
    "noise": os.urandom(200),
    "nothing": b"\x01",
    "another version": b"\x07\x91\x92\x05\x10",
    "no array": b"\x01\x05",
    "no frame": b"\x01\x90",
    "no type": b"\x01\x91\x90",
    "a type that is no number": b"\x01\x91\x91\xa1x",
    "a nest": b"\x01" + b"\x91" * 60_000,
    "a promise": b"\x01\xdd\xff\xff\xff\xff",
    "too many frames": b"\x01\xdc\x02\x01" + b"\x91\x01" * 513,
    "a short frame": b"\x01\x91\x91\x05",
    "an unordered range": message(frames.Open(0, str(D), 1 << 30, [(5, 9), (9, 10)], False)),
    "a piece too many": message(frames.Open(0, str(D), 4 << 19, [(0, 5)], False)),
    "spare bits": message(frames.Open(0, str(D), 4 << 19, b"\x08", False)),
    "a long bitfield": message(frames.Open(0, str(D), 4 << 19, b"\x80\x00", False)),
    "pieces of no size": message(frames.Open(0, str(D), 0, b"\x80", False)),
    "one stream for two": message(
        frames.Open(0, str(D), 0, b"", False), frames.Open(0, str(Digest.of(b"x")), 0, b"", False)
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_ends_the_channel_and_no_other(garbage: bytes) -> None:
    async with channel_host(1) as one, channel_host(2) as two:
        await one.channels.reach(two.peer)
        async with raw_socket(one) as ws:
            await greet(ws)
            await ws.send_bytes(garbage)
            assert await closed_with(ws) == ChannelEnd.NONSENSE.value
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.NONSENSE)
        assert [channel.node for channel in one.channels.open()] == [two.node]


async def test_what_a_later_release_may_send_does_not_end_it() -> None:
    async with channel_host(1) as one:
        async with raw_socket(one) as ws:
            await greet(ws)
            # Another type; an element more; another digest algorithm; frames of streams that are not known.
            await ws.send_bytes(b"\x01\x92\x92\x64\xa5later\x93\x05\x10\xa5later")
            await ws.send_bytes(message(frames.Open(0, "blake3:" + "0" * 64, 9, b"\x80", True)))
            await ws.send_bytes(
                message(
                    frames.State(7, b"", False),
                    frames.Have(7, [1]),
                    frames.Peers(7, []),
                    frames.Close(7, 0),
                    frames.Decline(7, 0),
                    frames.DigestsAsk(7, 0, 1),
                    frames.Digests(7, 0, 1, {}),
                )
            )
            await ws.send_bytes(message(frames.Open(1, str(D), 0, b"", False)))
            assert await one.hears(PeerLoad, 2) == PeerLoad(0.16)
            assert await one.hears(PeerJoined) == PeerJoined(D)
            assert (await ws.receive()).data == message(frames.Decline(0, frames.DeclineReason.ABSENT))
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.LOST)


async def text(ws: RawWs) -> None:
    await ws.send_str("hello")


async def too_long(ws: RawWs) -> None:
    await ws.send_bytes(bytes(frames.MESSAGE_MAX_BYTES + 2))


async def compressed(ws: RawWs) -> None:
    await ws.send_frame(message(frames.Load(1)), aiohttp.WSMsgType.BINARY, compress=15)


@pytest.mark.parametrize("send", [text, too_long, compressed])
async def test_other_messages_end_the_channel(send: Callable[[RawWs], Awaitable[None]]) -> None:
    async with channel_host(1) as one, raw_socket(one) as ws:
        await greet(ws)
        await send(ws)
        await closed_with(ws)
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.NONSENSE)


PROMISE = b"\x82\xff" + struct.pack("!Q", frames.MESSAGE_MAX_BYTES + 1)


async def test_a_long_message_ends_the_channel_before_it_is_read() -> None:
    """Its head is enough, on both sides."""

    async def serve(ws: ServedWs) -> None:
        await ws.send_bytes(frames.encode_hello(HELLO))
        await ws.receive()
        assert ws._req is not None and ws._req.transport is not None
        ws._req.transport.write(b"\x82\x7f" + PROMISE[2:])
        await ws.receive()

    async with channel_host(1) as one, raw_socket(one) as ws:
        await greet(ws)
        assert ws._conn is not None and ws._conn.transport is not None
        ws._conn.transport.write(PROMISE)
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.NONSENSE)
        assert await closed_with(ws) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    async with channel_host(1) as one, raw_server(serve) as peer:
        await one.channels.reach(peer)
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.NONSENSE)


async def test_no_extension_is_agreed_on() -> None:
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with channel_host(1) as one, raw_socket(one, **offer) as ws:
        assert "Sec-WebSocket-Extensions" not in ws._response.headers


async def test_a_flood_is_read_slowly_and_then_left() -> None:
    params = ChannelParams(units_per_s=200.0, units_burst_count=100.0, flood_max_s=1.0)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        quiet = await two.channels.reach(one.peer)
        async with raw_socket(one) as ws:
            await greet(ws)
            started = time.monotonic()

            async def flood() -> None:
                percent = 0
                while True:
                    percent = (percent + 1) % 100
                    await ws.send_bytes(message(*(frames.Load(percent) for _ in range(10))))

            flooding = asyncio.ensure_future(flood())
            await one.hears(PeerLoad, 50)
            asked = time.monotonic()
            quiet.join(D)
            await one.hears(PeerJoined)
            assert time.monotonic() - asked < 1.0, "another peer is heard meanwhile"
            await one.until(lambda: ChannelDown(ChannelEnd.FLOOD) in one.of(ChannelDown))
            took_s = time.monotonic() - started
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)
        heard_count = len(one.of(PeerLoad)) - 2
        assert heard_count <= params.units_burst_count + params.units_per_s * took_s + 20
        assert [channel.node for channel in one.channels.open()] == [two.node]


async def test_pings_are_answered_and_counted() -> None:
    params = ChannelParams(units_per_s=100.0, units_burst_count=50.0, flood_max_s=0.2)
    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        await greet(ws)
        await ws.ping(b"here?")
        got = await ws.receive()
        assert (got.type, got.data) == (aiohttp.WSMsgType.PONG, b"here?")
        for _ in range(200):
            await ws.ping()
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.FLOOD)


async def test_a_peer_that_answers_no_ping_is_lost() -> None:
    """Half open: the connection stands, nobody is there."""
    params = ChannelParams(ping_after_s=0.2)
    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        await greet(ws)
        started = time.monotonic()
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.LOST)
        assert time.monotonic() - started >= params.ping_after_s
        assert one.channels.open() == []


async def test_a_called_peer_that_answers_no_ping_is_lost() -> None:
    params = ChannelParams(ping_after_s=0.2)

    async def serve(ws: ServedWs) -> None:
        await ws.send_bytes(frames.encode_hello(HELLO))
        await ws.receive()
        while not ws.closed:
            await asyncio.sleep(0.05)  # reads nothing, so that no pong is sent

    async with channel_host(1, params=params) as one, raw_server(serve) as peer:
        channel = await one.channels.reach(peer)
        assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.LOST)
        assert channel.end_reason is ChannelEnd.LOST


async def test_a_peer_that_answers_pings_is_kept() -> None:
    params = ChannelParams(ping_after_s=0.1)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        channel = await one.channels.reach(two.peer)
        await asyncio.sleep(5 * params.ping_after_s)
        assert channel.end_reason is None


async def test_a_peer_that_does_not_read_costs_little_and_is_left() -> None:
    """It sends, so that it is no corpse. What it is told is merged, however much changes meanwhile."""
    params = ChannelParams(batch_s=0.001, send_stall_s=0.5)
    size_bytes = 1 << 40
    piece_count = PieceLayout.of(size_bytes).count
    odd = int.from_bytes(b"\x55" * (piece_count // 8), "big")
    swarms = [Digest.of(bytes((number,))) for number in range(64)]
    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        await greet(ws)
        channel = await one.channel()
        sock = ws.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        assert ws._conn is not None and ws._conn.transport is not None
        ws._conn.transport.pause_reading()
        tracemalloc.start()
        try:
            before_bytes = tracemalloc.get_traced_memory()[0]
            rounds_count = 0
            started = time.monotonic()
            while not one.of(ChannelDown):
                assert time.monotonic() < started + DEADLINE_S
                rounds_count += 1
                for digest in swarms:
                    channel.hold(digest, size_bytes, Bitfield(piece_count, odd << (rounds_count & 1)), False)
                await ws.send_bytes(message(frames.Load(rounds_count % 100)))
                await asyncio.sleep(0.005)
            grown_bytes = tracemalloc.get_traced_memory()[1] - before_bytes
        finally:
            tracemalloc.stop()
        assert one.of(ChannelDown) == [ChannelDown(ChannelEnd.STALLED)]
        its_socket = channel._socket._socket
        async with asyncio.timeout(DEADLINE_S):
            while its_socket is not None and its_socket.fileno() != -1:
                await asyncio.sleep(0.01)  # no descriptor is left behind, although the bytes were never taken
        assert rounds_count > 20
        # A MiB a round was to be told.
        assert grown_bytes < 8 * 1024 * 1024
        assert one.channels.open() == []


async def test_a_connection_that_is_reset_is_lost() -> None:
    async with channel_host(1) as one:
        async with raw_socket(one) as ws:
            await greet(ws)
            sock = ws.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert ws._conn is not None and ws._conn.transport is not None
            ws._conn.transport.abort()
            assert await one.hears(ChannelDown) == ChannelDown(ChannelEnd.LOST)


async def test_no_hello_in_time() -> None:
    params = ChannelParams(handshake_s=0.1)
    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        assert (await ws.receive()).type is aiohttp.WSMsgType.BINARY
        assert await closed_with(ws) == ChannelEnd.NONSENSE.value
        assert one.news == []


async def test_handshakes_are_bounded() -> None:
    params = ChannelParams(handshakes_max_count=1)
    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        assert (await ws.receive()).type is aiohttp.WSMsgType.BINARY
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            async with raw_socket(one):
                pass
        await ws.send_bytes(frames.encode_hello(HELLO))
        await one.hears(ChannelUp)
        async with raw_socket(one):
            pass


async def test_what_is_no_upgrade_is_refused() -> None:
    async with channel_host(1) as one:
        with pytest.raises(aiohttp.WSServerHandshakeError, match="405"):
            async with raw_socket(one, Upgrade="smoke"):
                pass
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{one.peer}{wire.CHANNEL_PATH}") as response,
        ):
            assert response.status == 401


async def test_a_replayed_request_for_another_path_opens_none() -> None:
    """The signature covers the path."""
    async with channel_host(1) as one, channel_host(2) as two:
        await two.channels.reach(one.peer)
        what = wire.Request("GET", f"{wire.BLOB_PATH}{D}", "")
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            async with raw_socket(one, Authorization=two.contacts.sign(one.peer, what)):
                pass


async def test_the_next_version_may_call() -> None:
    """Its HELLO says so, then it speaks ours."""
    async with channel_host(1) as one, raw_socket(one) as ws:
        await ws.send_bytes(bytes((frames.CHANNEL_VERSION + 1,)) + frames.encode_hello(HELLO)[1:])
        await ws.receive()
        assert (await ws.receive()).data == KEEP
        await ws.send_bytes(message(frames.Open(0, str(D), 4 << 19, [(0, 4)], True)))
        assert await one.hears(PeerHolds) == PeerHolds(D, 4 << 19, Bitfield.full(4), True)


async def test_digest_questions_are_bounded() -> None:
    params = ChannelParams()

    def asks(host: ChannelHost) -> int:
        return sum(type(told).__name__ == "PieceDigestsAsked" for _, told in host.news)

    async with channel_host(1, params=params) as one, raw_socket(one) as ws:
        await greet(ws)
        channel = await one.channel()
        channel.hold(D, 1 << 30, Bitfield(256), False)
        assert (await ws.receive()).type is aiohttp.WSMsgType.BINARY
        await ws.send_bytes(
            message(*(frames.DigestsAsk(0, first, first + 1) for first in range(50)), frames.Load(9))
        )
        await one.hears(PeerLoad, 2)
        assert asks(one) == params.digest_asks_max_count
        channel.answer_digests(D, 0, 1, {})
        assert (await ws.receive()).data == message(frames.Digests(0, 0, 1, {}))
        await ws.send_bytes(message(frames.DigestsAsk(0, 60, 61)))
        await one.until(lambda: asks(one) == params.digest_asks_max_count + 1)
