"""Which rows there are, and which a selection takes. Measures nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from dht.params import Params

Clock = Literal["live", "virtual"]

# As of a host with a thousand blobs, out of what a whole cluster has.
DIGESTS_COUNT: Final = 1000
POOL_COUNT: Final = 20_000
# A thousandth of a lookup's samples must still be a few; more only takes longer.
HITS_COUNT: Final = 400
MISSES_COUNT: Final = 150
# The first look at each other comes within 1.5 x sync_interval_s of the start: a window before that misses some.
WARM_UP_S: Final = 24.0


@dataclass(frozen=True, slots=True)
class LookupRow:
    """Nodes of which some die in one step; who lives looks for keys at once. `digests_count`: keys each node has
    announced before and refreshes meanwhile. `rest_s` 0: rest is not measured."""

    clock: Clock
    nodes_count: int
    dead_percent: int
    digests_count: int
    rest_s: float
    hits_count: int = HITS_COUNT
    misses_count: int = MISSES_COUNT
    announcers_count: int = 5
    params: Params = field(default_factory=Params)

    def __str__(self) -> str:
        return f"{self.clock}-{self.nodes_count}-{self.dead_percent}"


@dataclass(frozen=True, slots=True)
class RestRow:
    """Nodes in virtual time that all have announced `digests_count` keys, and are left alone. `are_records_there`:
    what they have announced stands in the records of the nearest from the start."""

    nodes_count: int
    digests_count: int
    rest_s: float
    are_records_there: bool
    params: Params = field(default_factory=Params)

    def __str__(self) -> str:
        return f"rest-{self.nodes_count}"


@dataclass(frozen=True, slots=True)
class StateRow:
    """The memory of one node's records."""

    params: Params = field(default_factory=Params)

    def __str__(self) -> str:
        return "state"


Row = LookupRow | RestRow | StateRow

DEAD_PERCENTS: Final = (0, 20, 50)


def _live(nodes_count: int, dead_percent: int) -> LookupRow:
    return LookupRow(
        "live",
        nodes_count,
        dead_percent,
        DIGESTS_COUNT,
        rest_s=0.0 if dead_percent else 12.0,
        announcers_count=3,
    )


def _virtual(nodes_count: int, dead_percent: int) -> LookupRow:
    # 5,000 nodes that each refresh a thousand keys are rest-5000's: 20,000 RPCs a second.
    return LookupRow("virtual", nodes_count, dead_percent, 0 if nodes_count > 1000 else DIGESTS_COUNT, 0.0)


LIVE: Final[tuple[Row, ...]] = tuple(_live(count, dead) for count in (50, 200, 500) for dead in DEAD_PERCENTS)
VIRTUAL: Final[tuple[Row, ...]] = tuple(
    _virtual(count, dead) for count in (1000, 5000) for dead in DEAD_PERCENTS
)
REST: Final[tuple[Row, ...]] = (
    RestRow(1000, DIGESTS_COUNT, rest_s=60.0, are_records_there=True),
    RestRow(5000, DIGESTS_COUNT, rest_s=10.0, are_records_there=False),
    StateRow(),
)
SMALL: Final[tuple[Row, ...]] = (
    LookupRow("live", 50, 0, DIGESTS_COUNT, rest_s=0.0, announcers_count=3),
    _live(50, 20),
    *(LookupRow("virtual", 200, dead, DIGESTS_COUNT, rest_s=0.0) for dead in DEAD_PERCENTS),
    RestRow(100, DIGESTS_COUNT, rest_s=30.0, are_records_there=True),
    StateRow(),
)
SELECTIONS: Final[dict[str, tuple[Row, ...]]] = {
    "all": LIVE + VIRTUAL + REST,
    "live": LIVE,
    "virtual": VIRTUAL,
    "rest": REST,
    "small": SMALL,
}
