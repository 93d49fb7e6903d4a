"""What a node does with any datagrams: one input is a short story of them, told to one receiver. For fuzzing and for
the replay of what fuzzing found; imports no fuzzer.

Input: one byte of options (bit 0: the cluster has no secret), then operations of four bytes and a payload: what,
variant, and the payload's size (big endian). Frames are sealed here, by members of the receiver's cluster, so that
every input gets past the MAC; `RAW` is for what gets there without.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

from dht.claims import wire as claim_wire
from dht.contacts import Contact, epoch_of
from dht.endpoints import Endpoint, EndpointInvalid, unpack
from dht.errors import FrameInvalid
from dht.node import SUSPECTS_MAX_COUNT, Node, Shadow
from dht.params import Params
from dht.stats import Stats
from dht.wire import codec
from dht.wire.codec import ChallengeReason, FrameType, Join, Nodes, Page, Ping, Pong, Ruling, UnknownRpc
from dht.wire.envelope import Envelope, Key
from dht.wire.guard import Admitted, Challenged, Guard

# Small, so that a short story gets to every bound.
PARAMS: Final = Params(
    replay_window_count=8,
    strangers_max_count=3,
    sender_rate_per_s=1.0,
    sender_burst_count=8,
    tokenless_rate_per_s=8.0,
    members_max_count=6,
    providers_per_key_count=2,
    keys_per_provider_count=60,
    records_per_address_count=70,
    records_max_count=90,
    claims_max_count=4,
    claims_per_holder_count=3,
    claim_waiters_count=2,
)
CLUSTER: Final = "fuzz"
KEYS: Final = (Key(b"fuzz", b"k" * 32),)
WALL_S: Final = 1_800_000_000.0
RECEIVER: Final = bytes(range(100, 120))
HERE: Final = Endpoint("10.0.0.9", 29021)
MESSAGE_ID: Final = bytes(range(20))
SENDERS: Final = (
    (bytes(range(20)), 5),
    (bytes(range(40, 60)), 9),
    (RECEIVER, 1),
    # The first of them, restored from a backup.
    (bytes(range(20)), 2),
)
SOURCES: Final = (
    Endpoint("10.0.0.1", 29021),
    Endpoint("127.0.0.1", 40_000),
    Endpoint("fe80::7%eth0", 29021),
    Endpoint("8.8.8.8", 53),
)
ADVERTISED: Final = (
    Endpoint("192.0.2.9", 1),
    Endpoint("127.0.0.1", 2),
    Endpoint("fe80::7", 3),
    Endpoint("224.0.0.1", 4),
)
SKEWS_S: Final = (0, -119, 121, -1_000_000)
OPERATIONS_MAX_COUNT: Final = 24
STEP_S: Final = 4.0


class Op(IntEnum):
    # The payload is the datagram.
    RAW = 0
    # The payload is the frame; the others take the body only.
    FRAME = 1
    REQUEST = 2
    RESPONSE = 3
    CHALLENGE = 4
    BEACON = 5
    # An earlier datagram: which one, and a byte of it to change by how much.
    AGAIN = 6
    # The payload's first byte times STEP_S pass.
    WAIT = 7


class Variant(NamedTuple):
    """One byte: sender 2 bits, source 2 bits, skew 2 bits, not addressed, advertised."""

    sender: int
    source: int
    skew: int
    is_for_all: bool
    is_advertising: bool

    @staticmethod
    def of(byte: int) -> Variant:
        return Variant(byte & 3, byte >> 2 & 3, byte >> 4 & 3, bool(byte & 64), bool(byte & 128))

    def __int__(self) -> int:
        return (
            self.sender | self.source << 2 | self.skew << 4 | self.is_for_all << 6 | self.is_advertising << 7
        )


PLAIN: Final = Variant.of(0)


def operation(op: Op, payload: bytes = b"", variant: Variant = PLAIN) -> bytes:
    return bytes((op, int(variant))) + len(payload).to_bytes(2, "big") + payload


def operations(data: bytes) -> Iterator[tuple[Op, Variant, bytes]]:
    position = 1
    for _ in range(OPERATIONS_MAX_COUNT):
        head = data[position : position + 4]
        if len(head) < 4:
            return
        size = int.from_bytes(head[2:], "big") & 0x7FF
        yield Op(head[0] % len(Op)), Variant.of(head[1]), data[position + 4 : position + 4 + size]
        position += 4 + size


def run(data: bytes) -> Counter[str]:
    """What happened, by word. Raises: AssertionError for whatever must not happen."""
    story = _Story(is_sealed=not (data and data[0] & 1))
    for op, variant, payload in operations(data):
        story.step(op, variant, payload)
        story.check_bounds()
    return story.happened


class _Story:
    def __init__(self, *, is_sealed: bool) -> None:
        self.happened: Counter[str] = Counter()
        self._is_sealed = is_sealed
        self._now = 1000.0
        keys = KEYS if is_sealed else ()
        own = Envelope(RECEIVER, 1, CLUSTER, keys, first_sequence=1_000_000)
        self._guard = Guard(own, PARAMS, _secrets, Endpoint("192.0.2.1", 29021))
        # One thing of its own for `echo`.
        self._history = [
            own.seal(codec.encode_request(MESSAGE_ID, Ping()), destination=None, now_ms=self._now_ms(0))
        ]
        self._envelopes = [Envelope(node, epoch, CLUSTER, keys) for node, epoch in SENDERS]
        # What a token was given for, and the sealed ones that are to be taken once.
        self._tokens: dict[tuple[bytes, Endpoint], bytes] = {}
        self._sealed: set[bytes] = set(self._history)
        self._taken: set[bytes] = set()
        contact = Contact(RECEIVER, 1, (), b"info")
        self._node = Node(contact, PARAMS, random.Random(1), Stats(), self._noticed, is_sealed=is_sealed)
        self._node.has_joined = True

    def step(self, op: Op, variant: Variant, payload: bytes) -> None:
        if op is Op.WAIT:
            self._now += (payload[0] if payload else 1) * STEP_S
            self._pass_time()
            return
        self._receive(self._datagram(op, variant, payload), SOURCES[variant.source], variant)

    def check_bounds(self) -> None:
        assert len(self._node.members) <= PARAMS.members_max_count
        assert len(self._node.records) <= PARAMS.records_max_count
        assert len(self._node.gossip) <= PARAMS.deltas_max_count
        assert len(self._node.suspects) <= SUSPECTS_MAX_COUNT

    def _now_ms(self, skew_s: int) -> int:
        return int((WALL_S + self._now + skew_s) * 1000)

    def _datagram(self, op: Op, variant: Variant, payload: bytes) -> bytes:
        if op is Op.RAW:
            return payload
        if op is Op.AGAIN:
            which, where, by = (payload + bytes(3))[:3]
            changed = bytearray(self._history[which % len(self._history)])
            changed[where % len(changed)] ^= by
            return bytes(changed)
        frame = payload
        if op is not Op.FRAME:
            frame = bytes((op - Op.REQUEST,)) + MESSAGE_ID + payload
        node, _ = SENDERS[variant.sender]
        source = SOURCES[variant.source]
        advertised = ADVERTISED[variant.source] if variant.is_advertising else None
        room = PARAMS.datagram_max_bytes - 74
        datagram = self._envelopes[variant.sender].seal(
            frame[:room],
            destination=None if variant.is_for_all else RECEIVER,
            now_ms=self._now_ms(SKEWS_S[variant.skew]),
            token=self._tokens.get((node, source), b""),
            advertised=advertised,
        )
        self._sealed.add(datagram)
        self._history.append(datagram)
        return datagram

    def _receive(self, datagram: bytes, source: Endpoint, variant: Variant) -> None:
        found = self._guard.admit(datagram, source, self._now, WALL_S + self._now)
        if isinstance(found, Challenged):
            self.happened[f"challenged {found.reason}"] += 1
            self._challenged(found, datagram, source)
        elif isinstance(found, Admitted):
            self._check_admitted(found, datagram, source)
            try:
                self._act(found)
            except FrameInvalid as exc:
                self.happened[f"invalid {exc}"] += 1
        else:
            self.happened[f"refused {found.reason}"] += 1

    def _check_admitted(self, found: Admitted, datagram: bytes, source: Endpoint) -> None:
        assert found.sender != RECEIVER
        assert found.source == source
        if self._is_sealed:
            assert datagram in self._sealed, "a datagram without a seal was admitted"
            is_fresh = (
                abs(found.sent_ms - self._now_ms(0) - self._guard.clock.offset_ms)
                <= PARAMS.freshness_s * 1000
            )
            if is_fresh or found.frame_type in (FrameType.REQUEST, FrameType.BEACON):
                assert is_fresh and datagram not in self._taken, "a replay was admitted"
                self._taken.add(datagram)
        else:
            assert found.endpoint == source != SOURCES[3]
            if found.frame_type is FrameType.REQUEST:
                assert (found.sender, source) in self._tokens, "a request without a token was admitted"

    def _challenged(self, found: Challenged, datagram: bytes, source: Endpoint) -> None:
        assert len(found.reply) <= PARAMS.amplification_max * len(datagram)
        for node, epoch in SENDERS[:2]:
            if node != datagram[12:32]:
                continue
            asker = Guard(Envelope(node, epoch, CLUSTER, KEYS if self._is_sealed else ()), PARAMS, bytes)
            answer = asker.admit(found.reply, HERE, self._now, WALL_S + self._now)
            assert isinstance(answer, Admitted)
            challenge = codec.decode_challenge(answer.body)
            if challenge.reason == ChallengeReason.TOKEN:
                self._tokens[node, source] = challenge.token

    # -- behind the guard: what dht.protocol does, without its sockets ---------------------------------------------

    def _act(self, found: Admitted) -> None:
        match found.frame_type:
            case FrameType.REQUEST:
                self._serve(found)
            case FrameType.RESPONSE:
                self._learn(found)
            case FrameType.CHALLENGE:
                challenge = codec.decode_challenge(found.body)
                self._reads_back(challenge)
                self.happened["admitted challenge"] += 1
                if challenge.reason == ChallengeReason.TOKEN:
                    self._guard.learn_token(found.source, challenge.token, self._now)
                elif self._guard.clock.corrected(found.sender, found.sent_ms, WALL_S + self._now):
                    # By the new time what was old may be fresh.
                    self._taken.clear()
                    self.happened["corrected"] += 1
            case FrameType.BEACON:
                assert 0 < codec.decode_beacon(found.body).port < 65536
                self.happened["admitted beacon"] += 1

    def _serve(self, found: Admitted) -> None:
        try:
            request = codec.decode_request(found.body)
        except UnknownRpc:
            self.happened["unknown rpc"] += 1
            return
        name = codec.NAMES[type(request)]
        self.happened[f"admitted {name}"] += 1
        self._reads_back(request)
        info = request.info if isinstance(request, Ping | Join) else None
        if found.teaches:
            self._node.heard(found.sender, epoch_of(found.stamp), found.endpoint, info, self._now)
        room = PARAMS.datagram_max_bytes - self._guard.overhead_bytes
        result = self._node.serve(request, found, self._now, room - codec.FRAME_MIN_BYTES)
        if result is None:
            return
        self.happened[f"served {name}"] += 1
        frame = codec.encode_response(found.message_id, result, [])
        deltas = self._node.news(found.sender, room - len(frame))
        frame = codec.encode_response(found.message_id, result, deltas)
        reply = self._guard.seal(
            frame, destination=found.sender, to=found.source, now=self._now, wall_s=WALL_S + self._now
        )
        assert len(reply) <= PARAMS.datagram_max_bytes
        assert codec.decode_response(type(request), codec.split(frame)[2]) == (result, deltas)

    def _learn(self, found: Admitted) -> None:
        """As the answer to each kind of request in turn: at most one of them was asked."""
        is_any = False
        for asked, name in codec.NAMES.items():
            if asked not in codec.RESULTS:
                continue
            try:
                result, deltas = codec.decode_response(asked, found.body)
            except FrameInvalid:
                continue
            is_any = True
            self.happened[f"answer to {name}"] += 1
            self._reads_back(result)
            self._node.told(deltas, found.source, self._now)
            info = result.info if isinstance(result, Pong | Page) else None
            if found.teaches:
                self._node.heard(found.sender, epoch_of(found.stamp), found.endpoint, info, self._now)
            if isinstance(result, Page):
                self._node.introduced(result.contacts, found.source, self._now, are_news=False)
            if isinstance(result, Ruling):
                claim_wire.from_wire(result, lambda node, told: told)
            for contact in result.nodes if isinstance(result, Nodes) else ():
                _endpoints(contact.endpoints)
        if not is_any:
            raise FrameInvalid("bad response")

    def _pass_time(self) -> None:
        """What the shells do now and then."""
        node = self._node
        node.records.expire(self._now, 1000)
        node.claims.expire(self._now)
        node.announcements.due(self._now)
        for contact in node.take_suspects(2):
            node.silent(contact.node, self._now)

    def _reads_back(self, message: msgspec.Struct) -> None:
        again = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))
        assert again == message

    def _noticed(self, shadow: Shadow) -> None:
        self.happened["noticed"] += 1


def _endpoints(packed: bytes) -> tuple[Endpoint, ...]:
    try:
        return unpack(packed)
    except EndpointInvalid:
        return ()


def _secrets(count: int) -> bytes:
    return b"s" * count
