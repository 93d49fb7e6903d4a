"""A herd of real containerds, and one host among them that holds the image and is wicked: it stalls, ends early, gives
nothing of what it says it holds, or sends wrong bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from tests.support import wicked_daemon
from tests.support.bed_hosts import BedHost
from tests.support.cri_pull import Pulled, PullFailed
from tests.support.fault_bed import BedImage, FaultBed, fault_bed
from tests.support.fault_rows import tell

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]


BITS_PER_S = 60_000_000
LAYERS_BYTES = (100_000, 8_000_000)


def _some_of_all(*ordinary: str) -> list[object]:
    """The rest takes long, and is tried by `tests/seams/test_herd_meddlers.py` in another way."""
    return [
        how if how in ordinary else pytest.param(how, marks=pytest.mark.matrix) for how in wicked_daemon.HOWS
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[FaultBed]:
    async with fault_bed("2.1", 4, BITS_PER_S, LAYERS_BYTES) as bed:
        yield bed


@pytest_asyncio.fixture(loop_scope="module")
async def bed(made: FaultBed) -> AsyncIterator[FaultBed]:
    await made.heal()
    yield made


async def held_by(bed: FaultBed, *hosts: BedHost) -> BedImage:
    """An image that these hosts have, and that all know of."""
    image = await bed.image()
    for outcome in await bed.pull(image, hosts).outcomes():
        assert isinstance(outcome, Pulled), f"{outcome}\n{bed.logs()}"
    await bed.known(image, hosts)
    return image


@asynccontextmanager
async def wicked(bed: FaultBed, host: BedHost, how: str) -> AsyncIterator[None]:
    """Its daemon is started anew, and is known as before."""
    good = host.daemon.command
    await host.turn_wicked(how)
    await bed.heal()
    yield
    host.daemon.command = good
    await host.daemon.stop()
    await bed.heal()


@pytest.mark.parametrize("how", _some_of_all("corrupt"))
async def test_the_only_source_is_wicked(bed: FaultBed, how: str) -> None:
    """The origin is left."""
    *honest, liar = bed.hosts
    image = await held_by(bed, liar)
    async with wicked(bed, liar, how):
        await bed.known(image, [liar])
        pulls = bed.pull(image, honest)
        failed = [one for one in await pulls.outcomes() if isinstance(one, PullFailed)]
        tell(f"the only source: {how}", pulls)
    # Wrong bytes are found in the manifest, which is verified before it leaves: nobody is asked for layers after that.
    assert not failed, f"{failed}\n{bed.logs()}"
    assert pulls.copies < len(honest) + 0.1
    await bed.check_pullable(image)


@pytest.mark.parametrize("how", _some_of_all("stall"))
async def test_one_source_is_wicked_and_one_is_not(bed: FaultBed, how: str) -> None:
    """Nothing is needed of the origin."""
    *others, good, liar = bed.hosts
    image = await held_by(bed, good, liar)
    async with wicked(bed, liar, how):
        await bed.known(image, [good, liar])
        pulls = bed.pull(image, others)
        failed = [one for one in await pulls.outcomes() if isinstance(one, PullFailed)]
        tell(f"one of two sources: {how}", pulls)
    assert not failed, f"{failed}\n{bed.logs()}"
    assert pulls.copies < 0.1
    await bed.check_pullable(image)
