"""Who fetches ahead hears that bytes are given: now and then, and at once where there is more to hear."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from mirror.herd.claiming import Claiming
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh
from mirror.herd.ports import Event, TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.reading import Answering, Reading
from mirror.herd.readings import Readings
from mirror.herd.requests import FED_EVERY_S, Requests
from mirror.herd.trial import Trial
from mirror.oci.digest import Digest

D = Digest.of(b"any")


class Bed:
    def __init__(self) -> None:
        self.now = 100.0
        self.fed_count = 0
        self.told: list[Event] = []
        self.mesh = SimpleNamespace(known_count=1)
        self.requests = Requests(
            D,
            Pump(self._handle, lambda: None, lambda: None),
            cast(Mesh, self.mesh),
            Readings(),
            cast(LoneStreams, None),
            cast(Trial, None),
            cast(Claiming, None),
            cast(TransferPorts, SimpleNamespace(clock=lambda: self.now, fed=self._fed)),
            is_keen=lambda: False,
            swarming=lambda: None,
        )

    def _handle(self, event: Event) -> bool:
        self.told.append(event)
        return True

    def _fed(self, digest: Digest) -> None:
        assert digest == D
        self.fed_count += 1

    def begin(self, request_id: int = 1) -> Reading:
        reading = Reading(
            D, request_id, None, is_head=False, at_fallback=False, transfer=cast(Answering, None)
        )
        self.requests.begun(reading)
        return reading


@pytest.fixture
def bed() -> Bed:
    return Bed()


def test_not_of_each_portion(bed: Bed) -> None:
    reading = bed.begin()
    assert bed.fed_count == 1
    for number in range(10):
        bed.now += FED_EVERY_S / 11
        reading.position += 10
        bed.requests.moved(reading)
        assert bed.fed_count == 1, number
    bed.now += FED_EVERY_S
    bed.requests.moved(reading)
    assert bed.fed_count == 2


def test_at_once_of_who_came(bed: Bed) -> None:
    reading = bed.begin()
    bed.mesh.known_count += 1
    bed.requests.moved(reading)
    bed.requests.moved(reading)
    assert bed.fed_count == 2


def test_at_once_of_each_request(bed: Bed) -> None:
    """What was fetched ahead of the one before may have been given up with it."""
    bed.begin(1)
    bed.begin(2)
    assert bed.fed_count == 2
