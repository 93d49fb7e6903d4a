"""The DHT in figures: `make bench-dht`, one JSON line a row, each with its lower bound and verdicts.

Rows (tests/bench/dht_rows.py): 50, 200 and 500 nodes over loopback sockets in one process; 1,000 and 5,000 in virtual
time with round trips and loss; each with nobody, a fifth and half of the nodes dead. Then what nodes send at rest, and
what records weigh. `first_provider_ms` next to `ping_ms`: a bare ping over the same code path, by the same node, just
before. `rounds`: moments at which a lookup sent requests. `reach`: what the DHT shall reach, met or not, with the value
and the bound.

Each row is a process of its own, so that its memory is its own. Live rows run alone; the others, whose time is
virtual, two at a time, so their CPU figures are the noisier ones.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NoReturn

from tests.bench.dht_measure import Fields, measure
from tests.bench.dht_rows import SELECTIONS, LookupRow, Row
from tests.bench.idle import idle_cpu_percent

# The largest takes a minute on an idle machine.
ROW_LIMIT_S: Final = 420.0
PARALLEL_COUNT: Final = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", choices=SELECTIONS, default="all")
    parser.add_argument("--row", help="one row, in this process: its name, as in the output")
    arguments = parser.parse_args()
    if arguments.row is not None:
        _only(arguments.rows, arguments.row)
    started_s = time.monotonic()
    missed: list[str] = []
    for fields in _all(arguments.rows):
        print(json.dumps(fields), flush=True)
        if not fields.get("reached", True):
            missed.append(str(fields["row"]))
    took_s = time.monotonic() - started_s
    print(f"{took_s:.0f} s; rows that miss a bound: {', '.join(missed) or 'none'}", file=sys.stderr)
    return 0


def _only(selection: str, name: str) -> NoReturn:
    """Ends the process: the goodbyes of a thousand nodes would take minutes."""
    rows = {str(row): row for row in SELECTIONS[selection]}
    if name not in rows:
        print(f"there is no row {name}; there are {', '.join(rows)}", file=sys.stderr)
        sys.exit(2)
    measure(rows[name], done=_print_and_exit)
    raise AssertionError("the row has ended the process")


def _print_and_exit(fields: Fields) -> None:
    print(json.dumps(fields), flush=True)
    os._exit(0)


def _all(selection: str) -> Iterator[Fields]:
    """In the order of the rows."""
    rows = SELECTIONS[selection]
    run = partial(_in_a_process, selection)
    live = [row for row in rows if isinstance(row, LookupRow) and row.clock == "live"]
    others = [row for row in rows if row not in live]
    yield from map(run, live)
    with ThreadPoolExecutor(PARALLEL_COUNT) as threads:
        yield from threads.map(run, others)


def _in_a_process(selection: str, row: Row) -> Fields:
    is_live = isinstance(row, LookupRow) and row.clock == "live"
    idle_percent = idle_cpu_percent() if is_live else None
    command = [sys.executable, "-m", "tests.bench.dht", "--rows", selection, "--row", str(row)]
    try:
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=ROW_LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"bench": "dht", "row": str(row), "error": f"not done in {ROW_LIMIT_S:g} s", "reached": False}
    if ended.returncode != 0:
        return {"bench": "dht", "row": str(row), "error": f"exit code {ended.returncode}", "reached": False}
    fields: Fields = json.loads(ended.stdout)
    if idle_percent is not None:
        fields["idle_cpu_percent_before"] = round(idle_percent, 1)
    return fields


if __name__ == "__main__":
    sys.exit(main())
