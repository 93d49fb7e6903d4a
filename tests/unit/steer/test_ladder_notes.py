"""Of what a ladder takes note of, and no more, nothing follows: a twin that works all out after each event orders the
same, with a timer that is no earlier.

The twin is told what the machine of test_ladder_stateful.py does, and bytes in a row besides, as they come.
"""

from __future__ import annotations

import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import Command
from mirror.steer.events import Event
from mirror.steer.ladder import Ladder
from tests.support.examples import examples
from tests.support.steer_host import MIB, SteerHost
from tests.unit.steer.test_ladder_stateful import SIZE, Machine


class Wary(Ladder):
    """Works all out after each event."""

    def _is_note(self, event: Event, now: float) -> bool:
        return False


class Pair(Machine):
    @initialize(is_manifest=st.booleans(), has_fallback=st.booleans(), fast=st.booleans())
    def begin(self, is_manifest: bool, has_fallback: bool, fast: bool) -> None:
        self.is_manifest = is_manifest
        expected_bytes_s = 10.0 * MIB if fast else None
        self.host = SteerHost(
            is_manifest=is_manifest, has_fallback=has_fallback, expected_bytes_s=expected_bytes_s, seed=1
        )
        self.twin = Wary(
            random.Random(1),
            is_manifest=is_manifest,
            has_fallback=has_fallback,
            expected_bytes_s=expected_bytes_s,
        )

    def handled(self, event: Event) -> list[Command]:
        ordered = super().handled(event)
        self.check_twin(event, ordered)
        return ordered

    def check_twin(self, event: Event, ordered: list[Command]) -> None:
        host, twin = self.host, self.twin
        timer, alike = do.SetTimer, twin.handle(event, host.now)
        assert [one for one in ordered if type(one) is not timer] == [
            one for one in alike if type(one) is not timer
        ]
        assert host.ladder.state is twin.state
        if twin._timer_at is not None:
            assert host.timer_at is not None and host.timer_at <= twin._timer_at

    @rule(
        steps=st.lists(
            st.tuples(
                st.sampled_from(["swarm", "swarm", "ingest", "body", "time"]),
                st.sampled_from([0, 1, MIB]),
                st.sampled_from([0.0, 0.1, 1.0, 4.0]),
            ),
            min_size=1,
            max_size=8,
        ),
        rooted=st.booleans(),
        keeps_up=st.booleans(),
    )
    def bytes_come(self, steps: list[tuple[str, int, float]], rooted: bool, keeps_up: bool) -> None:
        """In a row, as they do. `keeps_up`: whoever may be sent bytes is sent some."""
        for what, more, after_s in steps:
            if keeps_up:
                for request in list(self.open.values()):
                    if request.phase != "held" and not request.asked.is_head:
                        self.send(request, 1)
            sources = self.host.ladder._sources
            if what == "swarm":
                prefix = min(SIZE, sources.prefix_bytes + more)
                frontier = min(SIZE, max(prefix + 1, sources.frontier_bytes + more))
                self.has_sources = rooted or frontier > prefix
                self.tell(on.SourceProgress(prefix, frontier, SIZE, rooted))
            elif what == "ingest" and not self.is_committed:
                self.ingest = min(SIZE, self.ingest + more)
                self.tell(on.IngestGrew(self.ingest))
            elif what == "body":
                for request in list(self.open.values()):
                    if request.phase == "body" and request.silent_since is None:
                        self.starve(request)
            self.time_goes_on(after_s)


TestPair = Pair.TestCase
TestPair.settings = settings(max_examples=examples(300), stateful_step_count=25, deadline=None)
