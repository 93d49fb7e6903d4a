"""Hosts whose daemons are of no use to them pull as if there were none: at most a second later, layer upon layer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.support.bed_hosts import BedHost
from tests.support.fault_bed import BedImage, FaultBed, fault_bed
from tests.support.fault_rows import say

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

# The promise is a difference of seconds. Each side is the slowest of so many pulls: the first one meets what the daemon
# does not know yet, and a busy machine makes both slow.
ROUNDS_COUNT = 3
ADDED_MAX_S = 1.0
BITS_PER_S = 60_000_000
# More than containerd fetches at once.
LAYERS_BYTES = (1_000_000,) * 6

Named = Callable[[BedImage], BedImage]
BY_TAG = pytest.param(lambda image: image, id="by_tag")
BY_DIGEST = pytest.param(BedImage.by_digest, id="by_digest")
BY_DIGEST_IN_MATRIX = pytest.param(BedImage.by_digest, id="by_digest", marks=pytest.mark.matrix)
BY_TAG_IN_MATRIX = pytest.param(lambda image: image, id="by_tag", marks=pytest.mark.matrix)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[FaultBed]:
    async with fault_bed("2.1", 3, BITS_PER_S, LAYERS_BYTES) as bed:
        yield bed


@pytest_asyncio.fixture(loop_scope="module")
async def bed(made: FaultBed) -> AsyncIterator[FaultBed]:
    await made.heal()
    yield made


async def added_s(bed: FaultBed, images: list[BedImage], what: str) -> float:
    """Of the first host's pulls of these, to pulls of others of their size without a mirror: of what was pulled once a
    daemon keeps a file for a while. The mirrored come first: a daemon that has just lost its peers knows least."""
    host = bed.hosts[0]
    others = [await bed.image() for _ in images]
    if "@" in images[0].name:
        others = [other.by_digest() for other in others]
    sent_bytes = bed.origin_bytes()
    took_s = [await bed.took_s(host, image) for image in images]
    assert bed.origin_bytes() - sent_bytes > sum(image.size_bytes for image in images), "peers were of use"
    asked_count = requests_count(host)
    direct_s = [await bed.took_s(host, bed.direct(other)) for other in others]
    assert requests_count(host) == asked_count, "a direct pull went by the daemon"
    seconds = ", ".join(f"{one - max(direct_s):+.2f}" for one in took_s)
    say(f"{what}: {seconds} s to a direct pull of {max(direct_s):.2f} s")
    return max(took_s) - max(direct_s)


def requests_count(host: BedHost) -> int:
    """To its daemon; 0 where that does not run."""
    return host.counted("requests") if host.daemon.running else 0


async def held_by_others(bed: FaultBed) -> list[BedImage]:
    images = [await bed.image() for _ in range(ROUNDS_COUNT)]
    for image in images:
        await bed.pull(image, bed.hosts[1:]).outcomes()
        await bed.known(image, bed.hosts[1:])
    return images


@pytest.mark.matrix
async def test_the_host_is_parted_from_all_others(bed: FaultBed) -> None:
    """Datagrams and streams are lost in silence; its daemon knew them all a moment ago."""
    images = [await bed.image() for _ in range(ROUNDS_COUNT)]
    bed.part(bed.hosts[0])
    assert await added_s(bed, images, "parted from all others") <= ADDED_MAX_S


@pytest.mark.parametrize("named", [BY_TAG_IN_MATRIX, BY_DIGEST])
async def test_the_host_is_parted_from_those_that_have_the_image(bed: FaultBed, named: Named) -> None:
    """It knows them as providers."""
    images = [named(image) for image in await held_by_others(bed)]
    bed.part(bed.hosts[0])
    assert await added_s(bed, images, "parted from all providers") <= ADDED_MAX_S


@pytest.mark.matrix
async def test_all_peers_are_dead(bed: FaultBed) -> None:
    images = [await bed.image() for _ in range(ROUNDS_COUNT)]
    for host in bed.hosts[1:]:
        await host.daemon.kill()
    assert await added_s(bed, images, "all peers are dead") <= ADDED_MAX_S


@pytest.mark.parametrize("named", [BY_TAG, BY_DIGEST_IN_MATRIX])
async def test_all_providers_are_dead(bed: FaultBed, named: Named) -> None:
    images = [named(image) for image in await held_by_others(bed)]
    for host in bed.hosts[1:]:
        await host.daemon.kill()
    assert await added_s(bed, images, "all providers are dead") <= ADDED_MAX_S


@pytest.mark.parametrize("named", [BY_TAG_IN_MATRIX, BY_DIGEST])
async def test_all_providers_are_frozen(bed: FaultBed, named: Named) -> None:
    """Their kernels still take connections."""
    images = [named(image) for image in await held_by_others(bed)]
    for host in bed.hosts[1:]:
        bed.freeze(host)
    assert await added_s(bed, images, "all providers are frozen") <= ADDED_MAX_S


@pytest.mark.matrix
async def test_the_hosts_own_daemon_is_dead(bed: FaultBed) -> None:
    images = [await bed.image() for _ in range(ROUNDS_COUNT)]
    await bed.hosts[0].daemon.kill()
    assert await added_s(bed, images, "its own daemon is dead") <= ADDED_MAX_S
