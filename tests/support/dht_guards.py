"""Guards of three nodes that know each other's addresses, and what they send."""

from __future__ import annotations

import itertools

from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire.codec import (
    Beacon,
    FrameType,
    Ping,
    Pong,
    decode_challenge,
    encode_beacon,
    encode_request,
    encode_response,
)
from dht.wire.envelope import Envelope, Key
from dht.wire.guard import Admitted, Challenged, Guard, Refused

PARAMS = Params()
WALL_S = 1_800_000_000.0
KEY = Key(b"key.", b"k" * 32)
MESSAGE = b"m" * 20
PING = encode_request(MESSAGE, Ping(b"info"))
PONG = encode_response(MESSAGE, Pong(b"", b"\x0a\0\0\1\0\1"), [])
BEACON = encode_beacon(MESSAGE, Beacon(29021))
ALICE, BOB, CAROL = b"a" * 20, b"b" * 20, b"c" * 20
AT = {
    ALICE: Endpoint("10.0.0.1", 29021),
    BOB: Endpoint("10.0.0.2", 29021),
    CAROL: Endpoint("10.0.0.3", 29021),
}


def guard_of(
    node: bytes,
    *,
    keys: tuple[Key, ...] = (KEY,),
    epoch: int = 1,
    params: Params = PARAMS,
    advertised: Endpoint | None = None,
    first_sequence: int = 0,
) -> Guard:
    numbers = itertools.count(1)
    return Guard(
        Envelope(node, epoch, "peili", keys, first_sequence=first_sequence),
        params,
        lambda count: (node + next(numbers).to_bytes(4, "big")).ljust(count, b"\0")[-count:],
        advertised,
    )


def sent(
    guard: Guard,
    frame: bytes,
    to: bytes,
    *,
    is_addressed: bool = True,
    now: float = 0.0,
    ahead_s: float = 0.0,
) -> bytes:
    return guard.seal(
        frame, destination=to if is_addressed else None, to=AT[to], now=now, wall_s=WALL_S + now + ahead_s
    )


def got(
    guard: Guard, datagram: bytes, source: Endpoint = AT[ALICE], now: float = 0.0
) -> Admitted | Challenged | Refused:
    return guard.admit(datagram, source, now, WALL_S + now)


def admitted(found: Admitted | Challenged | Refused) -> Admitted:
    assert isinstance(found, Admitted), found
    return found


def introduced(asker: Guard, asked: Guard, source: Endpoint = AT[ALICE], now: float = 0.0) -> bytes:
    """Without a secret: the asker asks once, and keeps the token of the challenge."""
    challenged = got(asked, sent(asker, PING, BOB, now=now), source, now)
    assert isinstance(challenged, Challenged), challenged
    answer = admitted(got(asker, challenged.reply, AT[BOB], now))
    assert (answer.frame_type, answer.message_id) == (FrameType.CHALLENGE, MESSAGE)
    token = decode_challenge(answer.body).token
    asker.learn_token(AT[BOB], token, now)
    return token
