"""The memory that one node's records take, by tracemalloc. Judges nothing."""

from __future__ import annotations

import gc
import random
import tracemalloc
from dataclasses import dataclass
from typing import Final

from dht.contacts import Contact, stamp
from dht.endpoints import Endpoint
from dht.ids import ID_BYTES
from dht.params import Params
from dht.records.records import Records, Stored

# What a node holds of 1,000 nodes with 1,000 keys each: all of it; and what is left of it where most nodes have the
# common keys, which have enough providers (the median of rest-1000). A provider's share weighs the more.
PROVIDERS_COUNT: Final = 1000


@dataclass(frozen=True, slots=True)
class Case:
    records_count: int
    each_count: int

    def __str__(self) -> str:
        return f"{self.records_count}_of_{self.each_count}_a_key"


CASES: Final = (Case(8000, 1), Case(8000, 50), Case(4300, 50))


def kib_by_case(params: Params) -> dict[str, float]:
    return {str(case): round(kib_per_1000(params, case), 1) for case in CASES}


def state_fields(found: dict[str, float]) -> dict[str, object]:
    return {"providers": PROVIDERS_COUNT, "state_kib_per_1000_records": found}


def kib_per_1000(params: Params, case: Case) -> float:
    """Everything but the contacts, which the members' table has anyway."""
    rng = random.Random(5)
    contacts = [
        Contact(rng.randbytes(ID_BYTES), 1, (Endpoint(f"10.0.{number >> 8}.{number & 255}", 29021),), b"")
        for number in range(PROVIDERS_COUNT)
    ]
    gc.collect()
    tracemalloc.start()
    try:
        before_bytes, _ = tracemalloc.get_traced_memory()
        records = Records(params)
        for number in range(case.records_count // case.each_count):
            # Not kept: a datagram's keys are not, either.
            key = rng.randbytes(ID_BYTES)
            first = number * case.each_count
            for place in range(first, first + case.each_count):
                contact = contacts[place % PROVIDERS_COUNT]
                stored = records.add(key, contact, 0, stamp(1, place), params.record_ttl_s, 0.0)
                assert stored is Stored.STORED
        gc.collect()
        after_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after_bytes - before_bytes) / 1024 / (len(records) / 1000)
