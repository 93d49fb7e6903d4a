"""Events in turn, what is reported between rounds, and what is no round."""

from __future__ import annotations

import mirror.steer.events as on
import mirror.swarm.events as swarming
from mirror.herd.ports import Event
from mirror.herd.pump import Pump

NOTE = swarming.PrefixHashed(1)
PLAIN = swarming.SearchEnded()


class Bed:
    """Notes what is done, in order. `answers`: what handling an event of that kind puts."""

    def __init__(self, **answers: Event) -> None:
        self.done: list[str] = []
        self.answers = answers
        self.pump = Pump(
            self.handle,
            lambda: self.done.append("report"),
            lambda: self.done.append("settle"),
            frozenset((swarming.PrefixHashed,)),
        )

    def handle(self, event: Event) -> bool:
        name = type(event).__name__
        self.done.append(name)
        answer = self.answers.pop(name, None)
        if answer is not None:
            self.pump.tell(answer)
        return not isinstance(event, swarming.PrefixHashed)


def test_an_event_is_reported_and_all_is_settled() -> None:
    bed = Bed()
    bed.pump.tell(PLAIN)
    assert bed.done == ["SearchEnded", "report", "settle"]


def test_a_note_that_comes_alone_is_handled_and_that_is_all() -> None:
    bed = Bed()
    bed.pump.tell(NOTE)
    assert bed.done == ["PrefixHashed"]


def test_a_note_behind_others_waits_its_turn() -> None:
    bed = Bed()
    bed.pump.put(PLAIN)
    bed.pump.tell(NOTE)
    assert bed.done == ["SearchEnded", "PrefixHashed", "report", "settle"]


def test_what_an_event_brings_about_is_handled_after_it() -> None:
    bed = Bed(SearchEnded=NOTE, PrefixHashed=on.SourcesGone())
    bed.pump.tell(PLAIN)
    assert bed.done == ["SearchEnded", "PrefixHashed", "SourcesGone", "report", "settle"]


def test_nothing_is_handled_after_the_end() -> None:
    bed = Bed()
    bed.pump.close()
    bed.pump.tell(NOTE)
    bed.pump.tell(PLAIN)
    bed.pump.settled()
    assert bed.done == []
