"""A lookup under any order of answers, failures, timers and lies. The key is zero: a node's id is its distance."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dht.contacts import Contact
from dht.lookup.lookup import ASKED_MAX_COUNT, Answered, Ask, Finish, Lookup, Outcome, Report, Silent, Timer
from dht.params import Params
from tests.support.examples import examples

PARAMS = Params()
OWN = 40
NUMBERS = st.integers(1, 80)


class Provider(NamedTuple):
    node: bytes


def node(number: int) -> bytes:
    return number.to_bytes(20, "big")


def contact(number: int) -> Contact:
    return Contact(node(number), 1, (), b"")


class LookupMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.asked: list[int] = []
        self.answered: set[int] = set()
        self.silent: set[int] = set()
        self.known: set[int] = set()
        self.told: list[int] = []
        self.naming: set[int] = set()
        self.end: Finish | None = None
        self.hedges: dict[int, float] = {}

    @initialize(
        candidates=st.lists(NUMBERS, max_size=12, unique=True),
        want=st.integers(1, 6),
        own=st.none() | st.lists(NUMBERS, max_size=3),
        hedge_s=st.sampled_from([0.0, 0.02, 0.05, 1.0]),
    )
    def begin(self, candidates: list[int], want: int, own: list[int] | None, hedge_s: float) -> None:
        self.want = want
        self.hedge_s = max(hedge_s, PARAMS.hedge_min_s)
        self.known = set(candidates) - {OWN}
        self.lookup: Lookup[Provider] = Lookup(
            bytes(20),
            node(OWN),
            [contact(number) for number in candidates],
            PARAMS,
            want=want,
            hedge_s=lambda _: hedge_s,
        )
        if own is not None:
            self.own_answer(own)
        self.deadline_at = self.now + PARAMS.lookup_deadline_s
        self.do(self.lookup.start(self.now))

    def own_answer(self, named: list[int]) -> None:
        if set(named) - {OWN}:
            self.naming.add(OWN)
        self.do(self.lookup.handle(Answered(node(OWN), [Provider(node(one)) for one in named], ()), self.now))

    def do(self, commands: list[Ask | Report[Provider] | Finish]) -> None:
        assert self.end is None or commands == [], "nothing comes after the end"
        for place, command in enumerate(commands):
            if isinstance(command, Ask):
                number = int.from_bytes(command.contact.node, "big")
                assert number not in self.asked, "a node is asked once"
                assert number in self.known, "nobody is asked that nobody named"
                self.asked.append(number)
                self.hedges[number] = self.now + self.hedge_s
            elif isinstance(command, Report):
                numbers = [int.from_bytes(one.node, "big") for one in command.providers]
                assert numbers
                self.told += numbers
            else:
                assert place == len(commands) - 1
                self.end = command

    @precondition(lambda self: self.end is None)
    @rule(
        data=st.data(),
        named=st.lists(NUMBERS, max_size=4),
        closer=st.lists(NUMBERS, max_size=8),
        after_s=st.sampled_from([0.0, 0.001, 0.03]),
    )
    def answer(self, data: st.DataObject, named: list[int], closer: list[int], after_s: float) -> None:
        number = data.draw(st.sampled_from(self.asked) if self.asked else NUMBERS)
        self.now += after_s
        if number in self.asked and number not in self.answered:
            self.answered.add(number)
            if set(named) - {OWN}:
                self.naming.add(number)
            self.known |= {one for one in closer if one < number} - {OWN}
        event = Answered(
            node(number), [Provider(node(one)) for one in named], [contact(one) for one in closer]
        )
        self.do(self.lookup.handle(event, self.now))

    @rule(number=NUMBERS, named=st.lists(NUMBERS, min_size=1, max_size=2))
    def unasked(self, number: int, named: list[int]) -> None:
        if number in self.asked or number == OWN:
            return
        told = list(self.told)
        event = Answered(node(number), [Provider(node(one)) for one in named], [contact(1)])
        self.do(self.lookup.handle(event, self.now))
        assert self.told == told, "who was not asked is not heard"

    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.asked) if self.asked else NUMBERS)
        if number in self.asked:
            self.silent.add(number)
        self.do(self.lookup.handle(Silent(node(number)), self.now))

    @precondition(lambda self: self.end is None)
    @rule()
    def wait(self) -> None:
        due_at = self.lookup.next_timer()
        assert due_at is not None
        self.now = max(self.now, due_at)
        self.do(self.lookup.handle(Timer(), self.now))

    @rule()
    def early_timer(self) -> None:
        self.do(self.lookup.handle(Timer(), self.now))

    @invariant()
    def told_providers_are_right(self) -> None:
        assert len(self.told) == len(set(self.told)), "each provider once"
        assert OWN not in self.told
        assert len(self.told) <= self.want

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.asked) <= ASKED_MAX_COUNT
        assert OWN not in self.asked

    @invariant()
    def it_never_stands_still(self) -> None:
        due_at = self.lookup.next_timer()
        if self.end is not None:
            assert due_at is None
            assert self.lookup.is_finished
            return
        assert due_at is not None
        assert self.now < due_at <= self.deadline_at, "it ends by its deadline"

    @invariant()
    def the_window_is_asked(self) -> None:
        """While it runs, the nearest nodes that are neither past their hedge nor silent have been asked."""
        if self.end is not None or len(self.asked) == ASKED_MAX_COUNT:
            return
        live = [
            number
            for number in sorted(self.known)
            if number in self.answered
            or (number not in self.silent and self.hedges.get(number, self.now + 1) > self.now)
        ]
        # What an answer named beyond closer_count was not learned.
        first = [number for number in live if self.lookup._near.get(node(number)) is not None]
        window = PARAMS.ask_first_count - (1 if self.lookup._near.get(node(OWN)) else 0)
        assert set(first[:window]) <= set(self.asked)

    @invariant()
    def the_end_is_told_rightly(self) -> None:
        end = self.end
        if end is None:
            return
        assert end.asked_count == len(self.asked)
        assert end.answered_count == len(self.answered) or end.outcome is Outcome.FOUND
        assert (end.outcome is Outcome.FOUND) == bool(self.naming)
        assert (end.outcome is Outcome.NOBODY) == (not self.asked and not self.naming)
        if end.outcome in (Outcome.MISSING, Outcome.DEADLINE):
            assert self.answered
        if end.outcome is Outcome.SILENT:
            assert not self.answered
            assert end.is_unheard
        if end.outcome is Outcome.MISSING:
            assert self.now < self.deadline_at


TestLookup = LookupMachine.TestCase
TestLookup.settings = settings(max_examples=examples(150), stateful_step_count=30, deadline=None)
