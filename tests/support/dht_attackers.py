"""Those who attack a node: `Stranger` is a bare socket; `Member` holds the secret (or, where there is none, gets its
tokens) and says and answers whatever a test wants. Judges nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from dht.endpoints import Endpoint, canonical
from dht.wire.codec import (
    ChallengeReason,
    FrameType,
    Request,
    Result,
    decode_challenge,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from dht.wire.envelope import Envelope, Key
from dht.wire.guard import Admitted, Challenged, Guard
from tests.support.dht_nodes import CLUSTER, KEY, PARAMS, WITHIN_S, Live, Seen

# So many datagrams fit into the socket's buffer whatever the kernel's limit is.
BURST_COUNT: Final = 64


class Stranger(asyncio.DatagramProtocol):
    """A bare socket. Sends past asyncio, which knows no empty datagram."""

    def __init__(self, bare: socket.socket) -> None:
        self._bare = bare
        self.got: list[Seen] = []
        self.heard: Callable[[Seen], None] = lambda seen: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address, port = transport.get_extra_info("sockname")[:2]
        self.endpoint = Endpoint(canonical(address), port)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        seen = Seen(data, Endpoint(canonical(addr[0]), addr[1]))
        self.got.append(seen)
        self.heard(seen)

    def send(self, datagram: bytes, to: Endpoint) -> None:
        self._bare.sendto(datagram, to)

    @property
    def got_bytes(self) -> int:
        return sum(len(one.datagram) for one in self.got)

    async def pour(self, datagrams: Sequence[bytes], to: Live) -> None:
        """Returns when the node has taken all of them."""
        counts = to.wire.came_from
        for start in range(0, len(datagrams), BURST_COUNT):
            burst = datagrams[start : start + BURST_COUNT]
            wanted_count = counts[self.endpoint] + len(burst)
            for datagram in burst:
                self.send(datagram, to.endpoint)
            async with asyncio.timeout(WITHIN_S):
                while counts[self.endpoint] < wanted_count:
                    await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def stranger(address: str = "127.0.0.1") -> AsyncIterator[Stranger]:
    bare = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    bare.bind((address, 0))
    bare.setblocking(False)
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Stranger(bare), sock=bare
    )
    try:
        yield protocol
    finally:
        transport.close()


# What a member answers to a request: a result, a whole frame, or nothing.
Answer = Callable[[Request, Admitted], Result | bytes | None]


class Member:
    """Of the cluster, but scripted."""

    def __init__(
        self,
        stranger: Stranger,
        *,
        keys: Sequence[Key] = (KEY,),
        node: bytes | None = None,
        epoch: int = 1,
        cluster: str = CLUSTER,
        answer: Answer = lambda request, admitted: None,
        wall: Callable[[], float] = time.time,
        advertise: Endpoint | None = None,
        first_sequence: int = 0,
    ) -> None:
        self.socket = stranger
        self.answer = answer
        self.id = node or os.urandom(20)
        self.asked: list[Request] = []
        self.envelope = Envelope(self.id, epoch, cluster, tuple(keys), first_sequence=first_sequence)
        self.guard = Guard(self.envelope, PARAMS, os.urandom, advertise)
        self._wall = wall
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, tuple[type, asyncio.Future[Result]]] = {}
        stranger.heard = self._heard

    @property
    def endpoint(self) -> Endpoint:
        return self.socket.endpoint

    def seal(self, frame: bytes, to: Live | Endpoint, *, destination: bytes | None = None) -> bytes:
        """Addressed to the node, or to whom `destination` says."""
        endpoint = to if isinstance(to, Endpoint) else to.endpoint
        if isinstance(to, Live):
            destination = destination or to.id
        now = asyncio.get_running_loop().time()
        return self.guard.seal(frame, destination=destination, to=endpoint, now=now, wall_s=self._wall())

    def frame(self, request: Request) -> bytes:
        return encode_request(next(self._numbers).to_bytes(20, "big"), request)

    def say(self, request: Request, to: Live) -> None:
        """Without waiting for an answer."""
        self.socket.send(self.seal(self.frame(request), to), to.endpoint)

    async def ask(self, request: Request, to: Live, within_s: float = WITHIN_S) -> Result:
        """Raises: TimeoutError."""
        frame = self.frame(request)
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[frame[1:21]] = (type(request), answer)
        self.socket.send(self.seal(frame, to), to.endpoint)
        try:
            async with asyncio.timeout(within_s):
                return await self._answered(frame, answer, to)
        finally:
            del self._waiting[frame[1:21]]

    async def _answered(self, frame: bytes, answer: asyncio.Future[Result], to: Live) -> Result:
        try:
            return await asyncio.shield(answer)
        except _Challenged:
            again: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            self._waiting[frame[1:21]] = (self._waiting[frame[1:21]][0], again)
            self.socket.send(self.seal(frame, to), to.endpoint)
            return await again

    def _heard(self, seen: Seen) -> None:
        now = asyncio.get_running_loop().time()
        admitted = self.guard.admit(seen.datagram, seen.peer, now, self._wall())
        if isinstance(admitted, Challenged):
            self.socket.send(admitted.reply, seen.peer)
        if not isinstance(admitted, Admitted):
            return
        if admitted.frame_type is FrameType.REQUEST:
            self._asked(admitted)
            return
        kind, answer = self._waiting.get(admitted.message_id, (None, None))
        if kind is None or answer is None or answer.done():
            return
        if admitted.frame_type is FrameType.RESPONSE:
            answer.set_result(decode_response(kind, admitted.body)[0])
        elif admitted.frame_type is FrameType.CHALLENGE:
            challenge = decode_challenge(admitted.body)
            if challenge.reason == ChallengeReason.TOKEN:
                self.guard.learn_token(seen.peer, challenge.token, now)
            answer.set_exception(_Challenged())

    def _asked(self, admitted: Admitted) -> None:
        request = decode_request(admitted.body)
        self.asked.append(request)
        answer = self.answer(request, admitted)
        if answer is None:
            return
        frame = answer if isinstance(answer, bytes) else encode_response(admitted.message_id, answer, [])
        sealed = self.seal(frame, admitted.source, destination=admitted.sender)
        self.socket.send(sealed, admitted.source)


class _Challenged(Exception):
    """The request is to be sent again."""


@contextlib.asynccontextmanager
async def member(
    *,
    keys: Sequence[Key] = (KEY,),
    node: bytes | None = None,
    epoch: int = 1,
    cluster: str = CLUSTER,
    answer: Answer = lambda request, admitted: None,
    wall: Callable[[], float] = time.time,
    advertise: Endpoint | None = None,
    first_sequence: int = 0,
    address: str = "127.0.0.1",
) -> AsyncIterator[Member]:
    async with stranger(address) as bare:
        yield Member(
            bare,
            keys=keys,
            node=node,
            epoch=epoch,
            cluster=cluster,
            answer=answer,
            wall=wall,
            advertise=advertise,
            first_sequence=first_sequence,
        )
