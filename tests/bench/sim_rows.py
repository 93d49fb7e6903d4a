"""Which herds `make bench-sim` simulates, and what each shall reach. Simulates nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.support.sim_herd import HerdResult
from tests.support.sim_world import HerdPlan

# As the bed's default: 100 MB in five layers of 1 : 2 : 3 : 4 : 5, at 200 Mbit/s.
BED_LAYERS_BYTES: Final = (6_666_666, 13_333_333, 20_000_000, 26_666_666, 33_333_335)
BED_LINK_BYTES_S: Final = 25e6
# The largest of them alone, in the pieces that hosts agree on.
SMALL_BYTES: Final = 33_333_335
CHURN_SHARE: Final = 0.05
# Of an autoscaled herd, so many hosts were there before.
STANDING_SHARE: Final = 0.1
STANDING_MIN_COUNT: Final = 5
SLOW_ORIGIN_SHARE: Final = 0.1
STAGGER_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """Of blobs and links, as told on the command line."""

    blob_bytes: int
    link_bytes_s: float
    origin_bytes_s: float
    piece_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    scenario: str
    hosts_count: int
    seeds_count: int

    def __str__(self) -> str:
        return f"{self.scenario}-{self.hosts_count}"

    def plan(self, size: Size) -> HerdPlan:
        plan = SCENARIOS[self.scenario](self.hosts_count, size)
        return replace(plan, piece_bytes=size.piece_bytes)


def _cold(count: int, size: Size) -> HerdPlan:
    return HerdPlan(count, (size.blob_bytes,), size.link_bytes_s, size.origin_bytes_s)


def _without_offers(count: int, size: Size) -> HerdPlan:
    return HerdPlan(count, (size.blob_bytes,), size.link_bytes_s, size.origin_bytes_s, has_offers=False)


def _slow_origin(count: int, size: Size) -> HerdPlan:
    return HerdPlan(
        count, (size.blob_bytes,), size.link_bytes_s, size.origin_bytes_s * SLOW_ORIGIN_SHARE, has_offers=True
    )


def _churn(count: int, size: Size) -> HerdPlan:
    changed_count = max(1, round(count * CHURN_SHARE))
    bound_s = size.blob_bytes / min(size.link_bytes_s, size.origin_bytes_s)
    return HerdPlan(
        count,
        (size.blob_bytes,),
        size.link_bytes_s,
        size.origin_bytes_s,
        dying_count=changed_count,
        coming_count=changed_count,
        coming_spread_s=bound_s,
    )


def _warm(count: int, size: Size) -> HerdPlan:
    return HerdPlan(
        count,
        (size.blob_bytes,),
        size.link_bytes_s,
        size.origin_bytes_s,
        standing_count=1,
        providers_count=1,
    )


def _claimant_lost(count: int, size: Size) -> HerdPlan:
    return HerdPlan(count, (size.blob_bytes,), size.link_bytes_s, size.origin_bytes_s, claimant_dies_at=0.5)


def _autoscaled(count: int, size: Size) -> HerdPlan:
    return HerdPlan(
        0,
        (size.blob_bytes,),
        size.link_bytes_s,
        size.origin_bytes_s,
        standing_count=max(STANDING_MIN_COUNT, round(count * STANDING_SHARE)),
        coming_count=count,
    )


def _small(count: int, _: Size) -> HerdPlan:
    return HerdPlan(count, (SMALL_BYTES,), BED_LINK_BYTES_S, BED_LINK_BYTES_S)


def _bed(count: int, _: Size) -> HerdPlan:
    return HerdPlan(count, BED_LAYERS_BYTES, BED_LINK_BYTES_S, BED_LINK_BYTES_S)


def _staggered(count: int, _: Size) -> HerdPlan:
    return HerdPlan(
        count, BED_LAYERS_BYTES, BED_LINK_BYTES_S, BED_LINK_BYTES_S, start_spread_s=0.0, stagger_s=STAGGER_S
    )


SCENARIOS: Final[Mapping[str, Callable[[int, Size], HerdPlan]]] = {
    "cold": _cold,
    "churn": _churn,
    "claimant-lost": _claimant_lost,
    "autoscaled": _autoscaled,
    "slow-origin": _slow_origin,
    "warm": _warm,
    "small": _small,
    "bed": _bed,
    "staggered": _staggered,
    "without-offers": _without_offers,
}

# About ten minutes on two cores that do something else, too.
DEFAULT: Final = (
    Row("cold", 2000, 1),
    Row("cold", 1000, 1),
    *(Row("cold", count, 5) for count in (200, 50, 10, 5)),
    Row("churn", 200, 2),
    Row("autoscaled", 200, 2),
    Row("claimant-lost", 50, 3),
    *(Row("warm", count, 2) for count in (10, 50)),
    *(Row(scenario, count, 5) for scenario in ("bed", "small") for count in (5, 10)),
    Row("staggered", 5, 5),
)

# -- what shall be reached ------------------------------------------------------------------------------------------

COPIES_MAX: Final = 1.2
COPIES_DISTURBED_MAX: Final = 2.0
DISTURBED: Final = ("churn", "claimant-lost", "autoscaled")
# At 200 hosts; a herd of ten times as many may be so much slower.
P50_MAX, P99_MAX, SLOWEST_MAX = 1.6, 1.8, 2.2
LARGER_FACTOR: Final = 1.15


def bounds(row: Row) -> dict[str, float]:
    """By the name of the figure."""
    found = {"origin_copies": COPIES_DISTURBED_MAX if row.scenario in DISTURBED else COPIES_MAX}
    if row.scenario == "cold" and row.hosts_count <= 2000:
        factor = 1.0 if row.hosts_count <= 200 else LARGER_FACTOR
        found |= {"p50": P50_MAX * factor, "p99": P99_MAX * factor, "slowest": SLOWEST_MAX * factor}
    return found


def percentile(ordered: list[float], share: float) -> float:
    """The least value that at least this share does not pass."""
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def figures(row: Row, results: list[HerdResult]) -> dict[str, object]:
    """Of all seeds together."""
    over = sorted(one for result in results for one in result.over_bound)
    seeds_count = len(results)

    def mean(values: list[float]) -> float:
        return round(sum(values) / seeds_count, 3)

    found: dict[str, object] = {
        "p50": round(percentile(over, 0.5), 3),
        "p99": round(percentile(over, 0.99), 3),
    }
    if row.hosts_count >= 1000:
        found["p999"] = round(percentile(over, 0.999), 3)
    found |= {
        "slowest": round(over[-1], 3),
        "slowest_by_seed": [round(result.over_bound[-1], 3) for result in results],
        "unended": sum(result.unended_count for result in results),
        "origin_copies": round(max(result.origin_copies for result in results), 3),
        "claims": max(result.claims_count for result in results),
        "claimant_copies": mean([result.claimant_copies for result in results]),
        "datagrams_per_host": mean([result.datagrams_per_host for result in results]),
        "datagrams_busiest": max(result.datagrams_max_count for result in results),
        "channel_messages_per_host": mean([result.messages_per_host for result in results]),
        "piece_requests_per_host": mean([result.requests_per_host for result in results]),
        "wasted_share": mean([result.wasted_share for result in results]),
        "counts": {
            name: sum(result.counts.get(name, 0) for result in results)
            for name in sorted({name for result in results for name in result.counts})
        },
    }
    return found
