"""The state channels of this host: one to each peer, whoever called.

Rules
1. Of two daemons the one with the lower node id decides which connection they use: it says KEEP on one. Two who call
   each other at the same time are thus of one mind, and nothing that was told is lost.
2. It refuses a second connection as a duplicate for a few seconds. One that comes later means that the peer lost the
   first without our noticing: it replaces it.
3. There is a bound to channels and to handshakes. A quiet channel makes room for a new one; without one, callers hear
   429 and we do not call.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from dht.endpoints import EndpointInvalid, canonical
from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.oci.errors import ErrorCode
from mirror.peer import frames
from mirror.peer.channel import Channel, OnNews
from mirror.peer.channel_dialer import ChannelDialer
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channel_socket import ChannelSocket, Ended
from mirror.peer.errors import (
    ChannelFull,
    PeerError,
    PeerIncompatible,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.frames import FrameInvalid, Hello
from mirror.peer.news import ChannelDown, ChannelEnd, ChannelUp, News
from mirror.peer.outbox import load_percent
from mirror.peer.strangers import Strangers
from mirror.web.body import error_response

log = logging.getLogger(__name__)

# What a server may have written before it looks whether the peer takes it.
WRITER_LIMIT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Me:
    """What this daemon says of itself. `port`: where its peer HTTP listens. `zone`: empty if it knows none."""

    node: NodeId
    port: int
    zone: str


class Hearing(Protocol):
    """Whether any other host of the cluster is heard at all, by other ways than these calls."""

    @property
    def is_alone(self) -> bool: ...

    def listen(self) -> None:
        """It should soon be known."""
        ...


class Channels:
    """`on_news` is called in order for each channel, from `ChannelUp` to `ChannelDown`; it must not block, and may use
    the channel."""

    def __init__(
        self,
        me: Me,
        dialer: ChannelDialer,
        on_news: OnNews,
        strangers: Strangers,
        params: ChannelParams | None = None,
        clock: Callable[[], float] = time.monotonic,
        hearing: Hearing | None = None,
    ) -> None:
        self._me = me
        self._dialer = dialer
        self._on_news = on_news
        self._strangers = strangers
        self._params = params or ChannelParams()
        self._clock = clock
        self._hearing = hearing
        self._load_ratio = 0.0
        self._group: asyncio.TaskGroup | None = None
        self._by_node: dict[NodeId, Channel] = {}
        # Also under addresses that turned out to be of a peer that we had.
        self._by_peer: dict[Peer, Channel] = {}
        self._dialing: dict[Peer, asyncio.Future[Channel]] = {}
        self._handshakes_count = 0
        self._next_up = asyncio.Event()
        self._accepted: set[Channel] = set()
        self._all_accepted_ended = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled; then says so on all channels, and waits for their ends for a moment."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await asyncio.Event().wait()
                finally:
                    self._group = None
                    for channel in self.open():
                        channel.end(ChannelEnd.STOPPED)
        finally:
            await self._accepted_ends()

    def open(self) -> Sequence[Channel]:
        return list(self._by_node.values())

    def load(self, load_ratio: float) -> None:
        """The share of our upload slots in use."""
        self._load_ratio = load_ratio
        for channel in self.open():
            channel.load(load_ratio)

    async def reach(self, peer: Peer) -> Channel:
        """The channel to that peer; calls it if there is none. Raises: PeerError, ChannelFull."""
        channel = self._by_peer.get(peer)
        if channel is not None:
            return channel
        dialing = self._dialing.get(peer)
        if dialing is None:
            assert self._group is not None, "channels are reached while `run` runs"
            self._make_room()
            dialing = self._dialing[peer] = asyncio.get_running_loop().create_future()
            self._group.create_task(self._dial(peer, dialing))
        # Others may wait for the same call.
        return await asyncio.shield(dialing)

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """Serves an upgrade request that was found to be the cluster's, until the channel's end."""
        ws = web.WebSocketResponse(
            timeout=self._params.close_s,
            heartbeat=self._params.ping_after_s,
            autoping=False,
            compress=False,
            max_msg_size=frames.MESSAGE_MAX_BYTES + 1,
            writer_limit=WRITER_LIMIT_BYTES,
            decode_text=False,
        )
        if not ws.can_prepare(request).ok:
            return error_response(ErrorCode.UNSUPPORTED, "a WebSocket upgrade is expected here")
        try:
            if self._group is None or self._handshakes_count >= self._params.handshakes_max_count:
                raise ChannelFull("too many handshakes, or no channels now")
            self._make_room()
            address = canonical(request.remote or "")
        except (ChannelFull, EndpointInvalid) as exc:
            return error_response(ErrorCode.TOOMANYREQUESTS, str(exc))
        await ws.prepare(request)
        socket = ChannelSocket(ws, self._params)
        try:
            channel = await self._agree(socket, address, None)
        except Ended as exc:
            log.debug("a channel from %s was not opened: %s", address, exc)
            return ws
        self._accepted.add(channel)
        try:
            await channel.serve()
        finally:
            self._accepted.discard(channel)
            if not self._accepted:
                self._all_accepted_ended.set()
        return ws

    # -- calling -----------------------------------------------------------------------------------------------------

    async def _dial(self, peer: Peer, found: asyncio.Future[Channel]) -> None:
        try:
            channel, is_new = await self._call_unless_alone(peer)
        except PeerError as exc:
            if not found.done():
                found.set_exception(exc)
                found.exception()  # whoever waited may have been cancelled
            return
        except asyncio.CancelledError:
            found.cancel()
            raise
        finally:
            del self._dialing[peer]
        if channel.end_reason is None:
            self._by_peer[peer] = channel
        if not found.done():
            found.set_result(channel)
        if is_new:
            await channel.serve()

    async def _call_unless_alone(self, peer: Peer) -> tuple[Channel, bool]:
        """As `_call`, in less time where this host hears nobody."""
        hearing = self._hearing
        if hearing is None:
            return await self._call(peer)
        params, loop = self._params, asyncio.get_running_loop()
        ends_at = loop.time() + params.handshake_alone_s
        patience = asyncio.timeout(None)
        timer: asyncio.TimerHandle | None = None

        def listen() -> None:
            nonlocal timer
            # Once: many calls are slow where all hosts are busy.
            hearing.listen()
            timer = loop.call_at(ends_at, look)

        def look() -> None:
            nonlocal timer
            if hearing.is_alone:
                patience.reschedule(loop.time())
            else:
                timer = loop.call_later(params.alone_look_s, look)

        try:
            async with patience:
                timer = loop.call_later(params.handshake_listen_s, listen)
                return await self._call(peer)
        except TimeoutError as exc:
            raise PeerStalled(str(peer), "said nothing, and no other host is heard") from exc
        finally:
            if timer is not None:
                timer.cancel()

    async def _call(self, peer: Peer) -> tuple[Channel, bool]:
        """A channel, and whether it is a new one. Raises: PeerError."""
        socket = ChannelSocket(await self._dialer.dial(peer), self._params)
        hello: list[Hello] = []
        try:
            return await self._agree(socket, peer.address, hello, peer), True
        except Ended as exc:
            if exc.reason is ChannelEnd.DUPLICATE and hello:
                channel = await self._other_way(NodeId(hello[0].node))
                if channel is not None:
                    return channel, False
            raise _as_peer_error(peer, exc) from exc

    async def _other_way(self, node: NodeId) -> Channel | None:
        """The peer kept another connection: its own call to us, which may not have come to its end yet."""
        try:
            async with asyncio.timeout(self._params.handshake_s):
                while node not in self._by_node:
                    await self._next_up.wait()
        except TimeoutError:
            return None
        return self._by_node[node]

    # -- the handshake -----------------------------------------------------------------------------------------------

    async def _agree(
        self, socket: ChannelSocket, address: str, heard: list[Hello] | None, peer: Peer | None = None
    ) -> Channel:
        """To be served at once. `heard` gets what the peer said of itself. Raises: Ended, then the socket is closed."""
        self._handshakes_count += 1
        try:
            async with asyncio.timeout(self._params.handshake_s):
                return await self._shake_hands(socket, address, heard, peer)
        except (Ended, TimeoutError) as exc:
            ended = exc if isinstance(exc, Ended) else Ended(ChannelEnd.NONSENSE, "no handshake in time")
            await socket.hang_up(ended.reason)
            raise ended from exc
        except BaseException:
            await socket.hang_up(ChannelEnd.LOST)
            raise
        finally:
            self._handshakes_count -= 1

    async def _shake_hands(
        self, socket: ChannelSocket, address: str, heard: list[Hello] | None, peer: Peer | None
    ) -> Channel:
        me = self._me
        told_ratio = self._load_ratio
        mine = Hello(me.node.value, me.port, load_percent(told_ratio), me.zone)
        await socket.send(frames.encode_hello(mine))
        newest, hello = await _first(socket)
        if heard is not None:
            heard.append(hello)
        version = frames.negotiate(newest)
        if version is None:
            self._strangers.of_another_version(address, str(newest))
            raise Ended(ChannelEnd.VERSION, f"speaks version {newest}")
        node = NodeId(hello.node)
        if node == me.node:
            raise Ended(ChannelEnd.SELF)
        keeps = me.node < node
        if keeps:
            rival = self._by_node.get(node)
            if rival is not None and self._clock() - rival.up_at < self._params.crossing_s:
                raise Ended(ChannelEnd.DUPLICATE)
        else:
            await _kept(socket, version)
        return self._up(
            Channel(
                socket,
                peer or Peer(address, hello.port),
                hello,
                version,
                keeps=keeps,
                load_ratio=told_ratio,
                on_news=self._told,
                params=self._params,
                clock=self._clock,
            )
        )

    # -- which there are ---------------------------------------------------------------------------------------------

    def _up(self, channel: Channel) -> Channel:
        rival = self._by_node.get(channel.node)
        if rival is not None:
            rival.end(ChannelEnd.DUPLICATE)
        self._by_node[channel.node] = self._by_peer[channel.peer] = channel
        # It may have changed while hands were shaken.
        channel.load(self._load_ratio)
        waiting = self._dialing.get(channel.peer)
        if waiting is not None and not waiting.done():
            waiting.set_result(channel)
        self._next_up.set()
        self._next_up = asyncio.Event()
        self._on_news(channel, ChannelUp())
        return channel

    def _told(self, channel: Channel, told: News) -> None:
        if isinstance(told, ChannelDown):
            del self._by_node[channel.node]
            for peer in [peer for peer, one in self._by_peer.items() if one is channel]:
                del self._by_peer[peer]
        self._on_news(channel, told)

    def _make_room(self) -> None:
        """Raises: ChannelFull."""
        count = len(self._by_node) + self._handshakes_count + len(self._dialing)
        if count < self._params.channels_max_count:
            return
        for channel in self.open():
            # One that is new is quiet because its callers did not get to speak yet.
            if channel.is_quiet and self._clock() - channel.up_at >= self._params.crossing_s:
                channel.end(ChannelEnd.IDLE)
                return
        raise ChannelFull(f"{count} peers are spoken to already")

    async def _accepted_ends(self) -> None:
        if self._accepted:
            self._all_accepted_ended.clear()
            try:
                async with asyncio.timeout(2 * self._params.close_s):
                    await self._all_accepted_ended.wait()
            except TimeoutError:
                log.debug("%d channels did not end in time", len(self._accepted))


async def _first(socket: ChannelSocket) -> tuple[int, Hello]:
    try:
        return frames.decode_hello(await socket.receive())
    except FrameInvalid as exc:
        raise Ended(ChannelEnd.NONSENSE, str(exc)) from exc


async def _kept(socket: ChannelSocket, version: int) -> None:
    """The lower node id says on which connection."""
    try:
        found, _ = frames.decode_message(await socket.receive(), version)
    except FrameInvalid as exc:
        raise Ended(ChannelEnd.NONSENSE, str(exc)) from exc
    if not any(isinstance(frame, frames.Keep) for frame in found):
        raise Ended(ChannelEnd.NONSENSE, "no KEEP")


def _as_peer_error(peer: Peer, ended: Ended) -> PeerError:
    match ended.reason:
        case ChannelEnd.VERSION:
            return PeerIncompatible(str(peer), "speaks no version of the state channel that is spoken here")
        case ChannelEnd.SELF:
            return PeerRefused(str(peer), "is this daemon itself")
        case ChannelEnd.NONSENSE:
            return PeerNonsense(str(peer), f"no handshake of a state channel: {ended}")
        case ChannelEnd.STALLED:
            return PeerStalled(str(peer), "takes nothing")
        case _:
            return PeerUnreachable(str(peer), f"ended the state channel: {ended}")
