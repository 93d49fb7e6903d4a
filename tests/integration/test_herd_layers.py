"""A herd of containerds 2.1 and an image of many layers, which takes longer than a claimant has for a first byte."""

from __future__ import annotations

import pytest

from mirror.steer.timers import CLAIM_FIRST_BYTE_S
from tests.support.cri_pull import PullFailed
from tests.support.fault_bed import fault_bed
from tests.support.fault_rows import tell

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

BITS_PER_S = 16_000_000
# Nine of them come at once, and the claimant's containerd reads three at a time.
LAYERS_BYTES = (3_600_000,) * 9


@pytest.mark.matrix
async def test_each_layer_leaves_the_origin_once_though_most_are_begun_late() -> None:
    """Where two hosts ask at the same moment the claims are divided between them, and one whose places are taken by
    requests that wait may begin too late: a layer or two then leave the origin twice."""
    assert 8 * sum(LAYERS_BYTES) / BITS_PER_S > 1.5 * CLAIM_FIRST_BYTE_S
    async with fault_bed("2.1", 3, BITS_PER_S, LAYERS_BYTES) as bed:
        pulls = bed.pull(await bed.image())
        failed = [one for one in await pulls.outcomes() if isinstance(one, PullFailed)]
        tell("many layers", pulls)
        assert not failed, f"{failed}\n{bed.logs()}"
        assert pulls.copies < 1.0 + 3 / len(LAYERS_BYTES), bed.logs()
        await bed.check_pullable(pulls.image)
