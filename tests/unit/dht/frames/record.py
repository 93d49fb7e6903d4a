"""Writes `v1.json`: datagrams as this release sends them, and what they say.

Run it for a new wire version only, under a new name: what an older release sent must be understood for one version
more, so a recording is never written anew.

    .venv/bin/python -m tests.unit.dht.frames.record NAME
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import msgspec

from dht.endpoints import Endpoint, pack
from dht.wire import codec
from dht.wire.codec import (
    Added,
    AddProviders,
    Beacon,
    Challenge,
    ChallengeReason,
    Claim,
    Delta,
    Differs,
    Fence,
    FindNode,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Leave,
    Nodes,
    Outcome,
    Page,
    Participant,
    Ping,
    Pong,
    Removed,
    RemoveProviders,
    Ruling,
    Sync,
    Verb,
    WireContact,
    WireProvider,
)
from dht.wire.envelope import Envelope, Key

FOLDER: Final = Path(__file__).parent
CLUSTER: Final = "peili"
KEYS: Final = (
    Key(b"\x01\x02\x03\x04", b"first".ljust(32, b".")),
    Key(b"\x05\x06\x07\x08", b"second".ljust(32, b".")),
)
WALL_S: Final = 1_800_000_000.5
SENDER: Final = bytes.fromhex("8f3ac15e90b7d24416fe83a05b7c2d91e6f40a18")
RECEIVER: Final = bytes.fromhex("21d07ba46ce2988305f1be1470c95a3d7e68f20c")
OTHER: Final = bytes.fromhex("c40e7719fa358bd2610593eeab8247c6d01f3c5e")
PLACE: Final = Endpoint("10.1.2.3", 29021)
ADVERTISED: Final = Endpoint("2001:db8::17", 31000)

_KEY = bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4")
_KEY2 = bytes.fromhex("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b")
_INFO = bytes.fromhex("92cd715d01")
_V4 = pack((PLACE,))
_BOTH = pack((Endpoint("10.1.2.4", 29021), Endpoint("fd00:1::4", 29021)))
_V6 = pack((Endpoint("fd00:1::5", 29021),))
_CONTACTS = [
    WireContact(SENDER, 7, _V4, _INFO),
    WireContact(OTHER, 16_777_215, _BOTH),
    WireContact(RECEIVER, 0, _V6, bytes(48)),
]
_PROVIDERS = [WireProvider(OTHER, _BOTH, 0, _INFO), WireProvider(SENDER, _V6, 1)]
_FENCE = Fence(OTHER, (7 << 39) + 12)
_WAITERS = [
    Participant(WireProvider(SENDER, _V4, 0), 1_048_576),
    Participant(WireProvider(RECEIVER, _V6, 0), 0),
]
_DELTAS = [Delta(kind, contact) for kind, contact in enumerate(_CONTACTS)]

CALLS: Final[list[tuple[codec.Request, codec.Result | None, list[Delta]]]] = [
    (Ping(_INFO), Pong(_INFO, _V4), _DELTAS),
    (FindNode(_KEY), Nodes(_CONTACTS), []),
    (Join(_INFO), Page(_CONTACTS, True, 5000, _INFO), []),
    (GetMembers(_KEY, b"\xff" * 20), Page([], False, 1), []),
    (Sync(b"\x0f\x03", bytes(range(64))), Differs(0xA001), []),
    (AddProviders(1, 3600, _INFO, _KEY + _KEY2), Added(1, b"\x02"), []),
    (RemoveProviders(_KEY2), Removed(1), _DELTAS[:1]),
    (GetProviders(_KEY, 16), Found(_PROVIDERS, _CONTACTS[:2], 64), []),
    (Leave(), None, []),
    (Claim(_KEY, Verb.ASK, 8, 0, None, [OTHER]), Ruling(Outcome.GRANTED, 10_000, _FENCE, None, _WAITERS), []),
    (
        Claim(_KEY, Verb.RENEW, 0, 3_145_728, _FENCE),
        Ruling(Outcome.LOST, 1000, _FENCE, Participant(_PROVIDERS[0], 5_242_880), [], _PROVIDERS),
        [],
    ),
    (
        Claim(_KEY, Verb.RELEASE, 0, 9, _FENCE, [], 3),
        Ruling(Outcome.REDIRECT, 0, None, None, [], [], _CONTACTS[:1]),
        [],
    ),
]


def _recorded() -> list[dict[str, object]]:
    envelopes = {
        "first key": Envelope(SENDER, 7, CLUSTER, KEYS, first_sequence=3_000_000_000),
        "second key": Envelope(SENDER, 8, CLUSTER, KEYS[::-1]),
        "no secret": Envelope(SENDER, 7, CLUSTER),
    }
    found: list[dict[str, object]] = []

    def record(name: str, sender: str, frame: bytes, message: object, asked: str | None = None) -> None:
        kind = codec.FrameType(frame[0])
        datagram = envelopes[sender].seal(
            frame,
            destination=None if kind is codec.FrameType.BEACON else RECEIVER,
            now_ms=int(WALL_S * 1000),
            advertised=ADVERTISED if sender == "second key" else None,
        )
        said = _shown(message)
        found.append(
            {"name": name, "sender": sender, "asked": asked, "message": said, "datagram": datagram.hex()}
        )

    number = 0
    for sender in envelopes:
        for request, result, deltas in CALLS:
            number += 1
            message_id, name = number.to_bytes(20, "little"), codec.NAMES[type(request)]
            record(f"{name} request", sender, codec.encode_request(message_id, request), request)
            if result is not None:
                frame = codec.encode_response(message_id, result, deltas)
                record(f"{name} response", sender, frame, (result, deltas), name)
        for reason, token in ((ChallengeReason.CLOCK, b""), (ChallengeReason.TOKEN, b"tokentok")):
            challenge = Challenge(reason, token)
            record("challenge", sender, codec.encode_challenge(_KEY, challenge), challenge)
        record("beacon", sender, codec.encode_beacon(_KEY, Beacon(29021)), Beacon(29021))
    return found


def _shown(message: object) -> object:
    """Bytes as hex."""
    return shown(msgspec.to_builtins(message, builtin_types=(bytes,)))


def shown(built: object) -> object:
    """The same values with hex for bytes and lists for sequences, as they stand in the file."""
    if isinstance(built, bytes):
        return built.hex()
    if isinstance(built, list | tuple):
        return [shown(one) for one in built]
    return built


def main(name: str) -> None:
    path = FOLDER / f"{name}.json"
    if path.exists():
        raise SystemExit(f"{path.name} is there already: a recording is never written anew")
    path.write_text("[\n" + ",\n".join(json.dumps(one) for one in _recorded()) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
