"""What a release once sent is still understood, and still what this one sends."""

from __future__ import annotations

import json

import msgspec
import pytest

from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire import codec
from dht.wire.codec import FrameType
from dht.wire.envelope import Envelope
from dht.wire.guard import Admitted, Challenged, Guard
from tests.unit.dht.frames.record import (
    ADVERTISED,
    CLUSTER,
    FOLDER,
    KEYS,
    PLACE,
    RECEIVER,
    SENDER,
    WALL_S,
    shown,
)

RECORDED = json.loads((FOLDER / "v1.json").read_text())
REQUESTS = {name: request for request, name in codec.NAMES.items()}


def name_of(told: dict[str, str]) -> str:
    return f"{told['name']}, {told['sender']}"


def said(admitted: Admitted, asked: str | None) -> object:
    match admitted.frame_type:
        case FrameType.REQUEST:
            message: object = codec.decode_request(admitted.body)
        case FrameType.RESPONSE:
            assert asked is not None
            message = codec.decode_response(REQUESTS[asked], admitted.body)
        case FrameType.CHALLENGE:
            message = codec.decode_challenge(admitted.body)
        case _:
            message = codec.decode_beacon(admitted.body)
    return shown(msgspec.to_builtins(message, builtin_types=(bytes,)))


@pytest.mark.parametrize("told", RECORDED, ids=name_of)
def test_what_the_first_release_sent(told: dict[str, str]) -> None:
    datagram = bytes.fromhex(told["datagram"])
    is_sealed = told["sender"] != "no secret"
    guard = Guard(Envelope(RECEIVER, 1, CLUSTER, KEYS if is_sealed else ()), Params(), bytes)
    found = guard.admit(datagram, PLACE, 0.0, WALL_S)
    if not is_sealed and told["name"].endswith(" request"):
        assert isinstance(found, Challenged)
        return
    assert isinstance(found, Admitted), found
    assert found.sender == SENDER
    assert found.stamp >> 40 == (8 if told["sender"] == "second key" else 7)
    assert found.sent_ms == int(WALL_S * 1000)
    assert found.endpoint == (ADVERTISED if told["sender"] == "second key" else PLACE)
    assert found.addressed is (told["name"] != "beacon")
    assert said(found, told["asked"]) == told["message"]


def test_the_recording_holds_everything() -> None:
    """Each RPC and each frame type, under either key and under none."""
    for sender in ("first key", "second key", "no secret"):
        names = [told["name"] for told in RECORDED if told["sender"] == sender]
        assert set(names) == {
            *(f"{name} request" for name in REQUESTS),
            *(f"{codec.NAMES[asked]} response" for asked in codec.RESULTS),
            "challenge",
            "beacon",
        }


def test_a_changed_recording_would_be_noticed() -> None:
    told = RECORDED[0]
    datagram = bytearray.fromhex(told["datagram"])
    datagram[-1] ^= 1
    guard = Guard(Envelope(RECEIVER, 1, CLUSTER, KEYS), Params(), bytes)
    assert not isinstance(guard.admit(bytes(datagram), Endpoint("10.0.0.1", 1), 0.0, WALL_S), Admitted)
