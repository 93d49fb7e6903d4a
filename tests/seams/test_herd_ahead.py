"""What a runtime will ask for next is fetched while it reads: the layers of the same image, from whoever has some."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.manifest import OCI_MANIFEST
from tests.support.herd_hosts import MIB, Herd, HerdHost, herd, pulling
from tests.support.store_beds import eventually

CONFIG = b"{}"
LAYERS = [random.Random(60 + number).randbytes(4 * MIB + 99) for number in range(3)]
HALF = 2 * MIB


def described(data: bytes, kind: str) -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}"
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(CONFIG, "config.v1+json"),
        "layers": [described(layer, "layer.v1.tar") for layer in LAYERS],
    }
).encode()


@dataclass(frozen=True, slots=True)
class Bed:
    """`first` reads all layers from the origin, which gave it half of each; `second` knows the manifest."""

    herd: Herd
    first: HerdHost
    second: HerdHost

    def has_here(self, layer: bytes) -> int:
        """So many bytes of it `second` would lend."""
        lender, pieces = self.second.mirror.herd, range(len(layer) // MIB)
        count = 0
        for piece in pieces:
            with lender.lend(Digest.of(layer), ByteSpan(piece * MIB, (piece + 1) * MIB)) as portions:
                count += MIB if portions else 0
        return count


@asynccontextmanager
async def bed(*, spool_bytes: int = 64 * MIB) -> AsyncIterator[Bed]:
    async with herd(1, MANIFEST, *LAYERS) as made, AsyncExitStack() as stack:
        (first,) = made.hosts
        second = await made.host(spool_bytes=spool_bytes)
        await first.pull(Digest.of(MANIFEST), len(MANIFEST), kind="manifests")
        await second.pull(Digest.of(MANIFEST), len(MANIFEST), kind="manifests")
        made.origin.allow(HALF)
        for layer in LAYERS:
            pulls = await stack.enter_async_context(pulling([first], layer))
            await pulls.reach(HALF)
        yield Bed(made, first, second)
        made.origin.allow(None)


async def test_the_other_layers_come_while_one_is_read_and_cost_the_origin_nothing() -> None:
    async with bed() as it:
        async with pulling([it.second], LAYERS[0]) as pulls:
            await pulls.reach(HALF)
            await eventually(lambda: [it.has_here(layer) for layer in LAYERS[1:]] == [HALF, HALF])
            it.herd.origin.allow(None)
            await pulls.done()
        for layer in LAYERS[1:]:
            pull = await it.second.pull(Digest.of(layer), len(layer))
            assert (pull.statuses, bytes(pull.data)) == ([200], layer)
        assert it.herd.origin.total_bytes == len(MANIFEST) + sum(map(len, LAYERS))


async def test_what_came_is_fed_though_no_arbiter_answers() -> None:
    """A busy one is silent for seconds: with half of the layer here that is no reason to read it from the origin."""
    async with bed() as it, pulling([it.second], LAYERS[0]) as pulls:
        await pulls.reach(HALF)
        await eventually(lambda: it.has_here(LAYERS[1]) == HALF)
        it.herd.arbiter.is_gone = True
        async with pulling([it.second], LAYERS[1]) as more:
            await more.reach(HALF)
            it.herd.origin.allow(None)
            await more.done()
            (pull,) = more
            assert (pull.statuses, bytes(pull.data)) == ([200], LAYERS[1])
        await pulls.done()
        await eventually(lambda: it.herd.origin.total_bytes == len(MANIFEST) + sum(map(len, LAYERS)))


async def test_what_came_is_verified_before_it_is_asked_for() -> None:
    async with bed() as it, pulling([it.second], LAYERS[0]) as pulls:
        await pulls.reach(HALF)
        last = it.second.mirror.herd._transfers[Digest.of(LAYERS[2])]
        it.herd.origin.allow(None)
        await pulls.done()
        await eventually(lambda: last._swarming is not None and last._swarming.is_verified)


async def test_below_the_lowest_that_was_asked_for_nothing_is_fetched() -> None:
    """It may be unpacked already, and never asked for."""
    async with bed() as it, pulling([it.second], LAYERS[1]) as pulls:
        await pulls.reach(HALF)
        await eventually(lambda: it.has_here(LAYERS[2]) == HALF)
        assert it.has_here(LAYERS[0]) == 0


async def test_what_the_store_has_is_not_fetched() -> None:
    async with bed() as it:
        it.second.mirror.store.add(LAYERS[1])
        async with pulling([it.second], LAYERS[0]) as pulls:
            await pulls.reach(HALF)
            await eventually(lambda: it.has_here(LAYERS[2]) == HALF)
            assert it.has_here(LAYERS[1]) == 0


async def test_with_half_of_the_spool_used_nothing_is_fetched_ahead() -> None:
    async with bed(spool_bytes=14 * MIB) as it:
        async with pulling([it.second], LAYERS[0]) as pulls:
            await pulls.reach(HALF)
            known = [it.second.mirror.herd.size_bytes(Digest.of(layer)) for layer in LAYERS]
            assert known == [len(LAYERS[0]), None, None]
            it.herd.origin.allow(None)
            await pulls.done()


async def test_a_pull_that_was_given_up_fetches_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.herd.herd.SWEEP_EVERY_S", 0.05)
    async with bed() as it:
        async with pulling([it.second], LAYERS[0]) as pulls:
            await pulls.reach(HALF)
            await eventually(lambda: it.has_here(LAYERS[2]) == HALF)
        last = it.second.mirror.herd._transfers[Digest.of(LAYERS[2])]
        await eventually(lambda: not last.ahead.is_on)
        # The next pull is over sooner than what it begins: that is not to be given up in the same moment.
        monkeypatch.setattr("mirror.herd.herd.SWEEP_EVERY_S", 60.0)
        it.herd.origin.allow(None)
        store = it.first.mirror.store
        await eventually(lambda: store.size_bytes(Digest.of(LAYERS[2])) is not None)
        assert it.has_here(LAYERS[2]) == HALF
        pull = await it.second.pull(Digest.of(LAYERS[0]), len(LAYERS[0]))
        assert (pull.statuses, bytes(pull.data)) == ([200], LAYERS[0])
        await eventually(lambda: it.has_here(LAYERS[2]) == 4 * MIB)
