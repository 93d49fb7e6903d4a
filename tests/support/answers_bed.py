"""A table, records and claims of one node, and its answers as they are on the wire."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from dht.answers import Answers
from dht.claims.claims import Claims
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.members.hashes import MemberHashes
from dht.members.members import Members
from dht.params import Params
from dht.records.records import Records
from dht.wire.codec import (
    FRAME_MIN_BYTES,
    MESSAGE_ID_BYTES,
    Request,
    Result,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
    split,
)
from tests.support.node_bed import OWN, Sender

PARAMS: Final = Params()
# With an advertised endpoint (docs/wire/dht.md).
ENVELOPE_MAX_BYTES: Final = 74
FRAME_MAX_BYTES: Final = PARAMS.datagram_max_bytes - ENVELOPE_MAX_BYTES
MESSAGE_ID: Final = b"m" * MESSAGE_ID_BYTES


class AnswersBed:
    def __init__(self, own: Contact = OWN, params: Params = PARAMS, seed: int = 1) -> None:
        self.own = own
        self.params = params
        self.rng = random.Random(seed)
        self.members = Members(own, params)
        self.hashes = MemberHashes(self.members)
        self.records = Records(params)
        self.claims = Claims(own.node, own.epoch, params)
        self.answers = Answers(
            self.members, self.hashes, self.records, self.claims, params, random.Random(seed)
        )

    def ask(
        self,
        request: Request,
        sender: Sender,
        now: float = 0.0,
        *,
        is_joined: bool = True,
        frame_max_bytes: int = FRAME_MAX_BYTES,
    ) -> Result | None:
        """Through the wire both ways; an answer is at most as long as a frame may be."""
        asked = decode_request(split(encode_request(MESSAGE_ID, request))[2])
        result = self.answers.answer(
            asked, sender, now, frame_max_bytes - FRAME_MIN_BYTES, is_joined=is_joined
        )
        if result is None:
            return None
        frame = encode_response(MESSAGE_ID, result, [])
        assert len(frame) <= frame_max_bytes, f"{len(frame)} bytes of {type(result).__name__}"
        came, deltas = decode_response(type(request), split(frame)[2])
        assert (came, deltas) == (result, [])
        return came

    def stranger(self, *, info_bytes: int = 0, families: str = "46") -> Contact:
        """Somebody at addresses of his own, the longest in text and bytes."""
        rng = self.rng
        endpoints = []
        if "4" in families:
            endpoints.append(
                Endpoint(f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}", 65535)
            )
        if "6" in families:
            groups = (f"{rng.randrange(0x1000, 0x10000):x}" for _ in range(7))
            endpoints.append(Endpoint(f"fd00:{':'.join(groups)}", 65535))
        return Contact(
            rng.randbytes(20), rng.randrange(1 << 16, 1 << 24), tuple(endpoints), rng.randbytes(info_bytes)
        )

    def fill(self, count: int, *, info_bytes: int = 0, families: str = "46") -> list[Contact]:
        """More members, in id order."""
        new = [self.stranger(info_bytes=info_bytes, families=families) for _ in range(count)]
        self.members.preload(new)
        return sorted(new, key=lambda one: one.node)


def as_sender(contact: Contact, sequence: int = 1) -> Sender:
    return Sender(contact.node, contact.epoch, contact.endpoints[0], sequence)


def without_address(own: Contact) -> Contact:
    return replace(own, endpoints=())
