"""A herd of real containerds before a registry that refuses the claimant, or everybody. Who is refused is fed by
another host's pull."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count

import pytest
import pytest_asyncio

from tests.support.cri_pull import PullFailed
from tests.support.fault_bed import BedImage, FaultBed, fault_bed
from tests.support.fault_rows import tell
from tests.support.oci_image import build_image
from tests.support.token_origin import Answer, Asked, Status, TokenOrigin, rate_limited

pytestmark = [
    pytest.mark.containerd,
    pytest.mark.netns,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
]

BITS_PER_S = 60_000_000
LAYERS_BYTES = (100_000, 8_000_000)
REFUSALS = {"401": Status(401), "404": Status(404), "429": rate_limited()}
_SEEDS = count(930_000)


@dataclass(frozen=True, slots=True)
class Before:
    bed: FaultBed
    origin: TokenOrigin

    def image(self) -> BedImage:
        image, repository = build_image(next(_SEEDS), LAYERS_BYTES), f"refused/{next(_SEEDS)}"
        self.origin.add(image, repository, "v1")
        return BedImage.of(f"{self.origin.authority}/{repository}:v1", image, self._sent_bytes)

    def _sent_bytes(self) -> int:
        return sum(exchange.sent_bytes for exchange in self.origin.journal)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def made() -> AsyncIterator[Before]:
    """The registry is in this process, since it is to know who asks: only the hosts' links are narrow."""
    async with fault_bed("2.1", 3, BITS_PER_S, LAYERS_BYTES) as bed:
        async with TokenOrigin(address=bed.herd.network.address) as origin:
            for host in bed.hosts:
                host.install_registry(origin.authority, origin.url)
                host.configure(origin.authority)
            yield Before(bed, origin)


@pytest_asyncio.fixture(loop_scope="module")
async def before(made: Before) -> AsyncIterator[Before]:
    made.origin.behave_well()
    await made.bed.heal()
    yield made


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_the_claimant_alone_is_refused(before: Before, refusal: str) -> None:
    """Its rate limit, its credentials. Who asks for the layer first is the claimant."""
    image = before.image()
    refused: list[str] = []

    def answer(asked: Asked) -> Answer | None:
        if asked.reference != image.layer or asked.method != "GET":
            return None
        if not refused:
            refused.append(asked.client)
        return REFUSALS[refusal] if asked.client in refused else None

    before.origin.answer = answer
    pulls = before.bed.pull(image)
    outcomes = await pulls.outcomes()
    tell(f"the claimant alone is answered {refusal}", pulls)
    failed = [one for one in outcomes if isinstance(one, PullFailed)]
    assert not failed, f"{failed}\n{before.bed.logs()}"
    assert refused
    assert pulls.copies < 1.1
    before.origin.behave_well()
    await before.bed.check_pullable(image)


@pytest.mark.parametrize(
    "refusal", ["429", *(pytest.param(one, marks=pytest.mark.matrix) for one in ("401", "404"))]
)
async def test_all_are_refused(before: Before, refusal: str) -> None:
    """Nobody has it, so every pull fails, and none of them waits for the others' for long."""
    image = before.image()

    def answer(asked: Asked) -> Answer | None:
        return REFUSALS[refusal] if asked.reference == image.layer else None

    before.origin.answer = answer
    pulls = before.bed.pull(image)
    outcomes = await pulls.outcomes()
    tell(f"all are answered {refusal}", pulls)
    assert all(isinstance(one, PullFailed) for one in outcomes)
    before.origin.behave_well()
    await before.bed.check_pullable(image)
