"""Whom a host calls for a state channel, over real sockets: peers that do not answer as one should, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web

from mirror.discovery.base import Peer
from mirror.peer import frames, wire
from mirror.peer.channel_params import ChannelParams
from mirror.peer.errors import (
    PeerError,
    PeerIncompatible,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.frames import Hello
from mirror.peer.news import ChannelEnd
from tests.support.channel_hosts import DEADLINE_S, HELLO, channel_host, message, raw_server

ServedWs = web.WebSocketResponse[bool]


async def hello_of(ws: ServedWs, hello: bytes, *then: bytes) -> None:
    await ws.send_bytes(hello)
    for one in then:
        await ws.send_bytes(one)
    while not ws.closed:
        await ws.receive()


NEWEST_PLUS_2 = bytes((frames.CHANNEL_VERSION + 2,)) + frames.encode_hello(HELLO)[1:]
LOWER = frames.encode_hello(Hello(b"\x00" * 20, 29021, 0))


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (lambda ws: hello_of(ws, b"\x01\xc0"), PeerNonsense),
        (lambda ws: hello_of(ws, message(frames.Load(1))), PeerNonsense),
        (lambda ws: hello_of(ws, NEWEST_PLUS_2), PeerIncompatible),
        (lambda ws: hello_of(ws, LOWER, message(frames.Load(1))), PeerNonsense),
        (lambda ws: hello_of(ws, LOWER), PeerNonsense),
        (lambda ws: ws.close(code=4004), PeerUnreachable),
        (lambda ws: ws.close(code=ChannelEnd.DUPLICATE.value), PeerUnreachable),
    ],
    ids=["no message", "no hello", "version", "no keep", "never keeps", "hangs up", "duplicate of nothing"],
)
async def test_a_called_peer_without_a_handshake(
    serve: Callable[[ServedWs], Awaitable[None]], error: type[PeerError]
) -> None:
    params = ChannelParams(handshake_s=0.3)
    async with channel_host(1, params=params) as one, raw_server(serve) as peer:
        with pytest.raises(error):
            await one.channels.reach(peer)
        assert (one.news, one.channels.open()) == ([], [])


async def raw_http(answer: bytes) -> tuple[asyncio.Server, int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if not answer:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", PeerNonsense),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", PeerRefused),
        (b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n", PeerRefused),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", PeerIncompatible),
        (b"HTTP/1.1 400 No\r\nPeili-Versions: 7\r\nContent-Length: 0\r\n\r\n", PeerIncompatible),
        (b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", PeerNonsense),
        (b"HTTP/1.1 307 Go\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", PeerNonsense),
        (b"", PeerStalled),
    ],
    ids=["no http", "500", "429", "404", "version", "a wrong key", "elsewhere", "silent"],
)
async def test_other_answers_to_a_call(answer: bytes, error: type[PeerError]) -> None:
    params = ChannelParams(handshake_s=0.3)
    async with channel_host(1, params=params) as one, channel_host(2) as two:
        answer = answer.replace(b"%s", f"http://{two.peer}{wire.CHANNEL_PATH}".encode())
        server, port = await raw_http(answer)
        try:
            with pytest.raises(error):
                await one.channels.reach(Peer("127.0.0.1", port))
        finally:
            server.close()
        assert two.news == [], "nobody is sent elsewhere"


@dataclass
class Hearing:
    is_alone: bool = False
    listened_count: int = 0

    def listen(self) -> None:
        self.listened_count += 1


async def test_who_hears_nobody_waits_less_for_who_says_nothing() -> None:
    """As the kernel of a frozen daemon. That nobody is heard turns out while the call is under way."""
    hearing = Hearing()
    params = ChannelParams(
        handshake_s=DEADLINE_S, handshake_alone_s=0.05, handshake_listen_s=0.01, alone_look_s=0.01
    )
    async with channel_host(1, params=params, hearing=hearing) as one:
        server, port = await raw_http(b"")
        calling = asyncio.ensure_future(one.channels.reach(Peer("127.0.0.1", port)))
        try:
            done, _ = await asyncio.wait([calling], timeout=4 * params.handshake_alone_s)
            assert not done, "others are heard: it may be busy"
            assert hearing.listened_count == 1, "once a call"
            hearing.is_alone = True
            with pytest.raises(PeerStalled, match="no other host is heard"):
                async with asyncio.timeout(DEADLINE_S / 2):
                    await calling
        finally:
            server.close()


async def test_who_hears_nobody_gives_a_call_its_time_all_the_same() -> None:
    """A host that just came does not know its cluster yet."""
    params = ChannelParams(handshake_listen_s=0.001, alone_look_s=0.001, handshake_alone_s=DEADLINE_S)
    async with channel_host(1, params=params, hearing=Hearing(is_alone=True)) as one, channel_host(2) as two:
        assert (await one.channels.reach(two.peer)).node == two.node
