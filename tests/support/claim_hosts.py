"""Hosts that ask for claims, and the key they ask for."""

from __future__ import annotations

from dht.claims.rulings import Granted, Ruling
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.params import Params
from dht.wire.codec import Fence

PARAMS = Params()
OWN = b"\x0a" * 20
OTHER_ARBITER = b"\x0b" * 20
KEY = b"\x01" * 20
KEY_2 = b"\x02" * 20
EPOCH = 7
# Any reason but dht.claims.claims.REASON_DONE.
FAILED = 1
RETRY_S = PARAMS.claim_wait_retry_s
FIRST_S = PARAMS.claim_first_progress_s
FOREIGN = Fence(OTHER_ARBITER, 77)


def host(number: int) -> Contact:
    return Contact(bytes([100 + number]) * 20, 1, (Endpoint(f"10.0.0.{number}", 29021),), b"")


A, B, C, D = (host(number) for number in range(1, 5))


def granted(ruling: Ruling) -> Granted:
    assert isinstance(ruling, Granted), ruling
    return ruling
