"""Herds in virtual time: `make bench-sim`, one JSON line a herd, each with its bound and verdicts.

The real swarm, ladder, claims and lookups, over links that are simulated (tests/support/sim_*.py). A figure without a
unit is a time over the lower bound, the image's bytes through the slower of a host's link and the origin's: no way to
share can beat it. `p50` and `p99` are of the hosts of all seeds together, `slowest` of all; `origin_copies` is that of
the worst seed. `claimant_copies`: what those who read from the origin sent to peers. Messages are what a host sent on
average, `datagrams_busiest` the arbiter's.

Scenarios: `cold` all at once; `churn` a twentieth dies, each second one without a FIN, and as many come;
`claimant-lost` the claimant dies half-way without a FIN; `autoscaled` all come within five seconds and their daemons
join while they pull; `slow-origin` a tenth of the rate; `warm` one more host has the image from before; `small` a blob
of 33 MB at 200 Mbit/s, whatever the sizes say; `bed` the image of `make bench-herd`; `staggered`
the same, each host half a second after the one before; `without-offers` as cold, with a
claimant that tells everybody of everything.

Each seed of a row is a task of its own; two processes work on them, the largest first.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Final

from tests.bench.sim_rows import DEFAULT, SCENARIOS, Row, Size, bounds, figures
from tests.support.sim_herd import Herd, HerdResult

PROCESSES_COUNT: Final = 2
Fields = dict[str, object]


def main(words: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(words)
    link_bytes_s = arguments.link_mbit * 1e6 / 8
    origin_mbit = arguments.origin_mbit if arguments.origin_mbit is not None else arguments.link_mbit
    piece_bytes = None if arguments.piece_kib is None else arguments.piece_kib * 1024
    size = Size(round(arguments.blob_mib * (1 << 20)), link_bytes_s, origin_mbit * 1e6 / 8, piece_bytes)
    started_s = time.monotonic()
    missed: list[str] = []
    for fields in run(_rows(arguments), size, arguments.processes):
        print(json.dumps(fields), flush=True)
        if not fields["reached"]:
            missed.append(str(fields["row"]))
    took_s = time.monotonic() - started_s
    print(f"{took_s:.0f} s; rows that miss a bound: {', '.join(missed) or 'none'}", file=sys.stderr)
    return 0


def run(rows: Sequence[Row], size: Size, processes_count: int) -> Iterator[Fields]:
    """In the order in which rows are done."""
    with ProcessPoolExecutor(processes_count) as processes:
        tasks: dict[Future[tuple[HerdResult, float]], tuple[int, int]] = {}
        for number, row in enumerate(rows):
            for seed in range(1, row.seeds_count + 1):
                tasks[processes.submit(_simulate, row, size, seed)] = (number, seed)
        done: dict[int, dict[int, tuple[HerdResult, float]]] = {number: {} for number in range(len(rows))}
        for task in as_completed(tasks):
            number, seed = tasks[task]
            done[number][seed] = task.result()
            if len(done[number]) == rows[number].seeds_count:
                yield _fields(rows[number], size, [done[number][one] for one in sorted(done[number])])


def _simulate(row: Row, size: Size, seed: int) -> tuple[HerdResult, float]:
    """And the CPU seconds that it took."""
    began_s = time.process_time()
    result = Herd(row.plan(size), seed).run()
    return result, time.process_time() - began_s


def _fields(row: Row, size: Size, done: Sequence[tuple[HerdResult, float]]) -> Fields:
    plan = row.plan(size)
    found = figures(row, [result for result, _ in done])
    reach = {}
    for name, bound in bounds(row).items():
        value = found[name]
        assert isinstance(value, float)
        reach[name] = {"bound": round(bound, 3), "met": value <= bound}
    return {
        "bench": "sim",
        "date": time.strftime("%Y-%m-%d"),
        "row": str(row),
        "scenario": row.scenario,
        "hosts": row.hosts_count,
        "seeds": row.seeds_count,
        "blobs_bytes": plan.blobs_bytes,
        "link_mbit_per_s": plan.link_bytes_s * 8 / 1e6,
        "origin_mbit_per_s": plan.origin_bytes_s * 8 / 1e6,
        "bound_s": round(plan.bound_s, 3),
        **found,
        "cpu_s": round(sum(cpu_s for _, cpu_s in done), 1),
        "reach": reach,
        "reached": found["unended"] == 0 and all(one["met"] for one in reach.values()),
    }


def _rows(arguments: argparse.Namespace) -> Sequence[Row]:
    if arguments.sizes is None and arguments.scenario is None:
        return DEFAULT
    counts = sorted(arguments.sizes or (200,), reverse=True)
    scenarios = arguments.scenario or ["cold"]
    return [Row(scenario, count, arguments.seeds) for count in counts for scenario in scenarios]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench-sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_counts, metavar="N,N", help="hosts of each herd")
    parser.add_argument("--seeds", type=_count, default=5, metavar="N")
    parser.add_argument("--scenario", nargs="+", choices=tuple(SCENARIOS))
    parser.add_argument("--blob-mib", type=_positive, default=1024.0, metavar="SIZE")
    parser.add_argument("--piece-kib", type=_count, metavar="SIZE", help="as hosts agree on if left out")
    parser.add_argument("--link-mbit", type=_positive, default=1000.0, metavar="RATE", help="each way")
    parser.add_argument("--origin-mbit", type=_positive, metavar="RATE", help="as the hosts' if left out")
    parser.add_argument("--processes", type=_count, default=PROCESSES_COUNT, metavar="N")
    return parser


def _counts(text: str) -> list[int]:
    return [_count(word) for word in text.split(",")]


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError("more than 0")
    return number


if __name__ == "__main__":
    sys.exit(main())
