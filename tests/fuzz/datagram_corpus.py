"""The inputs that fuzzing starts from, written by code, and the file that keeps what it found.

The file holds one input a line, in hex. To keep what a run found:

    python -m tests.fuzz.datagram_corpus unpack FOLDER      before, for the fuzzer
    python -m tests.fuzz.datagram_corpus pack FOLDER        after
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from dht.endpoints import Endpoint, pack
from dht.wire import codec
from dht.wire.codec import (
    Added,
    AddProviders,
    Beacon,
    Challenge,
    Claim,
    Delta,
    Fence,
    Join,
    Page,
    Ping,
    Verb,
    WireContact,
)
from dht.wire.envelope import Envelope
from tests.fuzz.datagram_target import CLUSTER, RECEIVER, SENDERS, Op, Variant, operation, run
from tests.unit.dht.frames.record import CALLS

FILE: Final = Path(__file__).parent / "datagrams.corpus"
# libFuzzer's own default.
INPUT_MAX_BYTES: Final = 4096
_SEALED, _FREE = b"\x00", b"\x01"
_ID: Final = bytes(20)
_PLACES: Final = pack((Endpoint("10.0.0.8", 9), Endpoint("fd00::8", 9)))
_NEWS: Final = [
    Delta(kind, WireContact(bytes([number + 7]) * 20, 0xFFFFFE, _PLACES, b"i" * 48))
    for number, kind in enumerate((0, 0, 0, 0, 1, 2))
]


def seeds() -> Iterator[bytes]:
    """Together they get everywhere."""
    empty = _body(codec.encode_request(_ID, Ping()))
    ping = operation(Op.REQUEST, _body(codec.encode_request(_ID, Ping(b"info"))))
    for options in (_SEALED, _FREE):
        yield options
        for request, result, deltas in CALLS:
            asked = operation(Op.REQUEST, _body(codec.encode_request(_ID, request)))
            # Without a secret the first one fetches the token.
            yield options + asked + asked
            if result is not None:
                yield options + operation(Op.RESPONSE, _body(codec.encode_response(_ID, result, deltas)))
        yield (
            options
            + ping
            + operation(Op.RESPONSE, _body(codec.encode_response(_ID, Added(1), _NEWS)))
            + ping * 2
        )
        # An answer with room for most of four pieces of news, for all of them and one byte, and so on.
        for size in range(20, 49, 4):
            page = [WireContact(bytes([60 + number]) * 20, 3, _PLACES, b"i" * size) for number in range(2)]
            page.append(WireContact(bytes(range(60, 80)), 3, _PLACES[:6], b""))
            yield (
                options
                + operation(Op.RESPONSE, _body(codec.encode_response(_ID, Added(1), _NEWS[:4])))
                + operation(Op.RESPONSE, _body(codec.encode_response(_ID, Page(page, False, 4, b""), [])))
                + operation(Op.REQUEST, _body(codec.encode_request(_ID, Join(b"")))) * 2
            )
        yield from (options + one for one in _claims())
        yield options + operation(Op.CHALLENGE, _body(codec.encode_challenge(_ID, Challenge(0))))
        yield options + operation(Op.CHALLENGE, _body(codec.encode_challenge(_ID, Challenge(1, b"tokentok"))))
        late = Variant(0, 0, 3, False, False)
        yield options + operation(Op.CHALLENGE, _body(codec.encode_challenge(_ID, Challenge(0))), late) + ping
        yield options + operation(Op.BEACON, _body(codec.encode_beacon(_ID, Beacon(29021))))
        for byte in range(256):
            yield (options + operation(Op.REQUEST, empty, Variant.of(byte)) * 2)
        # Overtaken, repeated, changed; older lives; forgotten after a while.
        yield options + ping * 3 + operation(Op.AGAIN, b"\x01") + operation(Op.AGAIN, b"\x02\x1f\x40")
        for where, by in ((0, 3), (1, 0x80), (2, 1), (55, 1), (56, 1), (73, 4)):
            advertising = operation(Op.REQUEST, empty, Variant(0, 3, 0, False, True))
            yield options + advertising + operation(Op.AGAIN, bytes((1, where, by)))
        for op in (Op.RESPONSE, Op.CHALLENGE, Op.BEACON):
            yield options + operation(op, b"\x90")
        yield options + operation(Op.REQUEST, b"\x92\xa4join\x90") * 2
        yield options + operation(Op.AGAIN)
        old = operation(Op.REQUEST, empty, Variant(3, 0, 0, False, False))
        yield options + ping + old + operation(Op.WAIT, b"\x50") + old * 2
        yield options + operation(Op.FRAME, b"\x04" + bytes(30))
        yield options + operation(Op.FRAME, bytes(3))
        yield options + operation(Op.FRAME, bytes(2000))
        yield options + operation(Op.REQUEST, b"\x92\xa4ping\x92\xc4\x00" + b"\x91" * 1100)
        yield options + operation(Op.REQUEST, b"\x92\xa5store\x90") * 2
        for size in (0, 30, 56, 80, 1199, 1201):
            yield options + operation(Op.RAW, b"\x01".ljust(size, b"\x00"))
        keys = b"".join(bytes([number]) * 20 for number in range(48))
        added = codec.encode_request(_ID, AddProviders(0, 60, b"", keys))
        yield options + operation(Op.REQUEST, _body(added)) * 3
    for sealed in (True, False):
        sender = Envelope(SENDERS[0][0], 5, CLUSTER if sealed else "another")
        foreign = sender.seal(codec.encode_request(_ID, Ping()), destination=RECEIVER, now_ms=0)
        yield _FREE + operation(Op.RAW, foreign)
    frames = json.loads((Path(__file__).parents[1] / "unit/dht/frames/v1.json").read_text())
    for told in frames[:40:7]:
        yield _SEALED + operation(Op.RAW, bytes.fromhex(told["datagram"]))


def _claims() -> Iterator[bytes]:
    """Two nodes ask, grow, stall, give back and are excluded; a third one's fence is known."""

    def said(claim: Claim, sender: int = 0) -> bytes:
        body = _body(codec.encode_request(_ID, claim))
        return operation(Op.REQUEST, body, Variant(sender, sender, 0, False, False))

    ask = Claim(RECEIVER, Verb.ASK, 4)
    # The receiver's first grant, and another arbiter's.
    ours, foreign = Fence(RECEIVER, (1 << 39) + 1), Fence(SENDERS[1][0], 77)
    wait = operation(Op.WAIT, b"\x03")
    hello = said(ask) + said(ask, 1)
    for fence in (ours, foreign):
        renewals = b"".join(said(Claim(RECEIVER, Verb.RENEW, 0, progress, fence)) for progress in (1, 1, 9))
        yield hello * 2 + renewals + said(ask, 1) + wait * 3 + said(ask, 1) + renewals
        for reason in (0, 1):
            released = said(Claim(RECEIVER, Verb.RELEASE, 0, reason * 5, fence, [], reason))
            yield hello * 2 + released + said(ask, 1) + said(ask) + wait + said(ask)
        yield hello + said(Claim(RECEIVER, Verb.ASK, 4, 3, fence)) + wait + said(ask, 1)
    many = b"".join(said(Claim(bytes([number]) + RECEIVER[1:], Verb.ASK, 1)) for number in range(96, 104))
    yield said(ask) + many + wait * 10 + said(ask)
    yield (
        hello
        + said(Claim(SENDERS[1][0], Verb.ASK, 2))
        + said(Claim(SENDERS[1][0], Verb.ASK, 2, 0, None, [_ID]))
    )
    yield hello + said(Claim(RECEIVER, Verb.RENEW, 0)) + said(Claim(RECEIVER, 9, 0))


def corpus() -> list[bytes]:
    """What is kept."""
    return [bytes.fromhex(line) for line in FILE.read_text().split()]


def unpack(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in {*seeds(), *(corpus() if FILE.exists() else ())}:
        (folder / hashlib.sha256(one).hexdigest()[:20]).write_bytes(one)


def pack_folder(folder: Path) -> None:
    """Keeps the inputs, short ones first, that go somewhere in dht/ or make something happen that no other does."""
    seen: set[object] = set()
    kept = []
    for one in sorted({path.read_bytes() for path in folder.iterdir()}, key=lambda one: (len(one), one)):
        places = _places(one)
        if one and not places <= seen:
            seen |= places
            kept.append(one)
    FILE.write_text("".join(f"{one.hex()}\n" for one in kept))


def _places(one: bytes) -> set[object]:
    """Pairs of lines that followed each other, and what happened."""
    places: set[object] = set()

    def enter(frame: FrameType, event: str, argument: object) -> Callable[..., object] | None:
        if "/dht/" not in frame.f_code.co_filename:
            return None
        before = frame.f_lineno

        def step(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
            nonlocal before
            places.add((frame.f_code, before, frame.f_lineno))
            before = frame.f_lineno
            return step

        return step

    # The type of a trace function names itself.
    sys.settrace(enter)  # type: ignore[arg-type]
    try:
        happened = run(one)
    finally:
        sys.settrace(None)
    return places | set(happened)


def _body(frame: bytes) -> bytes:
    return codec.split(frame)[2]


if __name__ == "__main__":
    {"unpack": unpack, "pack": pack_folder}[sys.argv[1]](Path(sys.argv[2]))
