"""Warm pulls that go from a peer's socket into containerd's in the kernel, with real containerds and real daemons."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest

from containerd.client import Client
from tests.integration.test_peers_real import RATE_BITS_PER_S, bed, pulled, stranger
from tests.support.bed_hosts import BedHost
from tests.support.cri_pull import PullFailed, cri_pull
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.oci_image import build_image

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

_SEEDS = itertools.count(58_000)
LAYERS_BYTES = [24_000_000, 3_000_000, 50_000]
# The older ones take the same way: make test-all.
VERSIONS = [*(pytest.param(one, marks=pytest.mark.matrix) for one in ("1.6", "1.7")), "2.1"]


async def layer_held(host: BedHost, digest: str) -> bytes:
    async with Client(host.containerd.socket) as client:
        return b"".join([chunk async for chunk in client.content("k8s.io").read(digest)])


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_warm_pull_is_spliced(short_folder: Path, version: str) -> None:
    """Its large layers, and each byte of them once."""
    image = build_image(next(_SEEDS), LAYERS_BYTES)
    large = [one for one in image.layers if len(one.content) > 1 << 20]
    async with bed(short_folder, version, 2) as it:
        by_tag, by_digest = await it.push(image)
        first, second = it.hosts
        await pulled(first, by_tag)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        await pulled(second, by_digest)
        assert second.counted("bytes_received_from_peers") == image.size_bytes
        assert second.counted("bytes_spliced") == sum(len(one.content) for one in large)
        for one in large:
            assert await layer_held(second, one.digest) == one.content


async def test_a_host_that_got_it_spliced_serves_it_at_once(short_folder: Path) -> None:
    image = build_image(next(_SEEDS), LAYERS_BYTES)
    async with bed(short_folder, "2.1", 3) as it:
        by_tag, by_digest = await it.push(image)
        first, second, third = it.hosts
        await pulled(first, by_tag)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        await pulled(second, by_digest)
        await it.known({second: len(list(image))})
        await first.daemon.kill()
        await pulled(third, by_digest)
        assert third.counted("bytes_spliced") > LAYERS_BYTES[0]


async def test_a_source_that_is_killed_costs_nothing_but_itself(short_folder: Path) -> None:
    image = build_image(next(_SEEDS), LAYERS_BYTES)
    async with bed(short_folder, "2.1", 3, rate_bits_per_s=RATE_BITS_PER_S) as it:
        by_tag, by_digest = await it.push(image)
        *holders, third = it.hosts
        for host in holders:
            await pulled(host, by_tag)
        await it.known({host: len(list(image)) for host in holders})
        await it.registry.stop()
        before = {host: host.link.tx_bytes() for host in holders}

        def busiest() -> BedHost | None:
            sent = {host: host.link.tx_bytes() - before[host] for host in holders}
            host = max(sent, key=sent.__getitem__)
            return host if sent[host] > LAYERS_BYTES[0] // 4 else None

        async with contextlib.AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            pull = tasks.create_task(pulled(third, by_digest))
            await third.wait(lambda: busiest() is not None)
            serving = busiest()
            assert serving is not None
            await serving.daemon.kill()
            await pull
        assert third.counted("bytes_spliced") > 0
        for one in image.layers:
            assert await layer_held(third, one.digest) == one.content


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_wrong_byte_of_a_spliced_layer_leaves_the_image_pullable(
    short_folder: Path, version: str
) -> None:
    """Without a `Content.Abort` 1.6 and 1.7 fail every later pull without asking for the layer again (measured)."""
    image = build_image(next(_SEEDS), [6_000_000])
    layer = image.layers[0]
    async with contextlib.AsyncExitStack() as stack:
        it = await stack.enter_async_context(bed(short_folder, version, 1))
        at = it.network.address
        liar = await stack.enter_async_context(faulty_peer(layer.content, Fault.WRONG_BYTE, 1000, address=at))
        await stack.enter_async_context(stranger(it, liar.peer.port, layer.digest))
        (host,) = it.hosts
        by_tag, _ = await it.push(image)
        assert isinstance(await cri_pull(host.containerd, by_tag), PullFailed)
        assert host.counted("bytes_spliced") == len(layer.content)
        await host.wait(lambda: "holds no unfinished" in host.daemon.log())
        assert "sent wrong bytes and is left aside" in host.daemon.log()
        asked_count = len(liar.gets)
        await pulled(host, by_tag)
        assert len(liar.gets) == asked_count
        assert await layer_held(host, layer.digest) == layer.content


@pytest.mark.parametrize("version", ["2.1"])
async def test_with_verify_always_nothing_is_spliced(short_folder: Path, version: str) -> None:
    image = build_image(next(_SEEDS), LAYERS_BYTES)
    async with bed(short_folder, version, 2, daemon_flags=("--verify=always",)) as it:
        by_tag, by_digest = await it.push(image)
        first, second = it.hosts
        await pulled(first, by_tag)
        await it.known({first: len(list(image))})
        await it.registry.stop()
        await pulled(second, by_digest)
        assert second.counted("bytes_received_from_peers") == image.size_bytes
        assert second.counted("bytes_spliced") == 0
