"""A herd of real containerds whose pulls meet in part: two images with a layer in common, an index of two platforms."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.bed_hosts import BedHost
from tests.support.cri_pull import PullFailed
from tests.support.fault_bed import FaultBed, Pulls, fault_bed
from tests.support.fault_rows import tell
from tests.support.herd_bed import NAMESPACE
from tests.support.oci_image import Platform, build_image, build_index

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

BITS_PER_S = 60_000_000
LAYERS_BYTES = (100_000, 8_000_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[FaultBed]:
    async with fault_bed("2.1", 3, BITS_PER_S, LAYERS_BYTES) as bed:
        yield bed


@pytest_asyncio.fixture(loop_scope="module")
async def bed(made: FaultBed) -> AsyncIterator[FaultBed]:
    await made.heal()
    yield made


async def done(pulls: Pulls, what: str) -> None:
    failed = [one for one in await pulls.outcomes() if isinstance(one, PullFailed)]
    tell(what, pulls)
    assert not failed, f"{failed}\n{pulls.bed.logs()}"


async def test_two_images_share_their_large_layer(bed: FaultBed) -> None:
    """Hosts pull them at once, some this one and some that, and one both."""
    one = await bed.add(build_image(950_000, (8_000_000, 100_000)))
    other = await bed.add(build_image(950_000, (8_000_000, 200_000)))
    assert one.layer == other.layer
    first, second, third = bed.hosts
    this, that = bed.pull(one, [first, second]), bed.pull(other, [second, third])
    await done(this, "two images share a layer: this")
    await done(that, "two images share a layer: that")
    assert that.copies < 1.15
    await bed.check_pullable(one)
    await bed.check_pullable(other)


async def test_a_host_of_another_platform(bed: FaultBed) -> None:
    """It pulls by the same index, and of that only what is of its own kind: nobody waits for its layers, nor it for
    theirs."""
    index = build_index(960_000, LAYERS_BYTES, platforms=[Platform(), Platform(architecture="arm64")])
    image = await bed.add(index.images[0], index)
    *usual, other = bed.hosts
    pulls = bed.pull(image, usual)
    await asyncio.gather(done(pulls, "a host of another platform: the others"), arm64_pull(other, image.name))
    assert pulls.copies < 2.15
    await bed.check_pullable(image)
    await arm64_pull(other, image.name)


async def arm64_pull(host: BedHost, name: str) -> None:
    """As a containerd of that machine does it: CRI pulls for its own only."""
    command: list[str | Path] = [
        "nsenter",
        f"--net=/run/netns/{host.link.netns}",
        host.containerd.binaries / "ctr",
    ]
    command += ["--address", host.containerd.socket, "--namespace", NAMESPACE, "images", "pull", "--local"]
    command += ["--platform", "linux/arm64", "--hosts-dir", host.certs_dir, name]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
