"""Datagrams in, datagrams out: seals, admits, dispatches, and waits for answers. Decides nothing about members, records
or claims: requests go to `serve`, news of nodes to `heard`.

A subclass of kademlia's protocol that keeps rpcudp's framing and its table of outstanding requests, and closes what
the package leaves open: requests reach an explicit list of RPCs, nothing is unpickled or reflected, nothing raises on
a datagram, and no misspelt attribute becomes one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn, Protocol, cast

from kademlia.node import Node
from kademlia.protocol import KademliaProtocol
from kademlia.storage import IStorage

from dht.asker import Asker
from dht.contacts import epoch_of
from dht.endpoints import Endpoint, EndpointInvalid
from dht.errors import FrameInvalid
from dht.members.twins import Watch
from dht.params import Params
from dht.replies import Done, Reply
from dht.sockets import address_of, source_of
from dht.stats import Stats
from dht.wire.codec import (
    FRAME_MIN_BYTES,
    MESSAGE_ID_BYTES,
    NAMES,
    ChallengeReason,
    Delta,
    FrameType,
    Join,
    Leave,
    Page,
    Ping,
    Pong,
    Request,
    Result,
    UnknownRpc,
    decode_challenge,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)
from dht.wire.envelope import FrameTooLong, said
from dht.wire.guard import DUPLICATE_ID, OUTDATED, Admitted, Challenged, Guard, Refused

log = logging.getLogger(__name__)

# Calls that were given up and may still be answered: a herd's arbiter has some hundred under way.
LATE_MAX_COUNT = 256


class _Call(NamedTuple):
    """One request under way. `node` None: whoever answers at the address."""

    done: Done
    timer: asyncio.TimerHandle
    request: Request
    node: bytes | None
    to: Endpoint
    sent_at: float
    is_repeated: bool


class Decisions(Protocol):
    """What decides. Called synchronously; never raises."""

    def heard(self, node: bytes, epoch: int, endpoint: Endpoint, info: bytes | None, now: float) -> None:
        """Direct evidence of a node at an address."""
        ...

    def alive(self, node: bytes, now: float) -> None:
        """Evidence that says nothing of the address."""
        ...

    def doubled(self, node: bytes, endpoints: tuple[Endpoint, Endpoint]) -> None:
        """Two live nodes have that id; the first of the endpoints is the one that is heard."""
        ...

    def silent(self, node: bytes, now: float) -> None: ...

    def rtt(self, node: bytes, rtt_s: float) -> None: ...

    def told(self, deltas: list[Delta], teller: Endpoint, now: float) -> None: ...

    def news(self, asker: bytes, room_bytes: int) -> list[Delta]: ...

    def shadowed(self, source: Endpoint, now: float) -> None:
        """Another live node has our id."""
        ...

    def serve(self, request: Request, asker: Asker, now: float, room_bytes: int) -> Result | None:
        """None: not to be answered."""
        ...


class ProviderProtocol(KademliaProtocol):
    """One protocol on one socket of each family."""

    # Before anything else looks them up: the package's __getattr__ makes a remote call of what is missing.
    _v4: asyncio.DatagramTransport | None = None
    _v6: asyncio.DatagramTransport | None = None
    _full_sockets_count = 0

    def __init__(
        self,
        source_node: Node,
        storage: IStorage,
        ksize: int,
        *,
        guard: Guard,
        decisions: Decisions,
        stats: Stats,
        params: Params,
        wall: Callable[[], float],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        super().__init__(source_node, storage, ksize)
        self._wait_timeout = params.rpc_timeout_s
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._decisions = decisions
        self._stats = stats
        self._params = params
        self._wall = wall
        self._random_bytes = random_bytes
        self._calls: dict[bytes, _Call] = {}
        # Given up; an answer that comes after all shows that its node is alive, and how slow.
        self._late: dict[bytes, _Call] = {}
        self._twins = Watch()
        self._frame_max_bytes = params.datagram_max_bytes - guard.overhead_bytes

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    # -- sockets ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        opened = cast(asyncio.DatagramTransport, transport)
        self.transport = opened
        if ":" in opened.get_extra_info("sockname")[0]:
            self._v6 = opened
        else:
            self._v4 = opened

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            log.warning("a UDP socket of the DHT was lost: %s; restart the daemon", exc)

    def pause_writing(self) -> None:
        """The kernel takes no more and the event loop holds 64 KiB back: what is sent now would only be late."""
        self._full_sockets_count += 1

    def resume_writing(self) -> None:
        self._full_sockets_count -= 1

    def error_received(self, exc: Exception) -> None:
        """The kernel would not send. Whether anybody is there is judged by the time his silence takes."""
        self._stats.drops["icmp"] += 1

    @property
    def speaks_v4(self) -> bool:
        return self._v4 is not None

    @property
    def speaks_v6(self) -> bool:
        return self._v6 is not None

    def close(self) -> None:
        """Nobody is called back any more."""
        for call in self._calls.values():
            call.timer.cancel()
        self._calls.clear()
        for transport in (self._v4, self._v6):
            if transport is not None:
                transport.close()

    # -- asking ----------------------------------------------------------------------------------------------------

    def ask(
        self,
        node: bytes | None,
        to: Endpoint,
        request: Request,
        done: Done,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """`done` is called once, later, unless the protocol is closed before. `node` None: whoever answers.
        `timeout_s`: `rpc_timeout_s` if None."""
        message_id = self._random_bytes(MESSAGE_ID_BYTES)
        timer = self._loop.call_later(timeout_s or self._wait_timeout, self._timeout, message_id)
        self._calls[message_id] = _Call(done, timer, request, node, to, self._loop.time(), False)
        self._send(encode_request(message_id, request), node, to)

    async def call(self, node: bytes | None, to: Endpoint, request: Request) -> Reply | None:
        """None: no answer within the time. A caller that is cancelled leaves nothing behind."""
        answer: asyncio.Future[Reply | None] = self._loop.create_future()

        def done(reply: Reply | None) -> None:
            if not answer.done():
                answer.set_result(reply)

        self.ask(node, to, request, done)
        return await answer

    def tell(self, node: bytes, to: Endpoint, request: Request) -> None:
        """A request that nobody answers."""
        self._stats.rpcs_sent[NAMES[type(request)], "told"] += 1
        self._send(encode_request(self._random_bytes(MESSAGE_ID_BYTES), request), node, to)

    def _send(self, frame: bytes, node: bytes | None, to: Endpoint) -> None:
        now, wall_s = self._loop.time(), self._wall()
        try:
            datagram = self._guard.seal(frame, destination=node, to=to, now=now, wall_s=wall_s)
        except FrameTooLong:
            self._stats.drops["too_long"] += 1
            return
        self._transmit(datagram, to)

    def _transmit(self, datagram: bytes, to: Endpoint) -> None:
        transport = self._v6 if to.is_v6 else self._v4
        if transport is None or transport.is_closing():
            self._stats.drops["no_socket"] += 1
            return
        if self._full_sockets_count:
            self._stats.drops["send_buffer"] += 1
            return
        self._stats.datagrams_sent += 1
        self._stats.bytes_sent += len(datagram)
        try:
            transport.sendto(datagram, address_of(to) if "%" in to.address else to)
        except EndpointInvalid:
            self._stats.drops["no_interface"] += 1

    def _timeout(self, msg_id: bytes) -> None:
        call = self._calls.pop(msg_id)
        self._late[msg_id] = call
        if len(self._late) > LATE_MAX_COUNT:
            del self._late[next(iter(self._late))]
        self._stats.rpcs_sent[NAMES[type(call.request)], "timeout"] += 1
        if call.node is not None:
            self._decisions.silent(call.node, self._loop.time())
        call.done(None)

    # -- answering -------------------------------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._stats.datagrams_received += 1
        self._stats.bytes_received += len(data)
        now = self._loop.time()
        try:
            source = source_of(addr)
            admitted = self._guard.admit(data, source, now, self._wall())
            if isinstance(admitted, Admitted):
                self._accept(admitted, now)
            elif isinstance(admitted, Challenged):
                self._stats.drops[admitted.reason] += 1
                self._transmit(admitted.reply, source)
            else:
                self._refused(admitted, data, source)
        except FrameInvalid as exc:
            self._stats.drops[str(exc)] += 1
        except EndpointInvalid:
            self._stats.drops["source"] += 1

    def _refused(self, refused: Refused, data: bytes, source: Endpoint) -> None:
        self._stats.drops[refused.reason] += 1
        if refused.reason == DUPLICATE_ID:
            self._decisions.shadowed(source, self._loop.time())
        elif refused.reason in OUTDATED and self._guard.is_sealed:
            sender, stamp, sent_ms = said(data)
            other = self._twins.refused(sender, stamp, sent_ms)
            if other is not None and other != source:
                self._decisions.doubled(sender, (other, source))

    def _accept(self, admitted: Admitted, now: float) -> None:
        if self._twins:
            self._twins.admitted(admitted.sender, admitted.stamp, admitted.sent_ms, admitted.source)
        if admitted.frame_type == FrameType.REQUEST:
            self._accept_request_frame(admitted, now)
        elif admitted.frame_type == FrameType.RESPONSE:
            self._accept_response_frame(admitted, now)
        elif admitted.frame_type == FrameType.CHALLENGE:
            self._accept_challenge(admitted, now)
        else:
            raise FrameInvalid("unexpected frame")

    def _accept_request_frame(self, admitted: Admitted, now: float) -> None:
        try:
            request = decode_request(admitted.body)
        except UnknownRpc:
            self._stats.rpcs_received["unknown", "ignored"] += 1
            return
        if not admitted.addressed and not isinstance(request, Ping):
            # Whoever recorded it could have it served by every node in turn.
            raise FrameInvalid("unaddressed")
        name = NAMES[type(request)]
        info = request.info if isinstance(request, Ping | Join) else None
        if admitted.teaches and not isinstance(request, Leave):
            self._decisions.heard(admitted.sender, epoch_of(admitted.stamp), admitted.endpoint, info, now)
        else:
            self._decisions.alive(admitted.sender, now)
        room = self._frame_max_bytes - FRAME_MIN_BYTES
        result = self._decisions.serve(request, admitted, now, room)
        if result is None:
            self._stats.rpcs_received[name, "ignored"] += 1
            return
        self._stats.rpcs_received[name, "answered"] += 1
        frame = encode_response(admitted.message_id, result, [])
        deltas = self._decisions.news(admitted.sender, self._frame_max_bytes - len(frame))
        if deltas:
            frame = encode_response(admitted.message_id, result, deltas)
        # To where it came from: the address a node advertises is for requests.
        self._send(frame, admitted.sender, admitted.source)

    def _accept_response_frame(self, admitted: Admitted, now: float) -> None:
        is_late = admitted.message_id in self._late
        call = self._answered(admitted, self._late if is_late else self._calls)
        result, deltas = decode_response(type(call.request), admitted.body)
        if is_late:
            del self._late[admitted.message_id]
        else:
            self._forget(admitted.message_id, call)
        rtt_s = now - call.sent_at
        self._stats.rpcs_sent[NAMES[type(call.request)], "late" if is_late else "answered"] += 1
        self._stats.rtt_s.observe(rtt_s)
        info = result.info if isinstance(result, Pong | Page) else None
        if admitted.teaches:
            self._decisions.heard(admitted.sender, epoch_of(admitted.stamp), admitted.endpoint, info, now)
        else:
            self._decisions.alive(admitted.sender, now)
        if not call.is_repeated:
            # Karn: a round trip that was asked for twice says nothing.
            self._decisions.rtt(admitted.sender, rtt_s)
        if deltas:
            self._decisions.told(deltas, admitted.source, now)
        if is_late:
            return
        call.done(Reply(result, admitted.sender, call.to, admitted.source, rtt_s))

    def _accept_challenge(self, admitted: Admitted, now: float) -> None:
        """Says our clock is wrong, or gives the token that we need: the request goes out once more."""
        call = self._answered(admitted, self._calls)
        challenge = decode_challenge(admitted.body)
        if call.is_repeated:
            raise FrameInvalid("challenged twice")
        if challenge.reason == ChallengeReason.TOKEN:
            self._guard.learn_token(admitted.source, challenge.token, now)
        elif challenge.reason != ChallengeReason.CLOCK or not self._guard.clock.corrected(
            admitted.sender, admitted.sent_ms, self._wall()
        ):
            return
        self._stats.rpcs_sent[NAMES[type(call.request)], "challenged"] += 1
        self._calls[admitted.message_id] = call._replace(is_repeated=True)
        self._send(encode_request(admitted.message_id, call.request), call.node, call.to)

    def _answered(self, admitted: Admitted, calls: Mapping[bytes, _Call]) -> _Call:
        call = calls.get(admitted.message_id)
        if call is None:
            raise FrameInvalid("unasked")
        if call.node is not None and call.node != admitted.sender:
            raise FrameInvalid("wrong node")
        if not self._guard.is_sealed and admitted.source != call.to:
            raise FrameInvalid("wrong source")
        return call

    def _forget(self, message_id: bytes, call: _Call) -> None:
        call.timer.cancel()
        del self._calls[message_id]
