"""What changed is looked at and told, at once where it matters; what did not costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import cast

import pytest

import mirror.steer.events as on
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh, Offer
from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import Event, TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.reports import LOOK_EVERY_S, PROGRESS_EVERY_S, Reports
from mirror.herd.sizes import Sizes
from mirror.herd.swarming import Swarming
from mirror.steer.ladder import Ladder
from mirror.swarm.bitfield import Bitfield
from tests.support.virtual_time import run_virtual

SIZE = 1000
FIRST = on.SourceProgress(0, 300, SIZE, is_rooted=False)


@dataclass
class Swarm:
    progressed: on.SourceProgress = FIRST
    version: int = 0
    looks_count: int = 0

    def progress(self, *, is_fed_from_origin: bool) -> on.SourceProgress:
        self.looks_count += 1
        return replace(self.progressed, is_rooted=self.progressed.is_rooted or is_fed_from_origin)

    def offer(self, *, is_fed_from_origin: bool) -> Offer:
        return Offer(SIZE, Bitfield(SIZE, self.progressed.prefix_bytes), is_fed_from_origin)


@dataclass
class Bed:
    """As a transfer that tells a ladder, which is `told`."""

    swarm: Swarm = field(default_factory=Swarm)
    told: list[on.Event] = field(default_factory=list)
    offered: list[int] = field(default_factory=list)
    is_draining: bool = False
    is_fed: bool = False
    is_hopeful: bool = True

    def __post_init__(self) -> None:
        bed = self

        class TheLadder:
            @property
            def is_draining(self) -> bool:
                return bed.is_draining

            @property
            def is_fed_from_origin(self) -> bool:
                return bed.is_fed

        self.pump = Pump(self._handle, lambda: self.reports.look(), lambda: None)
        self.reports = Reports(
            cast(Ladder, TheLadder()),
            cast(TransferPorts, SimpleNamespace(clock=asyncio.get_running_loop().time)),
            cast(
                Mesh,
                SimpleNamespace(
                    offer=lambda offer: self.offered.append(offer.bitfield.mask),
                    is_hopeful=lambda _: self.is_hopeful,
                ),
            ),
            self.pump,
            cast(
                LoneStreams, SimpleNamespace(is_open=False, seen=lambda progress: progress, look=lambda: None)
            ),
            cast(Sizes, SimpleNamespace(other_bytes=lambda: None)),
            cast(OwnIngest, SimpleNamespace(is_committed=False)),
            swarming=lambda: cast(Swarming, self.swarm),
            resize=lambda _: None,
        )

    def _handle(self, event: Event) -> bool:
        self.told.append(cast(on.Event, event))
        return True

    def changes(self, progress: on.SourceProgress) -> None:
        self.swarm.progressed = progress
        self.swarm.version += 1
        self.pump.settled()

    def grows(self) -> on.SourceProgress:
        now = self.swarm.progressed
        grown = replace(now, prefix_bytes=now.prefix_bytes + 1, frontier_bytes=now.frontier_bytes + 1)
        self.changes(grown)
        return grown

    def begun(self) -> None:
        """Something was told just now."""
        self.changes(FIRST)
        self.told.clear()
        self.offered.clear()


def bed(test: Callable[[Bed], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def made() -> None:
            await test(Bed())

        run_virtual(lambda _: made())

    run.__name__ = test.__name__
    return run


@bed
async def test_where_nothing_changed_nothing_is_looked_at(bed: Bed) -> None:
    bed.begun()
    looks_count = bed.swarm.looks_count
    for _ in range(10):
        bed.pump.settled()
    assert bed.swarm.looks_count == looks_count
    await asyncio.sleep(LOOK_EVERY_S)
    bed.pump.settled()
    assert bed.swarm.looks_count == looks_count + 1, "a ban ends by time alone"


@bed
async def test_while_nobody_has_more_all_is_looked_at(bed: Bed) -> None:
    """Whether somebody may yet is not the swarm's to know."""
    bed.changes(on.SourceProgress(300, 300, SIZE, is_rooted=False))
    bed.reports.named_anew()
    bed.is_hopeful = False
    bed.pump.settled()
    assert on.SourcesGone() in bed.told


@bed
async def test_growing_numbers_are_told_now_and_then_and_offered_at_once(bed: Bed) -> None:
    bed.begun()
    for number in range(20):
        await asyncio.sleep(PROGRESS_EVERY_S / 10)
        bed.grows()
        assert bed.offered == list(range(1, number + 2))
    assert len(bed.told) == 2


@bed
async def test_the_last_of_them_is_told_though_nothing_more_happens(bed: Bed) -> None:
    bed.begun()
    bed.grows()
    last = bed.grows()
    assert bed.told == []
    await asyncio.sleep(PROGRESS_EVERY_S + 0.01)
    assert bed.told == [last]
    await asyncio.sleep(10.0)
    assert bed.told == [last]


@bed
async def test_what_is_owed_is_told_once(bed: Bed) -> None:
    bed.begun()
    last = bed.grows()
    assert bed.reports.owed() == [last]
    assert bed.reports.owed() == []
    await asyncio.sleep(10.0)
    assert bed.told == []


GROWN = replace(FIRST, prefix_bytes=1, frontier_bytes=301)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(replace(GROWN, is_rooted=True), id="somebody has it whole"),
        pytest.param(replace(GROWN, frontier_bytes=299), id="somebody was lost"),
        pytest.param(replace(GROWN, prefix_bytes=301), id="nobody has more"),
        pytest.param(replace(GROWN, size_bytes=SIZE + 1), id="another size"),
        pytest.param(replace(GROWN, prefix_bytes=SIZE, frontier_bytes=SIZE), id="all is here"),
    ],
)
def test_what_is_more_than_growth_is_told_at_once(changed: on.SourceProgress) -> None:
    @bed
    async def test(bed: Bed) -> None:
        bed.is_hopeful = False
        bed.begun()
        bed.changes(changed)
        assert changed in bed.told

    test()


def test_what_was_dropped_is_told_at_once() -> None:
    @bed
    async def test(bed: Bed) -> None:
        bed.changes(GROWN)
        bed.told.clear()
        bed.changes(replace(FIRST, frontier_bytes=302))
        assert bed.told == [replace(FIRST, frontier_bytes=302)]

    test()


@bed
async def test_somebody_has_more_than_nobody_had(bed: Bed) -> None:
    bed.changes(replace(FIRST, prefix_bytes=300))
    bed.told.clear()
    bed.changes(replace(FIRST, prefix_bytes=300, frontier_bytes=301))
    assert bed.told == [replace(FIRST, prefix_bytes=300, frontier_bytes=301)]


@bed
async def test_a_host_that_is_sent_to_the_origin_is_rooted_at_once(bed: Bed) -> None:
    bed.begun()
    bed.is_fed = True
    bed.pump.settled()
    assert bed.told == [replace(FIRST, is_rooted=True)]


@bed
async def test_a_ladder_that_drains_hears_all_at_once(bed: Bed) -> None:
    bed.begun()
    bed.is_draining = True
    assert [bed.grows() for _ in range(3)] == bed.told
