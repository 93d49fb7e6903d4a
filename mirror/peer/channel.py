"""The state channel to one peer, after its handshake: what we tell it, in batches, and what it tells us, as news.

Both sides of a connection use it alike. It keeps no piece and decides nothing about them; who calls it is told all in
the order in which it came, in the same task that reads.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping

from dht.endpoints import Endpoint
from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer import frames, news
from mirror.peer.allowance import Allowance
from mirror.peer.channel_params import ChannelParams
from mirror.peer.channel_socket import ChannelSocket, Ended
from mirror.peer.frames import DeclineReason, FrameInvalid, LeaveReason
from mirror.peer.inbox import Inbox
from mirror.peer.news import ChannelEnd, News
from mirror.peer.outbox import Outbox
from mirror.swarm.bitfield import Bitfield

# Of the idle time: how late its end is noticed at most.
_IDLE_LOOKS_COUNT = 4

OnNews = Callable[["Channel", News], None]


class Channel:
    """`peer`: where its peer HTTP listens. `version`: what both agreed on. `keeps`: we choose this connection, and say
    so. What is told after the end is lost, and so is what is told of a digest that is not open."""

    def __init__(
        self,
        socket: ChannelSocket,
        peer: Peer,
        hello: frames.Hello,
        version: int,
        *,
        keeps: bool,
        load_ratio: float,
        on_news: OnNews,
        params: ChannelParams,
        clock: Callable[[], float],
    ) -> None:
        self.peer = peer
        self.node = NodeId(hello.node)
        self.zone = hello.zone
        self.up_at = clock()
        self.end_reason: ChannelEnd | None = None
        self._its_load_percent = hello.load
        self._socket = socket
        self._version = version
        self._keeps = keeps
        self._on_news = on_news
        self._params = params
        self._clock = clock
        self._outbox = Outbox(params, load_ratio)
        self._inbox = Inbox(Endpoint(peer.address, peer.port), self._outbox, params)
        self._due = asyncio.Event()
        # What is due is to go now: it is urgent, or the time of the next batch has come.
        self._is_time = asyncio.Event()
        self._ended = asyncio.Event()

    def __str__(self) -> str:
        return f"channel to {self.peer}"

    @property
    def version(self) -> int:
        """Of the state channel, as both agreed."""
        return self._version

    # -- what we tell ------------------------------------------------------------------------------------------------

    def join(self, digest: Digest) -> None:
        """We take part and do not know the size yet. Raises: ChannelFull."""
        self._outbox.tell(digest, 0, Bitfield(0), False)
        self._wake()

    def hold(self, digest: Digest, size_bytes: int, bitfield: Bitfield, is_fed_from_origin: bool) -> None:
        """We hold exactly these. Raises: ChannelFull."""
        self._outbox.tell(digest, size_bytes, bitfield, is_fed_from_origin)
        self._wake()

    def add(self, digest: Digest, pieces: Iterable[int]) -> None:
        """We hold these, too."""
        mask = 0
        for piece in pieces:
            mask |= 1 << piece
        self._outbox.add(digest, mask)
        self._wake()

    def name(self, digest: Digest, peers: Iterable[Peer]) -> None:
        """Others to try, the best first: 16 are told. Replaces those that were named before."""
        self._outbox.name(digest, peers)
        self._wake()

    def leave(self, digest: Digest, reason: LeaveReason) -> None:
        """We take no part any more."""
        self._outbox.leave(digest, reason)
        self._inbox.left(digest)
        self._wake()

    def decline(self, digest: Digest, reason: DeclineReason) -> None:
        """What the peer tells of it is not wanted."""
        self._inbox.decline(digest, reason)
        self._wake()

    def load(self, load_ratio: float) -> None:
        """The share of our upload slots in use."""
        self._outbox.load(load_ratio)
        self._wake()

    def ask_digests(self, digest: Digest, first: int, stop: int) -> bool:
        """For the SHA-256 of the peer's pieces, at most 1,024 of them. False: it does not take part, or has fewer
        pieces. The answer is `PieceDigestsTold`, or never comes."""
        is_asked = self._inbox.ask(digest, first, stop)
        self._wake()
        return is_asked

    def answer_digests(self, digest: Digest, first: int, stop: int, digests: Mapping[int, bytes]) -> None:
        """Answers `PieceDigestsAsked`; ignored if that was not asked."""
        if self._inbox.answered(digest, first, stop):
            self._outbox.answer(digest, first, stop, digests)
            self._wake()

    @property
    def is_quiet(self) -> bool:
        """Nothing is open on either side."""
        return self._outbox.is_quiet and self._inbox.is_quiet

    def end(self, reason: ChannelEnd) -> None:
        """Tells `ChannelDown` at once; the socket follows. Idempotent."""
        if self.end_reason is None:
            self.end_reason = reason
            self._ended.set()
            self._on_news(self, news.ChannelDown(reason))

    # -- the connection ----------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Until the end. To be called once, right after the handshake."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._write())
                group.create_task(self._watch())
        except* Ended as group_of:
            self.end(next(one.reason for one in group_of.exceptions if isinstance(one, Ended)))
        finally:
            # Cancelled: the other side's connection is gone, or the daemon stops and said so before.
            self.end(ChannelEnd.LOST)
            await self._socket.hang_up(self.end_reason or ChannelEnd.LOST)

    async def _read(self) -> None:
        params = self._params
        allowance = Allowance(params.units_per_s, params.units_burst_count, self._clock())
        self._tell(news.PeerLoad(min(self._its_load_percent, 100) / 100))
        while True:
            data = await self._socket.receive()
            units = self._heard(data) + len(data) / 1024
            now = self._clock()
            wait_s = allowance.take(units, now)
            if wait_s:
                if allowance.short_s(now) > params.flood_max_s:
                    raise Ended(ChannelEnd.FLOOD)
                # Who does not read is not sent to: the peer's kernel holds it back.
                await asyncio.sleep(wait_s)

    def _heard(self, data: bytes) -> int:
        """How many frames came."""
        if not data:
            return 1
        try:
            found, count = frames.decode_message(data, self._version)
            for frame in found:
                told = self._inbox.read(frame)
                if told is not None:
                    self._tell(told)
        except FrameInvalid as exc:
            raise Ended(ChannelEnd.NONSENSE, str(exc)) from exc
        # What was heard may have to be declined.
        self._wake()
        return count

    async def _write(self) -> None:
        if self._keeps:
            await self._socket.send(frames.join(self._version, [frames.encode_frame(frames.Keep())]))
        batch_s = self._params.batch_s
        sent_at = -math.inf
        while True:
            await self._due.wait()
            # Before a batch, not behind it: most come later than that, and cost no timer.
            if (wait_s := sent_at + batch_s - self._clock()) > 0:
                timer = asyncio.get_running_loop().call_later(wait_s, self._is_time.set)
                try:
                    await self._is_time.wait()
                finally:
                    timer.cancel()
            self._due.clear()
            self._is_time.clear()
            while (message := self._outbox.next_message(self._version)) is not None:
                await self._socket.send(message)
            sent_at = self._clock()

    async def _watch(self) -> None:
        look_s = self._params.idle_s / _IDLE_LOOKS_COUNT
        busy_at = self._clock()
        while True:
            try:
                async with asyncio.timeout(look_s):
                    await self._ended.wait()
            except TimeoutError:
                pass
            now = self._clock()
            if not self.is_quiet:
                busy_at = now
            if self.end_reason is not None or now - busy_at >= self._params.idle_s:
                raise Ended(self.end_reason or ChannelEnd.IDLE)

    def _wake(self) -> None:
        if self._outbox.is_due:
            self._due.set()
            if self._outbox.is_urgent:
                self._is_time.set()

    def _tell(self, told: News) -> None:
        """Nothing after the end."""
        if self.end_reason is None:
            self._on_news(self, told)
