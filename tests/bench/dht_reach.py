"""What the DHT shall reach, and whether a row does. Measures nothing; a bound that needs another row's figure is not
judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.bench.dht_lookups import Looked, percentile

PROVIDER_TO_PING: Final = 3.0
# With 20 % dead: beside the hedge and three pings.
SLACK_MS: Final = 60.0
SLACK_DEAD_PERCENT: Final = 20
MISS_DEADLINE_MS: Final = 300.0
# Rounding of virtual times.
EPSILON_MS: Final = 0.001
REST_REQUESTS_PER_S: Final = 1.0
REST_DATAGRAMS_PER_S: Final = 2.2
REST_BYTES_PER_S: Final = 700.0
# The bounds above are for that many nodes with that many digests each.
REST_NODES_COUNT: Final = 1000
REST_DIGESTS_COUNT: Final = 1000
STATE_KIB: Final = 100.0

Verdict = dict[str, bool | float | str | None]


def verdict(value: float | None, bound: float, words: str) -> Verdict:
    """`value` None: there was nothing to measure, which is a failure."""
    is_met = value is not None and value <= bound + EPSILON_MS
    return {
        "met": is_met,
        "value": None if value is None else round(value, 3),
        "at_most": round(bound, 3),
        "of": words,
    }


def judge_lookups(
    looked: Sequence[Looked], *, dead_percent: int, is_virtual: bool, hedge_ms: float
) -> dict[str, Verdict]:
    hits = [one for one in looked if one.wanted.is_hit]
    misses = [one for one in looked if not one.wanted.is_hit]
    pings_ms = [one.ping_s * 1000 for one in looked if one.ping_s is not None]
    firsts_ms = [one.first_s * 1000 for one in hits if one.first_s is not None]
    found: dict[str, Verdict] = {}
    failed = [one for one in hits if one.first_s is None and not one.wanted.is_hopeless]
    # Where half of the nodes died, seven of the eight holders of a key may be among them: 1 in 32.
    allowed_count = len(hits) // 100 if dead_percent >= 50 else 0
    found["all_found"] = verdict(
        len(failed), allowed_count, "lookups of keys that a living node holds, without a provider"
    )
    if dead_percent == 0:
        rounds = _or_none([one.rounds_count for one in hits], 99), _or_none([one.hops for one in hits], 99)
        worst = None if None in rounds else max(number for number in rounds if number is not None)
        found["one_round"] = verdict(worst, 1, "p99 of rounds and of hops of lookups that found something")
        # A lost datagram is hedged, and costs a second round; a miss hears three nodes.
        found["one_round_of_misses"] = verdict(
            _or_none([one.rounds_count for one in misses], 90), 1, "p90 of rounds of misses"
        )
    first_ms, ping_ms = _or_none(firsts_ms, 50), _or_none(pings_ms, 50)
    ratio = None if first_ms is None or not ping_ms else first_ms / ping_ms
    found["first_provider"] = verdict(ratio, PROVIDER_TO_PING, "p50 of the first provider in p50 of the ping")
    if dead_percent == SLACK_DEAD_PERCENT:
        bound_ms = hedge_ms + 3 * (_or_none(pings_ms, 99) or 0.0) + SLACK_MS
        words = f"p99 of the first provider in ms; hedge ({hedge_ms:g}) + 3 x p99 of the ping + {SLACK_MS:g}"
        found["first_provider_p99"] = verdict(_or_none(firsts_ms, 99), bound_ms, words)
    if is_virtual:
        slowest_ms = _or_none([one.total_s * 1000 for one in misses], 100)
        found["misses_in_time"] = verdict(slowest_ms, MISS_DEADLINE_MS, "the slowest miss in ms")
    return found


def judge_rest(requests_per_s: float, datagrams_per_s: float, bytes_per_s: float) -> dict[str, Verdict]:
    return {
        "rest_requests": verdict(requests_per_s, REST_REQUESTS_PER_S, "requests per second and node"),
        "rest_datagrams": verdict(
            datagrams_per_s, REST_DATAGRAMS_PER_S, "datagrams sent per second and node"
        ),
        "rest_bytes": verdict(
            bytes_per_s, REST_BYTES_PER_S, "bytes sent, headers included, per second and node"
        ),
    }


def judge_state(kib_by_case: dict[str, float]) -> dict[str, Verdict]:
    return {
        f"state_{case}": verdict(kib, STATE_KIB, "KiB per 1,000 records") for case, kib in kib_by_case.items()
    }


def _or_none(values: Sequence[float], percent: float) -> float | None:
    return percentile(values, percent) if values else None
