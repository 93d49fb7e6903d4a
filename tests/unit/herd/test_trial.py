"""Bytes that went past the hash, of a pull whose file is gone: judged where all of them went there, else let be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirror.herd.ports import TransferPorts
from mirror.herd.trial import Trial
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from tests.support.memory_ingests import MemoryIngests
from tests.support.store_beds import eventually

DATA = b"what was asked for"
WRONG = b"what was sent to us"[: len(DATA)]
D = Digest.of(DATA)
SIZE = len(DATA)


class Bed:
    def __init__(self) -> None:
        self.ingests = MemoryIngests()
        self.accused: list[str | None] = []
        self.tasks: list[asyncio.Task[None]] = []
        ports = cast(TransferPorts, SimpleNamespace(ingests=self.ingests))
        self.trial = Trial(D, ports, wrong=self.accused.append, spawn=self._spawn)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def pulled(self, data: bytes) -> None:
        """By a pull that failed at once: nobody saw its file grow."""
        ingest = self.ingests.begin(D, SIZE)
        ingest.write(data)
        self.trial.fed("liar", ByteSpan(0, len(data)))
        ingest.cancel()

    async def judged(self) -> None:
        await eventually(lambda: all(task.done() for task in self.tasks))


@pytest.fixture
async def bed() -> AsyncIterator[Bed]:
    made = Bed()
    yield made
    made.ingests.close()


async def test_wrong_bytes_that_were_thrown_away_before_they_were_seen_are_proven_all_the_same(
    bed: Bed,
) -> None:
    bed.pulled(WRONG)
    bed.trial.vanished(SIZE)
    assert bed.trial.is_suspect, "until it is known"
    await bed.judged()
    assert bed.accused == ["liar"]


async def test_right_bytes_of_a_pull_that_was_cancelled_accuse_nobody(bed: Bed) -> None:
    bed.pulled(DATA)
    bed.trial.vanished(SIZE)
    await bed.judged()
    assert bed.accused == []
    assert not bed.trial.is_suspect


@pytest.mark.parametrize("size_bytes", [SIZE + 1, None])
async def test_a_part_of_it_is_not_judged(bed: Bed, size_bytes: int | None) -> None:
    bed.pulled(WRONG)
    bed.trial.vanished(size_bytes)
    assert bed.tasks == []
    assert not bed.trial.is_open
    assert not bed.trial.is_suspect


async def test_where_nothing_was_sent_past_the_hash_nothing_is_judged(bed: Bed) -> None:
    bed.trial.vanished(0)
    assert bed.tasks == []
