"""The faults that strike most often, on the containerds before 2: `test_herd_faults` has them all on 2.1."""

from __future__ import annotations

import pytest

from tests.support.cri_pull import PullFailed
from tests.support.fault_bed import fault_bed
from tests.support.fault_rows import tell

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

BITS_PER_S = 24_000_000
LAYERS_BYTES = (100_000, 8_000_000)
HALF_BYTES = 4_000_000


@pytest.mark.parametrize("version", [pytest.param("1.6", marks=pytest.mark.matrix), "1.7"])
async def test_the_claimants_pull_is_cancelled_and_another_ones_daemon_is_killed(version: str) -> None:
    async with fault_bed(version, 3, BITS_PER_S, LAYERS_BYTES) as bed:
        pulls = bed.pull(await bed.image())
        claimant = await pulls.claimant(at_bytes=HALF_BYTES)
        await pulls.cancel(claimant)
        assert not [one for one in await pulls.outcomes() if isinstance(one, PullFailed)], bed.logs()
        tell(f"{version}: claimant's pull cancelled", pulls)
        await bed.check_pullable(pulls.image)

        pulls = bed.pull(await bed.image())
        claimant = await pulls.claimant(at_bytes=HALF_BYTES)
        await claimant.daemon.kill()
        assert not [one for one in await pulls.outcomes() if isinstance(one, PullFailed)], bed.logs()
        tell(f"{version}: claimant's daemon killed", pulls)
        await bed.check_pullable(pulls.image)
