"""Every way an origin can fail, seen from a host with the mirror and from one without: one pull a row.

For each row: how the pull ends, whether a user reads the words that he would read without the mirror, what the origin
is asked, and that nobody is told what a private tag points to. PEILI_REPORT names a file for all of it as JSON.

The rows that a session selects run side by side, on one bed, before the first is looked at.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.origin_bed import FAULTS, origin_bed
from tests.support.origin_matrix import Case, MatrixRun, Row, cases, expected

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

REPORT = "PEILI_REPORT"
# How much longer than without the mirror a pull may take: an anonymous question to the registry and one to peers, each
# with its deadline, twice since a request may be tried twice, and a loaded machine.
ADDED_MAX_S = 15.0
# One anonymous question: with a token, and a second try.
DAEMON_REQUESTS_MAX_COUNT = 4

Rows = dict[Case, Row]


def _params() -> Iterator[object]:
    for case, is_matrix in cases():
        yield pytest.param(case, id=str(case), marks=[pytest.mark.matrix] if is_matrix else [])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rows(request: pytest.FixtureRequest, short_folder: Path) -> AsyncIterator[Rows]:
    """Of the cases that this session selected."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    params = [item.callspec.params for item in items if hasattr(item, "callspec")]
    wanted = [case for param in params if isinstance(case := param.get("case"), Case)]
    folder = short_folder / "matrix"
    async with origin_bed(folder, ("1.6", "1.7", "2.1"), FAULTS, has_walled=True) as bed:
        found = await MatrixRun(bed, wanted).rows()
    if path := os.environ.get(REPORT):
        Path(path).write_text(json.dumps([_reported(row, found) for row in found.values()], indent=1) + "\n")
    yield found


@pytest.mark.parametrize("case", list(_params()))
def test_a_pull_before_a_failing_origin(rows: Rows, case: Case) -> None:
    row, without = rows[case], rows[case.without_mirror]
    assert _seen(row, without) == expected(case), (row.words, without.words)
    added_s = row.outcome.took_s - without.outcome.took_s
    assert added_s < ADDED_MAX_S
    _check_what_the_origin_was_asked(row, without)
    for told in row.told:
        assert told.status in (0, 404)
        assert not told.digest
        assert row.digest.encode() not in told.body


def _seen(row: Row, without: Row) -> str:
    match row.outcome.how:
        case "pulled":
            return "pulled"
        case "hung":
            return "hangs"
        case "failed":
            if "127.0.0.1" in row.words:
                return "our address"
            # First: without a mirror, a user may read "not found", too.
            if row.words == without.words:
                return "the origin's"
            return "not found" if row.words.endswith("not found") else f"other words: {row.words}"


def _check_what_the_origin_was_asked(row: Row, without: Row) -> None:
    case = row.case
    is_by_peers = case.is_held and case.by == "digest" and case.who != "protected"
    if is_by_peers or case.daemon in ("none", "dead", "walled"):
        assert row.daemon_count == 0
    assert row.daemon_count <= DAEMON_REQUESTS_MAX_COUNT
    if case.daemon != "none" and case.fault not in ("silent", "slow"):
        # Never more than without the mirror; containerd's own tries after a reset vary by one.
        assert row.origin_count <= without.origin_count + (case.fault == "reset")
    if is_by_peers:
        assert row.origin_count == 0


def _reported(row: Row, found: Rows) -> dict[str, object]:
    case, without = row.case, found[row.case.without_mirror]
    return {
        "containerd": case.version,
        "daemon": case.daemon,
        "origin": case.fault,
        "by": case.by,
        "image": case.who,
        "peers_have_it": case.is_held,
        "result": _seen(row, without),
        "words": row.words,
        "words_without_mirror": without.words,
        "seconds": round(row.outcome.took_s, 3),
        "seconds_added": round(row.outcome.took_s - without.outcome.took_s, 3),
        "origin_requests_of_containerd": row.origin_count,
        "origin_requests_of_containerd_without_mirror": without.origin_count,
        "origin_requests_of_the_daemon": row.daemon_count,
        # None: not asked.
        "private_tag_told": any(told.status == 200 or bool(told.digest) for told in row.told)
        if row.told
        else None,
    }
