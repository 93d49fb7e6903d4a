"""A herd of real containerds, and somebody who fails half way: every host that lives gets its image, and none is left
with one that it cannot pull."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.bed_hosts import BedHost
from tests.support.cri_pull import Pulled, PullFailed
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


async def test_a_frozen_claimants_daemon_holds_up_nobody_else(bed: FaultBed) -> None:
    """As SIGSTOP, a cgroup's freezer or a debugger freezes it: its host takes connections and says nothing."""
    pulls, claimant = await struck(bed)
    bed.freeze(claimant)
    others = [host for host in bed.hosts if host is not claimant]
    await pulls.outcomes(*others)
    bed.thaw(claimant)
    await all_succeed(pulls, "claimant's daemon frozen")
    await bed.check_pullable(pulls.image)


@pytest.mark.matrix
async def test_a_frozen_waiters_daemon_holds_up_its_own_host_only(bed: FaultBed) -> None:
    """Until it goes on, or a liveness probe ends it."""
    pulls, claimant = await struck(bed)
    frozen, other = (host for host in bed.hosts if host is not claimant)
    bed.freeze(frozen)
    await pulls.outcomes(claimant, other)
    bed.thaw(frozen)
    await all_succeed(pulls, "waiter's daemon frozen")
    await bed.check_pullable(pulls.image)


async def test_the_origin_goes_at_half(bed: FaultBed) -> None:
    """Nobody has the rest: pulls fail, and succeed when it is there again."""
    pulls, _ = await struck(bed)
    await bed.herd.registry.process.kill()
    assert all(isinstance(one, PullFailed) for one in await pulls.outcomes())
    tell("origin gone at half", pulls)
    await bed.check_pullable(pulls.image)


@pytest.mark.matrix
async def test_the_origin_goes_and_a_host_has_all(bed: FaultBed) -> None:
    """But for the tag, nothing is needed of it."""
    image = await bed.image()
    first, *others = bed.hosts
    assert isinstance((await bed.pull(image, [first]).outcomes())[0], Pulled)
    pulls = bed.pull(image, others)
    await pulls.claimant(at_bytes=HALF_BYTES)
    await bed.herd.registry.process.kill()
    await all_succeed(pulls, "origin gone at half, a host has all")
    await bed.check_pullable(image)


@pytest.mark.matrix
async def test_the_arbiter_is_killed(bed: FaultBed) -> None:
    """A new one adopts the claim that runs. The arbiter's own host goes on at the origin."""
    image = await bed.image()
    arbiter = bed.arbiter(image)
    first, other = (host for host in bed.hosts if host is not arbiter)
    pulls = bed.pull(image, [first])
    await pulls.claimant()
    pulls.join(other)
    pulls.join(arbiter)
    await pulls.until(first, HALF_BYTES)
    await arbiter.daemon.kill()
    await all_succeed(pulls, "arbiter killed")
    await bed.check_pullable(pulls.image)


async def test_a_host_that_joins_late(bed: FaultBed) -> None:
    image = await bed.image()
    *early, late = bed.hosts
    pulls = bed.pull(image, early)
    await pulls.claimant(at_bytes=HALF_BYTES)
    pulls.join(late)
    await all_succeed(pulls, "late joiner")
    assert pulls.copies < 1.1
    await bed.check_pullable(image)
