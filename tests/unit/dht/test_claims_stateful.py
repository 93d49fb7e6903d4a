"""An arbiter under any order of requests and pauses: who was told what must fit together."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dht.claims.claims import REASON_DONE, Claims
from dht.claims.rulings import Excluded, Full, Granted, Lost, Pending, Refused, Released, Ruling, Wait
from dht.contacts import Contact
from dht.params import Params
from dht.wire.codec import Fence
from tests.support.claim_hosts import EPOCH, FOREIGN, OWN, host

PARAMS = Params(claims_max_count=3, claims_per_holder_count=2, claim_waiters_count=3)
KEYS = [bytes([number]) * 20 for number in range(5)]
HOSTS = [host(number) for number in range(1, 6)]
KEY = st.sampled_from(KEYS)
HOST = st.sampled_from(HOSTS)
PROGRESS = st.integers(0, 6)
# No hold is longer: dht.claims.claims, rule 2.
HOLD_MAX_S = PARAMS.claim_step_factor * PARAMS.claim_first_progress_s
SLACK_S = 1e-6


class Held(NamedTuple):
    """What the last answer to the holder said."""

    fence: Fence
    node: bytes
    ends_at: float
    progress: int
    has_grown: bool


class ClaimsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims(OWN, EPOCH, PARAMS)
        self.now = 100.0
        self.held: dict[bytes, Held] = {}
        self.fences: dict[bytes, list[Fence]] = {key: [FOREIGN] for key in KEYS}
        self.last_counter = 0
        # (key, node) excluded at least until then, by the rule of no growth.
        self.excluded: dict[tuple[bytes, bytes], float] = {}

    def current(self, key: bytes) -> Held | None:
        held = self.held.get(key)
        if held is not None and held.ends_at <= self.now:
            del self.held[key]
            if not held.has_grown:
                self.excluded[key, held.node] = held.ends_at + PARAMS.claim_exclude_start_s
            return None
        return held

    def took(self, key: bytes, who: Contact, ruling: Granted, progress: int) -> None:
        before = self.current(key)
        ends_at = self.now + ruling.hold_s
        assert 0 < ruling.hold_s <= HOLD_MAX_S + SLACK_S
        if before is not None and before.node == who.node:
            assert ruling.fence == before.fence, "a running claim keeps its fence"
            if progress <= before.progress:
                assert ends_at <= before.ends_at + SLACK_S, "without growth it is not lengthened"
            else:
                assert ends_at >= self.now + PARAMS.claim_progress_min_s - SLACK_S
        is_new = before is None or before.node != who.node
        if ruling.fence.arbiter == OWN and ruling.fence not in self.fences[key]:
            assert ruling.fence.counter > self.last_counter, "counters rise"
            assert is_new
            self.last_counter = ruling.fence.counter
            self.fences[key].append(ruling.fence)
        has_grown = not is_new and before is not None and (before.has_grown or progress > before.progress)
        self.held[key] = Held(ruling.fence, who.node, ends_at, progress, has_grown)

    def told_to_wait(self, key: bytes, who: Contact, ruling: Wait | Lost) -> None:
        held = self.current(key)
        assert held is not None, "there is somebody to wait for"
        assert held.node != who.node
        assert ruling.running.fence == held.fence
        assert ruling.running.holder.contact.node == held.node
        assert ruling.running.holder.progress == held.progress
        self.check_participants(key, who, ruling)

    def check_participants(self, key: bytes, who: Contact, ruling: Granted | Wait | Lost | Pending) -> None:
        nodes = [one.contact.node for one in ruling.participants]
        assert len(nodes) == len(set(nodes)) <= PARAMS.claim_waiters_count
        assert who.node not in nodes
        held = self.held.get(key)
        if held is not None and held.ends_at > self.now:
            assert held.node not in nodes

    @rule(
        key=KEY,
        who=HOST,
        progress=PROGRESS,
        knows=st.none() | st.integers(0, 5),
        is_source_known=st.sampled_from([False, False, False, True]),
    )
    def ask(self, key: bytes, who: Contact, progress: int, knows: int | None, is_source_known: bool) -> None:
        before = self.current(key)
        fences = self.fences[key]
        known = None if knows is None else fences[knows % len(fences)]
        ruling: Ruling = self.claims.ask(
            key, who, progress, self.now, known=known, is_source_known=is_source_known
        )
        match ruling:
            case Granted():
                if before is None:
                    assert not is_source_known
                    assert self.excluded.get((key, who.node), 0.0) <= self.now + SLACK_S, "he is excluded"
                    assert ruling.fence.arbiter == OWN
                    assert ruling.fence not in fences, "an ask is never given an old claim"
                else:
                    assert before.node == who.node, "one claim a key"
                self.took(key, who, ruling, progress)
                self.check_participants(key, who, ruling)
            case Wait():
                self.told_to_wait(key, who, ruling)
            case Pending():
                assert before is None
                assert 0 < ruling.again_s <= PARAMS.claim_wait_retry_s
                self.check_participants(key, who, ruling)
            case Excluded() | Refused() | Full():
                assert before is None
                assert ruling.again_s > 0
            case _:
                raise AssertionError(ruling)

    @rule(key=KEY, who=HOST, progress=PROGRESS, which=st.integers(0, 8), far=st.booleans())
    def renew(self, key: bytes, who: Contact, progress: int, which: int, far: bool) -> None:
        before = self.current(key)
        fences = self.fences[key]
        fence = Fence(FOREIGN.arbiter, which) if far else fences[which % len(fences)]
        ruling = self.claims.renew(key, who, fence, progress, self.now)
        match ruling:
            case Granted():
                if before is not None and before.node != who.node:
                    assert fence.arbiter != OWN, "our own fences tell who is later"
                    assert progress > before.progress, "the one that is ahead stays"
                    assert ruling.fence == fence
                elif before is None:
                    assert ruling.fence == fence or ruling.fence not in fences
                self.took(key, who, ruling, max(progress, before.progress if before else 0))
                if before is not None and before.node != who.node:
                    self.held[key] = self.held[key]._replace(progress=progress)
            case Lost():
                assert before is not None
                self.told_to_wait(key, who, ruling)
            case Pending() | Excluded() | Refused() | Full():
                assert before is None or isinstance(ruling, Excluded | Refused | Full)
            case _:
                raise AssertionError(ruling)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), progress=PROGRESS)
    def renew_rightly(self, data: st.DataObject, progress: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.held)))
        before = self.current(key)
        if before is None:
            return
        who = next(one for one in HOSTS if one.node == before.node)
        ruling = self.claims.renew(key, who, before.fence, progress, self.now)
        assert isinstance(ruling, Granted), "the holder of a running claim keeps it"
        assert ruling.fence == before.fence
        self.took(key, who, ruling, max(progress, before.progress))

    @rule(key=KEY, who=HOST, which=st.integers(0, 8), reason=st.sampled_from([REASON_DONE, 1]))
    def release(self, key: bytes, who: Contact, which: int, reason: int) -> None:
        fences = self.fences[key]
        fence = fences[which % len(fences)]
        before = self.current(key)
        assert self.claims.release(key, who, fence, 0, reason, self.now) == Released()
        if before is not None and (before.node, before.fence) == (who.node, fence):
            del self.held[key]
            if reason != REASON_DONE:
                self.excluded[key, who.node] = self.now + PARAMS.claim_exclude_start_s

    @rule(key=KEY, who=HOST)
    def moved(self, key: bytes, who: Contact) -> None:
        before = self.current(key)
        self.claims.moved(key, who, 0, self.now)
        if before is not None and before.node == who.node:
            # Its end is no fault of the holder: as if it had grown.
            self.held[key] = before._replace(has_grown=True)

    @rule(for_s=st.sampled_from([0.0, 0.3, 1.0, 2.5, 5.0, 10.0]))
    def wait(self, for_s: float) -> None:
        self.now += for_s
        for key in KEYS:
            self.current(key)

    @rule()
    def expire(self) -> None:
        self.claims.expire(self.now)
        due_at = self.claims.next_due()
        assert due_at is None or due_at > self.now

    @invariant()
    def what_was_pushed_out_is_forgotten(self) -> None:
        known = self.claims._keys
        self.excluded = {both: until for both, until in self.excluded.items() if both[0] in known}

    @invariant()
    def what_runs_is_what_was_told(self) -> None:
        for key in KEYS:
            running = self.claims.running(key, self.now)
            held = self.held.get(key)
            assert (running is None) == (held is None)
            if running is not None and held is not None:
                assert (running.fence, running.holder.contact.node) == (held.fence, held.node)

    @invariant()
    def it_is_bounded_and_its_counts_are_right(self) -> None:
        claims = self.claims
        states = claims._keys
        assert len(claims) == len(states) <= PARAMS.claims_max_count
        assert claims.waiters_count == sum(len(state.waiters) for state in states.values())
        assert claims.running_count == sum(state.claim is not None for state in states.values())
        assert set(claims._idle) == {key for key, state in states.items() if state.claim is None}
        counts: dict[bytes, int] = {}
        for state in states.values():
            assert len(state.waiters) <= PARAMS.claim_waiters_count
            assert len(state.excluded) <= PARAMS.claim_waiters_count
            if state.claim is not None:
                counts[state.claim.holder.node] = counts.get(state.claim.holder.node, 0) + 1
            assert state.noted_due_at is not None
            assert (state.noted_due_at, state.key) in claims._due
            assert state.noted_due_at <= state.due_at(PARAMS)
        assert claims._held_counts == counts
        assert all(count <= PARAMS.claims_per_holder_count for count in counts.values())

    def teardown(self) -> None:
        self.now += PARAMS.claim_exclude_max_s + PARAMS.claim_forget_s + HOLD_MAX_S
        self.claims.expire(self.now)
        assert len(self.claims) == 0, "everything is forgotten in the end"
        assert self.claims.waiters_count == 0
        assert self.claims.next_due() is None


TestClaims = ClaimsMachine.TestCase
TestClaims.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
