"""Daemons on loopback with nothing but their state channels: the real server, dialer and WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
from aiohttp import web
from yarl import URL

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.peer import frames, wire
from mirror.peer.channel import Channel
from mirror.peer.channel_dialer import ChannelDialer
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channels import Channels, Hearing, Me
from mirror.peer.contacts import Contacts
from mirror.peer.frames import Hello, Keep
from mirror.peer.news import ChannelDown, ChannelUp, News
from mirror.peer.server import PeerServer
from mirror.peer.strangers import Strangers
from mirror.secret import Subkey
from mirror.web.listener import Listener, bind
from tests.support.memory_store import MemoryStore
from tests.support.mirror_host import subkeys

# Far more than anything here takes on a machine that does other things as well.
DEADLINE_S = 10.0

# What a peer says that is played by hand.
HELLO = Hello(b"\x09" * 20, 29021, 0)
KEEP = frames.join(1, [frames.encode_frame(Keep())])

_N = TypeVar("_N")


def message(*told: frames.Frame) -> bytes:
    return frames.join(1, [frames.encode_frame(frame) for frame in told])


@dataclass(slots=True)
class ChannelHost:
    channels: Channels
    node: NodeId
    peer: Peer
    contacts: Contacts
    news: list[tuple[Channel, News]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    # Called for each piece of news, after it was noted.
    reply: Callable[[Channel, News], None] | None = None

    def heard(self, channel: Channel, told: News) -> None:
        self.news.append((channel, told))
        self.came.set()
        if self.reply is not None:
            self.reply(channel, told)

    def of(self, kind: type[_N]) -> list[_N]:
        return [told for _, told in self.news if isinstance(told, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Looks again with each piece of news."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                self.came.clear()
                await self.came.wait()

    async def hears(self, kind: type[_N], count: int = 1) -> _N:
        """The `count`-th of that kind."""
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    async def channel(self, count: int = 1) -> Channel:
        """The `count`-th that came up."""
        await self.hears(ChannelUp, count)
        return [channel for channel, told in self.news if isinstance(told, ChannelUp)][count - 1]

    def check(self) -> None:
        """What holds of the order of news, whatever happened."""
        up: list[Channel] = []
        down: list[Channel] = []
        for channel, told in self.news:
            assert channel not in down, "news after the end"
            if isinstance(told, ChannelUp):
                assert channel not in up
                assert all(one in down for one in up if one.node == channel.node), "two channels to one peer"
                up.append(channel)
            assert channel in up, "news before the start"
            if isinstance(told, ChannelDown):
                down.append(channel)


@contextlib.asynccontextmanager
async def channel_host(
    node: int,
    *,
    params: ChannelParams | None = None,
    keys: tuple[Subkey, ...] | None = None,
    zone: str = "",
    unix_clock: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
    address: str = "127.0.0.1",
    hearing: Hearing | None = None,
) -> AsyncIterator[ChannelHost]:
    """`node`: the first byte of its id. `address`: the one that it listens at."""
    keys = subkeys() if keys is None else keys
    params = params or ChannelParams()
    node_id = NodeId(bytes((node,)) * 20)
    strangers = Strangers()
    sock = bind("peer", address, 0)
    peer = Peer(address, sock.getsockname()[1])
    contacts = Contacts(keys, unix_clock)
    async with contextlib.AsyncExitStack() as stack:
        dialer = await stack.enter_async_context(ChannelDialer(contacts, strangers, params, address))
        heard: list[ChannelHost] = []
        channels = Channels(
            Me(node_id, peer.port, zone),
            dialer,
            lambda channel, told: heard[0].heard(channel, told),
            strangers,
            params,
            clock,
            hearing,
        )
        host = ChannelHost(channels, node_id, peer, contacts)
        heard.append(host)
        server = PeerServer(
            MemoryStore(),
            keys,
            node_id,
            unix_clock,
            _count_nothing,
            strangers,
            accept_channel=channels.accept,
        )
        listener = Listener(server.app, sock, drain_s=0.1)
        await listener.start()
        stack.push_async_callback(listener.stop)
        running = asyncio.ensure_future(channels.run())
        await asyncio.sleep(0)  # lets `run` open its task group
        try:
            yield host
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            host.check()


def _count_nothing(_: str, __: int) -> None:
    pass


@contextlib.asynccontextmanager
async def raw_socket(
    host: ChannelHost, **headers: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    """A WebSocket to that host's channel port by somebody who holds the secret and speaks as the test says."""
    contacts = Contacts(subkeys(), time.time)
    what = wire.Request("GET", wire.CHANNEL_PATH, "")
    url = URL(f"http://{host.peer}{wire.CHANNEL_PATH}")
    async with aiohttp.ClientSession() as session:
        first = contacts.sign(host.peer, what)
        async with session.get(url, headers={"Authorization": first}) as challenged:
            contacts.learn(host.peer, challenged.headers.get(wire.CHALLENGE_HEADER), first)
        signed = {"Authorization": contacts.sign(host.peer, what)} | headers
        at_once = aiohttp.ClientWSTimeout(ws_close=0.1)
        async with session.ws_connect(
            url, headers=signed, autoping=False, decode_text=False, timeout=at_once
        ) as ws:
            yield ws


@contextlib.asynccontextmanager
async def raw_server(
    serve: Callable[[web.WebSocketResponse[bool]], object],
) -> AsyncIterator[Peer]:
    """A peer that takes every upgrade, and then does what `serve` does."""

    async def handler(request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(autoping=False, compress=False, decode_text=False)
        await ws.prepare(request)
        result = serve(ws)
        if asyncio.iscoroutine(result):
            await result
        return ws

    app = web.Application()
    app.router.add_get(wire.CHANNEL_PATH, handler)
    sock = bind("peer", "127.0.0.1", 0)
    listener = Listener(app, sock, drain_s=0.1)
    await listener.start()
    try:
        yield Peer("127.0.0.1", sock.getsockname()[1])
    finally:
        await listener.stop()
