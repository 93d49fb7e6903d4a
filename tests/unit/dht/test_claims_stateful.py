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
from dht.wire.codec import AskReason, Fence
from tests.support.claim_hosts import EPOCH, FOREIGN, OTHER_ARBITER, OWN, host
from tests.support.examples import examples

PARAMS = Params(
    claims_max_count=3,
    claims_per_holder_count=2,
    claim_waiters_count=3,
    claims_per_key_count=4,
    claim_slow_again_s=4.0,
    claim_slow_again_max_s=10.0,
)
KEYS = [bytes([number]) * 20 for number in range(5)]
HOSTS = [host(number) for number in range(1, 7)]
# Most of it happens to one key, or little would happen to any.
KEY = st.sampled_from([KEYS[0]] * 8 + KEYS)
HOST = st.sampled_from(HOSTS)
PROGRESS = st.integers(0, 6)
# Of this release and of a later one.
REASON = st.sampled_from([*AskReason, AskReason.HELD_LONG, 77])
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
    is_moved: bool = False


class ClaimsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims(OWN, EPOCH, PARAMS)
        self.now = 100.0
        # By key, in the order of their beginnings.
        self.held: dict[bytes, list[Held]] = {key: [] for key in KEYS}
        self.fences: dict[bytes, list[Fence]] = {key: [FOREIGN] for key in KEYS}
        self.last_counter = 0
        # (key, node) excluded at least until then, by the rule of no growth.
        self.excluded: dict[tuple[bytes, bytes], float] = {}
        # Claims of the key that ended by their time since somebody had all of it.
        self.expired_counts = dict.fromkeys(KEYS, 0)
        # When claims were granted beside a slow one, in a row.
        self.helped_at: dict[bytes, list[float]] = {key: [] for key in KEYS}

    def current(self, key: bytes) -> list[Held]:
        for held in list(self.held[key]):
            if held.ends_at > self.now:
                continue
            self.held[key].remove(held)
            self.expired_counts[key] += not held.is_moved
            if not held.has_grown and not held.is_moved:
                self.excluded[key, held.node] = held.ends_at + PARAMS.claim_exclude_start_s
        return self.held[key]

    def foremost(self, key: bytes) -> Held | None:
        return max(self.current(key), key=lambda one: one.progress, default=None)

    def of(self, key: bytes, who: Contact) -> Held | None:
        return next((one for one in self.current(key) if one.node == who.node), None)

    def took(self, key: bytes, who: Contact, ruling: Granted, progress: int) -> None:
        """`progress`: what counts now, of a claim that is new what its holder says."""
        before = self.of(key, who)
        ends_at = self.now + ruling.hold_s
        assert 0 < ruling.hold_s <= HOLD_MAX_S + SLACK_S
        if before is not None:
            assert ruling.fence == before.fence, "a running claim keeps its fence"
            if progress <= before.progress:
                assert ends_at <= before.ends_at + SLACK_S, "without growth it is not lengthened"
            else:
                assert ends_at >= self.now + PARAMS.claim_progress_min_s - SLACK_S
        if ruling.fence.arbiter == OWN and ruling.fence not in self.fences[key]:
            assert ruling.fence.counter > self.last_counter, "counters rise"
            assert before is None
            self.last_counter = ruling.fence.counter
            self.fences[key].append(ruling.fence)
        has_grown = before is not None and (before.has_grown or progress > before.progress)
        is_moved = before is not None and before.is_moved
        held = Held(ruling.fence, who.node, ends_at, progress, has_grown, is_moved)
        if before is None:
            self.held[key].append(held)
        else:
            self.held[key][self.held[key].index(before)] = held

    def told_to_wait(self, key: bytes, who: Contact, ruling: Wait | Lost) -> None:
        held = self.foremost(key)
        assert held is not None, "there is somebody to wait for"
        assert self.of(key, who) is None
        assert ruling.running.fence == held.fence
        assert ruling.running.holder.contact.node == held.node
        assert ruling.running.holder.progress == held.progress
        self.check_participants(key, who, ruling)

    def check_participants(self, key: bytes, who: Contact, ruling: Granted | Wait | Lost | Pending) -> None:
        nodes = [one.contact.node for one in ruling.participants]
        assert len(nodes) == len(set(nodes)) <= PARAMS.claim_waiters_count + PARAMS.claims_per_key_count
        assert who.node not in nodes
        told = ruling.running.holder.contact.node if isinstance(ruling, Wait | Lost) else None
        others = {one.node: one.progress for one in self.current(key) if one.node not in (told, who.node)}
        assert {one.contact.node: one.progress for one in ruling.participants[: len(others)]} == others
        assert told not in nodes

    def check_extra(self, key: bytes, reason: int) -> None:
        """One more was granted beside those that run."""
        running = self.current(key)
        assert len(running) < PARAMS.claims_per_key_count
        if reason == AskReason.HELD_LONG:
            assert self.expired_counts[key] > 0, "only after an end by time"
            assert len(running) <= 2 ** (self.expired_counts[key] - 1)
        else:
            assert reason == AskReason.SLOW_CLAIMANT
            assert len(running) == 1, "never a third for slowness"
            assert running[0].has_grown, "whoever brings nothing is not slow"
            helped_at = self.helped_at[key]
            if helped_at:
                after_s = PARAMS.claim_slow_again_s * 2 ** (len(helped_at) - 1)
                assert self.now - helped_at[-1] >= min(after_s, PARAMS.claim_slow_again_max_s) - SLACK_S
            helped_at.append(self.now)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), who=HOST, progress=PROGRESS, reason=REASON)
    def ask_for_more(self, data: st.DataObject, who: Contact, progress: int, reason: int) -> None:
        key = data.draw(st.sampled_from([key for key in KEYS if self.held[key]]))
        self.ask_as(key, who, progress, None, False, reason)

    @rule(
        key=KEY,
        who=HOST,
        progress=PROGRESS,
        knows=st.none() | st.integers(0, 5),
        is_source_known=st.sampled_from([False, False, False, True]),
        reason=REASON,
    )
    def ask(
        self,
        key: bytes,
        who: Contact,
        progress: int,
        knows: int | None,
        is_source_known: bool,
        reason: int,
    ) -> None:
        self.ask_as(key, who, progress, knows, is_source_known, reason)

    def ask_as(
        self,
        key: bytes,
        who: Contact,
        progress: int,
        knows: int | None,
        is_source_known: bool,
        reason: int,
    ) -> None:
        before, own = self.foremost(key), self.of(key, who)
        fences = self.fences[key]
        known = None if knows is None else fences[knows % len(fences)]
        ruling: Ruling = self.claims.ask(
            key, who, progress, self.now, known=known, is_source_known=is_source_known, reason=reason
        )
        match ruling:
            case Granted():
                if own is None:
                    assert not is_source_known
                    assert self.excluded.get((key, who.node), 0.0) <= self.now + SLACK_S, "he is excluded"
                    assert ruling.fence.arbiter == OWN
                    assert ruling.fence not in fences, "an ask is never given an old claim"
                    if before is not None:
                        self.check_extra(key, reason)
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

    @rule(key=KEY, who=HOST, progress=PROGRESS, which=st.integers(0, 8), far=st.integers(0, 2))
    def renew(self, key: bytes, who: Contact, progress: int, which: int, far: int) -> None:
        """`far`: of another arbiter's, of which there are two."""
        before, own = self.foremost(key), self.of(key, who)
        others = list(self.current(key))
        fences = self.fences[key]
        arbiters = [FOREIGN.arbiter, OTHER_ARBITER[:-1] + b"x"]
        fence = Fence(arbiters[far - 1], which) if far else fences[which % len(fences)]
        ruling = self.claims.renew(key, who, fence, progress, self.now)
        match ruling:
            case Granted() if own is not None:
                self.took(key, who, ruling, max(progress, own.progress))
            case Granted():
                if before is not None:
                    assert fence.arbiter != OWN, "our own fences tell who is later"
                    assert ruling.fence == fence
                    is_beside = any(one.fence.arbiter == fence.arbiter for one in others)
                    if is_beside and all(one.fence != fence for one in others) and len(others) < 4:
                        # The other arbiter granted both.
                        pass
                    else:
                        assert progress > before.progress, "the one that is ahead stays"
                        self.held[key].remove(min(others, key=lambda one: one.progress))
                else:
                    assert ruling.fence == fence or ruling.fence not in fences
                self.took(key, who, ruling, progress)
                self.check_participants(key, who, ruling)
            case Lost():
                self.told_to_wait(key, who, ruling)
            case Pending() | Excluded() | Refused() | Full():
                assert before is None or isinstance(ruling, Excluded | Refused | Full)
            case _:
                raise AssertionError(ruling)

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), progress=PROGRESS)
    def renew_rightly(self, data: st.DataObject, progress: int) -> None:
        running = [(key, held) for key, several in self.held.items() for held in several]
        key, before = data.draw(st.sampled_from(running))
        who = next(one for one in HOSTS if one.node == before.node)
        ruling = self.claims.renew(key, who, before.fence, progress, self.now)
        assert isinstance(ruling, Granted), "the holder of a running claim keeps it"
        assert ruling.fence == before.fence
        self.took(key, who, ruling, max(progress, before.progress))

    @precondition(lambda self: any(self.held.values()))
    @rule(
        data=st.data(),
        which=st.sampled_from([None, None, *range(9)]),
        progress=PROGRESS,
        reason=st.sampled_from([REASON_DONE, 1]),
    )
    def release(self, data: st.DataObject, which: int | None, progress: int, reason: int) -> None:
        """`which`: another fence than the holder's own."""
        running = [(key, held) for key, several in self.held.items() for held in several]
        key, before = data.draw(st.sampled_from(running))
        who = data.draw(st.sampled_from([next(one for one in HOSTS if one.node == before.node), *HOSTS]))
        fences = self.fences[key]
        fence = before.fence if which is None else fences[which % len(fences)]
        own = self.of(key, who)
        assert self.claims.release(key, who, fence, progress, reason, self.now) == Released()
        if own is None or own.fence != fence:
            return
        self.held[key].remove(own)
        if reason != REASON_DONE:
            self.excluded[key, who.node] = self.now + PARAMS.claim_exclude_start_s
        elif (own.has_grown or progress > own.progress) and not self.held[key]:
            self.expired_counts[key] = 0

    @rule(key=KEY, who=HOST)
    def moved(self, key: bytes, who: Contact) -> None:
        self.claims.moved(key, who, 0, self.now)
        own = self.of(key, who)
        if own is not None:
            self.held[key][self.held[key].index(own)] = own._replace(is_moved=True)

    @rule(for_s=st.sampled_from([0.0, 0.3, 1.0, 2.5, 5.0, 10.0, 10.0]))
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
        for key in KEYS:
            if key not in known:
                self.expired_counts[key] = 0
                self.helped_at[key].clear()

    @invariant()
    def what_runs_is_what_was_told(self) -> None:
        for key in KEYS:
            running, held = self.claims.running(key, self.now), self.foremost(key)
            assert (running is None) == (held is None)
            if running is not None and held is not None:
                assert (running.fence, running.holder.contact.node) == (held.fence, held.node)
            assert len(self.held[key]) <= PARAMS.claims_per_key_count

    @invariant()
    def it_is_bounded_and_its_counts_are_right(self) -> None:
        claims = self.claims
        states = claims._keys
        assert len(claims) == len(states) <= PARAMS.claims_max_count
        assert claims.waiters_count == sum(len(state.waiters) for state in states.values())
        assert claims.running_count == sum(len(state.claims) for state in states.values())
        assert set(claims._idle) == {key for key, state in states.items() if not state.claims}
        counts: dict[bytes, int] = {}
        for state in states.values():
            assert len(state.waiters) <= PARAMS.claim_waiters_count
            assert len(state.excluded) <= PARAMS.claim_waiters_count
            assert len(state.claims) <= PARAMS.claims_per_key_count
            nodes = [one.holder.node for one in state.claims]
            assert len(nodes) == len(set(nodes)), "one claim a node"
            assert not state.waiters.keys() & set(nodes), "whoever holds one waits for none"
            for node in nodes:
                counts[node] = counts.get(node, 0) + 1
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
TestClaims.settings = settings(max_examples=examples(100), stateful_step_count=40, deadline=None)
