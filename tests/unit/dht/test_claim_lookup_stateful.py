"""A claim's lookup under any order of rulings, failures, timers and lies. The key is zero: a node's id is its
distance."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dht.claims.lookup import (
    ASKED_MAX_COUNT,
    PASSED_OVER_MAX_COUNT,
    TRIES_COUNT,
    AskClaim,
    AskProviders,
    ClaimLookup,
    ClaimSilent,
    Command,
    Decided,
    GiveBack,
    Probe,
    Reason,
    Ruled,
)
from dht.claims.rulings import Excluded, Granted, Holding, NotJoined, Pending, Redirect, Ruling, Running, Wait
from dht.contacts import Contact
from dht.lookup.lookup import Answered, Report, Silent, Timer
from dht.silence import Silence
from dht.wire.codec import Fence
from tests.support.examples import examples
from tests.support.lookup_steps import KEY, PARAMS, Provider, contact, contacts, node, providers

OWN = 20
NUMBERS = st.integers(1, 40)
WAIT = Wait(Running(Fence(node(1), 5), Holding(contact(90), 10)), 1.0, ())
FINAL: list[Ruling] = [WAIT, Pending(1.0, ()), Excluded(10.0)]


class ClaimLookupMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.hedge_at: dict[int, float] = {}
        self.claims_asked: list[tuple[int, tuple[bytes, ...]]] = []
        self.providers_asked: list[int] = []
        self.open_counts: dict[int, int] = {}
        self.told: list[int] = []
        self.granted: set[tuple[int, Fence]] = set()
        self.given_back: set[tuple[int, Fence]] = set()
        self.decided: list[Decided] = []
        self.is_over = False
        self.last_counter = 0

    @initialize(
        candidates=st.lists(NUMBERS, max_size=10, unique=True),
        others_count=st.integers(0, 2),
        hedge_s=st.sampled_from([0.0, 0.05, 0.4]),
        lively=st.sets(NUMBERS),
        is_anybody_heard=st.booleans(),
        silent_since=st.sampled_from([None, 999.0, 1000.0]),
        probed_since=st.sampled_from([None, 999.0, 1000.0]),
    )
    def begin(
        self,
        candidates: list[int],
        others_count: int,
        hedge_s: float,
        lively: set[int],
        is_anybody_heard: bool,
        silent_since: float | None,
        probed_since: float | None,
    ) -> None:
        self.known = set(candidates)
        self.silence = Silence()
        if is_anybody_heard:
            self.silence.heard(2000.0)
        self.silence.since, self.silence.probed_since = silent_since, probed_since
        self.hedge_s = max(hedge_s, PARAMS.claim_hedge_min_s)
        self.lookup: ClaimLookup[Provider] = ClaimLookup(
            KEY,
            node(OWN),
            contacts(*candidates),
            PARAMS,
            want=3,
            hedge_s=lambda _: hedge_s,
            is_heard_lately=lambda asked: int.from_bytes(asked, "big") in lively,
            silence=self.silence,
            providers_asked_count=others_count,
        )
        self.rounds_count = 1 + is_anybody_heard
        self.deadline_at = self.now + self.rounds_count * PARAMS.claim_deadline_s
        self.do(self.lookup.start(self.now))

    def do(self, commands: Sequence[Command[Provider]]) -> None:
        for command in commands:
            match command:
                case AskClaim(asked, passed_over):
                    assert not self.is_over
                    self.ask(int.from_bytes(asked.node, "big"), passed_over)
                case AskProviders(asked):
                    self.ask_providers(asked)
                case Probe(probed):
                    assert self.silence.probed_since is None, "once"
                    self.silence.probed(self.now)
                    for asked in probed:
                        self.ask_providers(asked)
                case Report(found):
                    assert not self.is_over
                    self.told += [int.from_bytes(one.node, "big") for one in found]
                case GiveBack(asked, fence):
                    both = (int.from_bytes(asked.node, "big"), fence)
                    assert both in self.granted, "only what was granted is given back"
                    assert both not in self.given_back, "once"
                    self.given_back.add(both)
                case Decided():
                    self.decided.append(command)
                    self.is_over = True
                case _:
                    assert not self.is_over
                    self.is_over = True
                    assert (command.reason is Reason.NOBODY) == (not self.claims_asked)

    def ask_providers(self, asked: Contact) -> None:
        assert not self.is_over
        number = int.from_bytes(asked.node, "big")
        assert number not in self.providers_asked
        assert number != OWN
        self.providers_asked.append(number)

    def ask(self, number: int, passed_over: tuple[bytes, ...]) -> None:
        assert number in self.known, "nobody is asked that nobody named"
        under_way = [one for one, at in self.hedge_at.items() if at > self.now and one != number]
        assert not under_way or (self.silence.probed_since is not None and number == OWN), "one at a time"
        tries_count = self.rounds_count * TRIES_COUNT
        assert self.claims_asked.count((number, passed_over)) < tries_count, "not again with the same list"
        assert len(passed_over) <= PASSED_OVER_MAX_COUNT
        assert all(int.from_bytes(one, "big") < number for one in passed_over), "nearer ones"
        self.claims_asked.append((number, passed_over))
        self.open_counts[number] = self.open_counts.get(number, 0) + 1
        self.hedge_at[number] = self.now + self.hedge_s

    def some_asked(self, data: st.DataObject) -> int:
        asked = [number for number, _ in self.claims_asked]
        return data.draw(st.sampled_from(asked[-4:]) if asked else NUMBERS)

    def answered(self, number: int, ruling: Ruling, named: list[int]) -> None:
        if number in self.open_counts:
            self.hedge_at.pop(number, None)
            self.open_counts.pop(number)
        self.do(self.lookup.handle(Ruled(node(number), ruling, providers(*named)), self.now))

    @rule(data=st.data(), named=st.lists(NUMBERS, max_size=3))
    def grant(self, data: st.DataObject, named: list[int]) -> None:
        number = self.some_asked(data)
        if number not in self.open_counts:
            return
        self.last_counter += 1
        fence = Fence(node(number), self.last_counter)
        self.granted.add((number, fence))
        self.answered(number, Granted(fence, 10.0, ()), named)

    @rule(data=st.data(), ruling=st.sampled_from(FINAL), named=st.lists(NUMBERS, max_size=3))
    def rule_otherwise(self, data: st.DataObject, ruling: Ruling, named: list[int]) -> None:
        self.answered(self.some_asked(data), ruling, named)

    @rule(data=st.data())
    def not_joined(self, data: st.DataObject) -> None:
        self.answered(self.some_asked(data), NotJoined(1.0), [])

    @rule(data=st.data(), closer=st.lists(NUMBERS, min_size=1, max_size=3))
    def redirect(self, data: st.DataObject, closer: list[int]) -> None:
        number = self.some_asked(data)
        if not self.is_over and number in self.open_counts:
            self.known |= {one for one in closer if one < number} - {OWN}
        self.answered(number, Redirect(tuple(contacts(*closer))), [])

    @rule(data=st.data())
    def claim_silent(self, data: st.DataObject) -> None:
        number = self.some_asked(data)
        if self.open_counts.get(number, 0) > 0:
            self.hedge_at.pop(number, None)
        self.do(self.lookup.handle(ClaimSilent(node(number)), self.now))

    @rule(number=NUMBERS, named=st.lists(NUMBERS, max_size=3), is_silent=st.booleans())
    def others(self, number: int, named: list[int], is_silent: bool) -> None:
        event = Silent(node(number)) if is_silent else Answered(node(number), providers(*named), ())
        self.do(self.lookup.handle(event, self.now))

    @rule(after_s=st.sampled_from([0.0, 0.01, 0.06]))
    def wait(self, after_s: float) -> None:
        self.now += after_s
        self.do(self.lookup.handle(Timer(), self.now))

    @precondition(lambda self: not self.is_over)
    @rule()
    def wait_for_the_timer(self) -> None:
        due_at = self.lookup.next_timer()
        assert due_at is not None
        self.now = due_at
        self.do(self.lookup.handle(Timer(), self.now))

    @invariant()
    def it_ends_by_its_deadline(self) -> None:
        due_at = self.lookup.next_timer()
        assert self.lookup.is_finished == self.is_over
        if self.is_over:
            assert due_at is None
        else:
            assert due_at is not None
            assert self.now < due_at <= self.deadline_at

    @invariant()
    def at_most_one_grant_is_kept(self) -> None:
        kept = self.granted - self.given_back
        assert len(kept) <= 1
        if not self.is_over:
            return
        if self.decided and isinstance(self.decided[-1].ruling, Granted):
            last = self.decided[-1]
            assert isinstance(last.ruling, Granted)
            assert kept == {(int.from_bytes(last.arbiter.node, "big"), last.ruling.fence)}
        else:
            assert not kept

    @invariant()
    def a_later_decision_is_a_nearer_grant(self) -> None:
        for first, second in zip(self.decided, self.decided[1:], strict=False):
            assert isinstance(first.ruling, Granted)
            assert isinstance(second.ruling, Granted)
            assert second.arbiter.node < first.arbiter.node

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.claims_asked) <= ASKED_MAX_COUNT
        assert len(self.told) == len(set(self.told)) <= 3
        assert OWN not in self.told


TestClaimLookup = ClaimLookupMachine.TestCase
TestClaimLookup.settings = settings(max_examples=examples(120), stateful_step_count=30, deadline=None)
