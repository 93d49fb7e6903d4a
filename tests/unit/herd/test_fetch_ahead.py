"""When what is fetched ahead may be fetched, and when others' reads leave room for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from mirror.herd.fetch_ahead import FetchAhead
from mirror.herd.lone_streams import LoneStreams
from mirror.herd.mesh import Mesh
from mirror.herd.ports import TransferPorts
from mirror.herd.pump import Pump
from mirror.herd.reading import Answering, Reading
from mirror.herd.readings import Readings
from mirror.herd.swarming import Swarming
from mirror.oci.digest import Digest

D = Digest.of(b"any")


@dataclass
class Swarm:
    """Notes what it is told."""

    has_more: bool = True
    told: list[bool | str] = field(default_factory=list)

    def has_choice(self) -> bool:
        return self.has_more

    def fetch_ahead(self, is_wanted: bool) -> None:
        self.told.append(is_wanted)

    def rest(self) -> None:
        self.told.append("rest")

    def resume(self) -> None:
        self.told.append("resume")


@dataclass
class Bed:
    has_spare: bool = True
    is_streaming: bool = False
    swarm: Swarm | None = field(default_factory=Swarm)
    readings: Readings = field(default_factory=Readings)
    called: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        bed = self

        class Lone:
            @property
            def is_open(self) -> bool:
                return bed.is_streaming

        self.ahead = FetchAhead(
            cast(TransferPorts, SimpleNamespace(has_spare=lambda: bed.has_spare)),
            cast(Mesh, SimpleNamespace(call=self.called.append, known=list)),
            Pump(lambda _: True, lambda: None, lambda: None),
            self.readings,
            cast(LoneStreams, Lone()),
            swarming=lambda: cast(Swarming | None, self.swarm),
        )

    def read(self, *, is_head: bool = False) -> None:
        self.readings.add(
            Reading(D, 1, None, is_head=is_head, at_fallback=False, transfer=cast(Answering, None))
        )


@pytest.fixture
def bed() -> Bed:
    return Bed()


def begun(bed: Bed) -> Swarm:
    bed.ahead.begin([])
    assert bed.swarm is not None
    return bed.swarm


def test_it_fetches_while_there_is_room(bed: Bed) -> None:
    swarm = begun(bed)
    bed.ahead.look()
    bed.has_spare = False
    bed.ahead.look()
    assert swarm.told == ["resume", True, False]


def test_what_was_never_begun_is_not_fetched(bed: Bed) -> None:
    bed.ahead.look()
    bed.ahead.stop()
    assert bed.swarm is not None
    assert bed.swarm.told == []


def test_once_it_is_read_it_is_as_any_other(bed: Bed) -> None:
    swarm = begun(bed)
    bed.read()
    bed.ahead.look()
    bed.ahead.look()
    assert swarm.told == ["resume", False]
    bed.ahead.begin([])
    assert not bed.ahead.is_on


def test_a_stop_ends_it_and_a_new_beginning_goes_on(bed: Bed) -> None:
    swarm = begun(bed)
    bed.ahead.stop()
    bed.ahead.begin([])
    assert swarm.told == ["resume", False, "rest", "resume"]
    assert bed.ahead.is_on


def test_without_a_size_nothing_is_begun() -> None:
    bed = Bed(swarm=None)
    bed.ahead.begin([])
    assert not bed.ahead.is_on
    assert not bed.called


@pytest.mark.parametrize(
    ("has_more", "is_streaming", "is_hungry"),
    [(True, False, True), (False, True, True), (False, False, False)],
)
def test_who_reads_is_hungry_while_more_could_be_had(
    has_more: bool, is_streaming: bool, is_hungry: bool
) -> None:
    bed = Bed(is_streaming=is_streaming, swarm=Swarm(has_more))
    assert not bed.ahead.is_hungry, "nobody reads"
    bed.read(is_head=True)
    assert not bed.ahead.is_hungry, "nor now"
    bed.read()
    assert bed.ahead.is_hungry is is_hungry
