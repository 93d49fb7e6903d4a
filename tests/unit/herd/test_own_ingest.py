"""Whose growth may be told late: only what this host itself sends, and what nobody has begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from mirror.herd.own_ingest import OwnIngest
from mirror.herd.ports import TransferPorts
from mirror.herd.reading import Reading
from mirror.herd.readings import Readings
from mirror.herd.runs import Spawn
from mirror.oci.digest import Digest

D = Digest.of(b"layer")
HELD, BEGUN = False, True


def own_ingest(requests: list[bool], size_bytes: int | None) -> OwnIngest:
    """`requests`: of the own containerd, begun or held. `size_bytes`: of its file; None: there is none."""
    readings = Readings()
    for number, is_begun in enumerate(requests):
        readings.add(cast(Reading, SimpleNamespace(request_id=number, is_begun=is_begun)))
    ingests = SimpleNamespace(size_bytes=lambda _: size_bytes, total_bytes=lambda _: None)
    return OwnIngest(
        D,
        "",
        cast(TransferPorts, SimpleNamespace(ingests=ingests)),
        begin=lambda _: None,
        readings=readings,
        put=lambda _: None,
        settle=lambda: None,
        spawn=cast(Spawn, None),
    )


@pytest.mark.parametrize(
    ("requests", "size_bytes", "is_awaited"),
    [
        ([], None, False),
        ([], 0, False),
        ([], 1, True),
        ([HELD], 0, True),
        ([BEGUN], 0, False),
        ([BEGUN], 1, False),
        ([HELD, BEGUN], 1, False),
    ],
)
def test_of_what_the_origin_may_bring(requests: list[bool], size_bytes: int | None, is_awaited: bool) -> None:
    assert own_ingest(requests, size_bytes).is_growth_awaited() is is_awaited


def test_what_the_origin_brings_is_awaited_whoever_else_is_asked() -> None:
    steered = own_ingest([BEGUN], 1)
    steered.tail(is_judged=False)
    assert steered.is_growth_awaited()


def test_what_went_past_the_swarm_is_awaited_until_it_is_there() -> None:
    streamed = own_ingest([BEGUN], 1)
    streamed.show(5)
    assert streamed.is_growth_awaited()
