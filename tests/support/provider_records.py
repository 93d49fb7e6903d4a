"""Providers, keys and calls for tests of dht.records.records."""

from __future__ import annotations

import random

from dht.contacts import Contact, stamp
from dht.endpoints import Endpoint
from dht.params import Params
from dht.records.records import Records, Stored

PARAMS = Params()
TTL_S = PARAMS.record_ttl_s
KEY = b"k" * 20
OTHER = b"o" * 20
EVERYTHING = 10**9


def node(number: int, epoch: int = 1, info: bytes = b"") -> Contact:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return Contact(number.to_bytes(20, "big"), epoch, (Endpoint(address, 29021),), info)


def key(number: int) -> bytes:
    return random.Random(number).randbytes(20)


def found(records: Records, wanted: bytes = KEY, now: float = 0.0, exclude: bytes = b"") -> set[bytes]:
    return {one.provider.node for one in records.find(wanted, 1000, now, random.Random(1), exclude)}


def add(
    records: Records, who: Contact, wanted: bytes = KEY, said: int = 5, now: float = 0.0, ttl_s: float = TTL_S
) -> Stored:
    return records.add(wanted, who, 1, stamp(who.epoch, said), ttl_s, now)


def full_key(records: Records, count: int = 64) -> None:
    for number in range(count):
        assert add(records, node(number)) is Stored.STORED
