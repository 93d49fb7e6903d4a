"""Whole daemons on hosts whose containerd throws layers away: the next host still gets them from the last."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.bed_hosts import BedHost
from tests.support.herd_bed import HerdPlan, herd_bed
from tests.support.skips import tool_bin

PLAN = HerdPlan(
    host_count=2,
    link_bits_per_s=400_000_000,
    origin_bits_per_s=400_000_000,
    layer_sizes_bytes=(4_000_000, 1_000_000, 1_000),
    # The first host's layers are gone by then: two pulls, not one herd.
    stagger_s=4.0,
    discard_unpacked_layers=True,
)


@pytest.mark.containerd
@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("version", ["1.7", "2.1"])
async def test_the_second_host_gets_what_the_first_one_s_containerd_threw_away(version: str) -> None:
    async with herd_bed(
        PLAN,
        containerd_binaries=tool_bin(f"containerd-{version}"),
        registry_binaries=tool_bin("docker-registry"),
        image_count=1,
    ) as bed:
        await bed.start_daemons()
        (image,) = bed.images
        run, costs = await bed.pull_with_daemons(image)
        assert run.failures == ()
        assert run.origin_bytes == pytest.approx(image.size_bytes, rel=0.05), "one copy"
        assert costs[1].received_from_peers_bytes == pytest.approx(image.size_bytes, rel=0.01)
        for host in bed.hosts:
            await host.wait(has_cached(host, len(PLAN.layer_sizes_bytes)))


def has_cached(host: BedHost, count: int) -> Callable[[], bool]:
    blobs = host.folder / "data" / "cache" / "blobs" / "sha256"
    return lambda: len(list(blobs.iterdir())) == count
