"""One host's ladder with a hand on everything that it orders, for tests of mirror.steer."""

from __future__ import annotations

import random
from typing import TypeVar

from mirror.steer import commands as do
from mirror.steer.commands import Command
from mirror.steer.events import Asked, Event, Fed, Ruled, SourceProgress, Starved, Timer
from mirror.steer.flow import Flow
from mirror.steer.ladder import Ladder, State
from mirror.steer.rulings import Fence, Granted, Participant, Pending, Ruling, Unruled, Wait
from mirror.steer.timers import Rungs

C = TypeVar("C")

FENCE = Fence(b"\x0a" * 20, 1)
OTHERS_FENCE = Fence(b"\x0a" * 20, 2)
CLAIMANT = b"\x01" * 20
PROVIDER = b"\x02" * 20
WAITER = b"\x03" * 20
MIB = 1 << 20

GRANTED = Granted(FENCE)
WAIT = Wait(OTHERS_FENCE, Participant(CLAIMANT, 0), 1.0)
PENDING = Pending(1.0)
UNRULED = Unruled()


class SteerHost:
    """`now` moves by `at`; `ordered` is all that was ever ordered, `last` what the last event brought."""

    def __init__(
        self,
        *,
        is_manifest: bool = False,
        has_fallback: bool = True,
        rungs: Rungs | None = None,
        expected_bytes_s: float | None = None,
        flow: Flow | None = None,
        seed: int = 1,
    ) -> None:
        self.now = 1000.0
        self.ladder = Ladder(
            random.Random(seed),
            is_manifest=is_manifest,
            has_fallback=has_fallback,
            rungs=rungs,
            expected_bytes_s=expected_bytes_s,
            flow=flow,
        )
        self.ordered: list[Command] = []
        self.last: list[Command] = []
        self.timer_at: float | None = None
        self._answered: set[int] = set()
        self._ids = 0

    def tell(self, event: Event) -> list[Command]:
        self.last = self.ladder.handle(event, self.now)
        self.ordered += self.last
        for command in self.last:
            if isinstance(command, do.SetTimer):
                assert command.at is None or command.at > self.now, "a timer of the past would spin"
                self.timer_at = command.at
        return self.last

    def ask(self, *, start: int = 0, head: bool = False, fallback: bool = False) -> int:
        self._ids += 1
        self.tell(Asked(self._ids, head, start, fallback))
        return self._ids

    def pass_(self, for_s: float) -> list[Command]:
        """Time goes on, timer by timer."""
        end_at = self.now + for_s
        ordered: list[Command] = []
        while self.timer_at is not None and self.timer_at <= end_at:
            self.now, self.timer_at = self.timer_at, None
            ordered += self.tell(Timer())
        self.now = end_at
        self.last = ordered
        return ordered

    def pass_ruled(self, for_s: float, ruling: Ruling, *, is_alone: bool = False) -> list[Command]:
        """As `pass_`; each question is answered so, at once."""
        end_at = self.now + for_s
        ordered: list[Command] = []
        if self.question is not None:
            ordered += self.rule(ruling, is_alone=is_alone)
        while self.timer_at is not None and self.timer_at <= end_at:
            self.now, self.timer_at = self.timer_at, None
            ordered += self.tell(Timer())
            while self.question is not None:
                ordered += self.rule(ruling, is_alone=is_alone)
        self.now = end_at
        self.last = ordered
        return ordered

    def state(self) -> State:
        return self.ladder.state

    @property
    def question(self) -> do.AskClaim | do.RenewClaim | None:
        """Not answered yet."""
        asked = [one for one in self.ordered if isinstance(one, do.AskClaim | do.RenewClaim)]
        return asked[-1] if asked and asked[-1].ask_id not in self._answered else None

    def rule(
        self, ruling: Ruling, providers: tuple[bytes, ...] = (), *, is_alone: bool = False
    ) -> list[Command]:
        question = self.question
        assert question is not None, "nothing was asked"
        self._answered.add(question.ask_id)
        return self.tell(Ruled(question.ask_id, ruling, providers, is_alone))

    def rule_again(self, ruling: Ruling) -> list[Command]:
        """At the next question."""
        while self.question is None:
            assert self.timer_at is not None
            self.pass_(self.timer_at - self.now)
        return self.rule(ruling)

    def progress(
        self, prefix: int, frontier: int, *, size: int | None = None, rooted: bool = True, reached: int = 0
    ) -> list[Command]:
        return self.tell(SourceProgress(prefix, frontier, size, rooted, reached))

    def of(self, kind: type[C]) -> list[C]:
        """Of all that was ordered."""
        return [one for one in self.ordered if isinstance(one, kind)]

    def got_404(self, request_id: int) -> bool:
        return do.Answer404(request_id) in self.ordered

    def was_ended(self, request_id: int) -> bool:
        return do.EndByFin(request_id) in self.ordered

    def was_fed(self, request_id: int) -> bool:
        return do.Feed(request_id) in self.ordered

    def fed_to(self, offset: int) -> int:
        """A waiter whose body was sent as far as that, and has no more."""
        request = self.ask()
        self.rule(WAIT)
        self.progress(offset, offset)
        self.tell(Fed(request, offset))
        self.tell(Starved(request, offset))
        return request
