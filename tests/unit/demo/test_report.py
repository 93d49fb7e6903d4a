"""The sums of the demo, in JSON, in a table and in words."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mirror.demo.lines import conclusion
from mirror.demo.plan import DemoPlan
from mirror.demo.report import HostResult, PhaseResult, Report, failure_document
from mirror.demo.units import bytes_text, rate_text
from mirror.version import VERSION

MIB = 2**20
SIZE = 10 * MIB

DIRECT = PhaseResult(9.0, 3 * SIZE, 27, tuple(HostResult(f"host {n}", 8.9, SIZE, 0) for n in (1, 2, 3)))
MIRRORED = PhaseResult(
    3.6,
    SIZE,
    11,
    (
        HostResult("host 1", 3.0, SIZE, 0),
        HostResult("host 2", 0.5, 0, SIZE),
        HostResult("host 3", 0.60004, 0, SIZE),
    ),
)
REPORT = Report(DemoPlan(3, SIZE, 4 * MIB), SIZE, 6, DIRECT, MIRRORED)


def test_the_document_has_the_keys_that_are_documented() -> None:
    assert json.loads(json.dumps(REPORT.document())) == {
        "ok": True,
        "version": VERSION,
        "hosts": 3,
        "image_bytes": SIZE,
        "layers": 6,
        "link_bytes_per_s": 4 * MIB,
        "without": {
            "seconds": 9.0,
            "origin_bytes": 3 * SIZE,
            "origin_requests": 27,
            "peer_bytes": 0,
            "hosts": [
                {"name": f"host {n}", "seconds": 8.9, "origin_bytes": SIZE, "peer_bytes": 0}
                for n in (1, 2, 3)
            ],
        },
        "with": {
            "seconds": 3.6,
            "origin_bytes": SIZE,
            "origin_requests": 11,
            "peer_bytes": 2 * SIZE,
            "hosts": [
                {"name": "host 1", "seconds": 3.0, "origin_bytes": SIZE, "peer_bytes": 0},
                {"name": "host 2", "seconds": 0.5, "origin_bytes": 0, "peer_bytes": SIZE},
                {"name": "host 3", "seconds": 0.6, "origin_bytes": 0, "peer_bytes": SIZE},
            ],
        },
        "origin_bytes_factor": 3.0,
        "seconds_factor": 2.5,
    }


def test_a_failure_has_its_reason() -> None:
    assert failure_document("no disk") == {"ok": False, "version": VERSION, "error": "no disk"}


def test_the_conclusion() -> None:
    assert conclusion(REPORT) == [
        "",
        "                           without Peili    with Peili",
        "  from the origin               30.0 MiB      10.0 MiB   3.0 x less",
        "  from peers                     0.0 MiB      20.0 MiB",
        "  requests to the origin              27            11",
        "  until all hosts have it          9.0 s         3.6 s   2.5 x faster",
        "",
        "All hosts together cost the origin 1.0 copies of the image.",
        "For one copy, the link alone needs 2.5 s.",
        "All but that is measured; every byte was checked against its digest.",
    ]


def test_what_peers_did_not_give_and_what_was_slower_is_told() -> None:
    first, second, third = MIRRORED.hosts
    hosts = (first, replace(second, origin_bytes=SIZE // 2, peer_bytes=SIZE // 2), third)
    worse = replace(
        REPORT, mirrored=replace(MIRRORED, seconds_s=18.0, origin_bytes=SIZE + SIZE // 2, hosts=hosts)
    )
    said = "\n".join(conclusion(worse))
    assert "2.0 x slower" in said
    assert "2.0 x less" in said
    assert "All hosts together cost the origin 1.5 copies of the image." in said


def test_a_phase_of_no_bytes_and_no_time_has_a_factor_all_the_same() -> None:
    odd = replace(REPORT, mirrored=replace(MIRRORED, seconds_s=0.0, origin_bytes=0))
    assert odd.origin_bytes_factor > 1
    assert odd.seconds_factor > 1


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0.0 MiB"),
        (1, "0.0 KiB"),
        (1500, "1.5 KiB"),
        (100_000, "97.7 KiB"),
        (MIB // 10, "0.1 MiB"),
        (1024 * MIB, "1024.0 MiB"),
    ],
)
def test_sizes_in_words(count_bytes: int, text: str) -> None:
    assert bytes_text(count_bytes) == text


@pytest.mark.parametrize(
    ("bytes_per_s", "text"), [(65536, "0.5 Mbit/s"), (125_000_00, "100 Mbit/s"), (12 * MIB, "101 Mbit/s")]
)
def test_rates_in_words(bytes_per_s: int, text: str) -> None:
    assert rate_text(bytes_per_s) == text
