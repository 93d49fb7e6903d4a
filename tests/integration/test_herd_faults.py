"""A herd of real containerds, and somebody who fails half way: every host that lives gets its image, and none is left
with one that it cannot pull."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.bed_hosts import BedHost
from tests.support.cri_pull import PullFailed
from tests.support.fault_bed import FaultBed, Pulls, fault_bed
from tests.support.fault_rows import tell

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

# Six seconds and a half, and little CPU: there is a half way.
BITS_PER_S = 24_000_000
LAYERS_BYTES = (100_000, 16_000_000)
HALF_BYTES = 8_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[FaultBed]:
    async with fault_bed("2.1", 3, BITS_PER_S, LAYERS_BYTES) as bed:
        yield bed


@pytest_asyncio.fixture(loop_scope="module")
async def bed(made: FaultBed) -> AsyncIterator[FaultBed]:
    await made.heal()
    yield made


async def struck(bed: FaultBed) -> tuple[Pulls, BedHost]:
    """A herd half way, and its claimant."""
    pulls = bed.pull(await bed.image())
    return pulls, await pulls.claimant(at_bytes=HALF_BYTES)


async def all_succeed(pulls: Pulls, fault: str) -> None:
    outcomes = await pulls.outcomes()
    failed = [one for one in outcomes if isinstance(one, PullFailed)]
    tell(fault, pulls)
    assert not failed, f"{failed}\n{pulls.bed.logs()}"
    assert outcomes


async def test_the_claimants_daemon_is_killed(bed: FaultBed) -> None:
    """Its containerd goes on at the origin: it never needed the daemon for that. The others need a new claimant."""
    pulls, claimant = await struck(bed)
    await claimant.daemon.kill()
    await all_succeed(pulls, "claimant's daemon killed")
    await bed.check_pullable(pulls.image)


async def test_the_claimants_containerd_is_killed(bed: FaultBed) -> None:
    pulls, claimant = await struck(bed)
    await claimant.containerd.kill()
    assert isinstance(await pulls.tasks.pop(claimant), PullFailed)
    await all_succeed(pulls, "claimant's containerd killed")
    await bed.check_pullable(pulls.image)


async def test_the_claimants_pull_is_cancelled(bed: FaultBed) -> None:
    pulls, claimant = await struck(bed)
    await pulls.cancel(claimant)
    await all_succeed(pulls, "claimant's pull cancelled")
    await bed.check_pullable(pulls.image)
