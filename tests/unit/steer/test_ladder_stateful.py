"""The ladder beside a model of containerd, an arbiter and a swarm that do what they like, in any order.

Checked: every request is answered or ended within its bound; nothing is ordered for a request that is over; a 404 at
the fallback host only when nobody can; nobody goes to the origin on his own while a claim is alive; bodies without a
byte end once a minute; what was ended is a 404 when it is asked for again; in the end all is at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mirror.steer import commands as do
from mirror.steer import events as on
from mirror.steer.commands import Command
from mirror.steer.events import Asked, Event, RefusalKind, Ruled
from mirror.steer.ladder import State
from mirror.steer.rulings import (
    Excluded,
    Fence,
    Granted,
    Participant,
    Pending,
    Refused,
    Ruling,
    Unruled,
    Wait,
)
from mirror.steer.timers import (
    CLAIM_FIRST_BYTE_S,
    CLAIM_HEARD_S,
    FALLBACK_MAX_S,
    NOBODY_S,
    QUEUED_MAX_S,
    SILENT_MAX_S,
    ZERO_BYTE_CLOSE_EVERY_S,
)
from tests.support.examples import examples
from tests.support.steer_host import MIB, SteerHost

SLACK_S = 1e-6
NODES = [bytes([number]) * 20 for number in range(1, 5)]
SIZE = 12 * MIB
RULINGS = ["granted", "wait", "pending", "excluded", "refused", "unruled"]


@dataclass
class Request:
    asked: Asked
    asked_at: float
    phase: str = "held"
    offset: int = 0
    silent_since: float | None = None
    is_paused: bool = False


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, Request] = {}
        self.ids = 0
        self.fence_count = 0
        self.question: do.AskClaim | do.RenewClaim | None = None
        self.heard_claim_at: float | None = None
        self.words: list[tuple[float, bool]] = []
        self.refused_until = 0.0
        self.has_sources = False
        self.zero_byte_closed_at = -1000.0
        self.ingest = 0
        self.is_committed = False
        # When an arbiter first told of the one claimant.
        self.first_wait_at: float | None = None
        self.asking_again: list[int] = []
        self.event: Event | None = None
        self.state_before = State.IDLE

    @initialize(is_manifest=st.booleans(), has_fallback=st.booleans(), fast=st.booleans())
    def begin(self, is_manifest: bool, has_fallback: bool, fast: bool) -> None:
        self.is_manifest = is_manifest
        self.host = SteerHost(
            is_manifest=is_manifest,
            has_fallback=has_fallback,
            expected_bytes_s=10.0 * MIB if fast else None,
        )

    # -- what the shell does with orders ---------------------------------------------------------------------------

    def tell(self, event: Event) -> None:
        self.event = event
        self.state_before = self.host.ladder.state
        for command in self.host.tell(event):
            self.carry_out(command)
        if not self.host.ladder._asking.is_in_flight:
            # The answer is not wanted any more.
            self.question = None
        if self.host.ladder.state is State.IDLE:
            # Nor is what was told of others.
            self.has_sources = False
        while self.asking_again:
            self.ask_again(self.asking_again.pop())

    def carry_out(self, command: Command) -> None:
        now = self.host.now
        match command:
            case do.AskClaim() | do.RenewClaim():
                assert self.question is None or self.question.ask_id < command.ask_id
                self.question = command
            case do.Feed(request_id):
                request = self.open[request_id]
                assert request.phase == "held"
                request.phase = "ready"
            case do.Pause(request_id):
                assert self.open[request_id].phase == "body"
                assert not self.open[request_id].is_paused
                self.open[request_id].is_paused = True
            case do.Resume(request_id):
                assert self.open[request_id].is_paused
                self.open[request_id].is_paused = False
            case do.Answer404(request_id):
                request = self.open.pop(request_id)
                assert request.phase != "body", "its headers are out"
                self.check_end(request, now)
            case do.EndByFin(request_id):
                request = self.open.pop(request_id)
                assert request.phase == "body"
                if request.offset == request.asked.range_start:
                    assert now >= self.zero_byte_closed_at + ZERO_BYTE_CLOSE_EVERY_S - SLACK_S
                    self.zero_byte_closed_at = now
                self.check_end(request, now)
                if not request.asked.at_fallback and not request.asked.is_head:
                    self.asking_again.append(request.offset)
            case do.SetTimer(at):
                assert at is None or at > now

    def check_end(self, request: Request, now: float) -> None:
        is_forbidden = isinstance(self.event, on.OriginRefused)
        is_unjudged = self.is_manifest and request.asked.at_fallback and request.phase == "held"
        assert not self.is_committed or is_forbidden or is_unjudged, "it is here"
        if request.asked.is_head:
            return
        silent_since = request.asked_at if request.silent_since is None else request.silent_since
        is_refused = now < self.refused_until + SLACK_S or isinstance(
            self.event, on.BytesWrong | on.OriginRefused
        )
        if request.asked.at_fallback:
            limit_s = SILENT_MAX_S if request.phase == "body" else FALLBACK_MAX_S
            is_over = now >= silent_since + limit_s - SLACK_S
            assert is_refused or is_over or self.can_nobody(now), "a 404 here ends the pull"
        elif now < silent_since + SILENT_MAX_S - SLACK_S and not is_refused:
            self.check_let_through(now)

    def check_let_through(self, now: float) -> None:
        is_told = isinstance(self.event, Ruled) and isinstance(
            self.event.ruling, Granted | Excluded | Refused
        )
        is_steered = self.state_before in (State.CLAIMED, State.GIVEN_UP, State.HANDING_OVER)
        if is_told or is_steered or isinstance(self.event, Asked):
            return
        assert not self.is_claim_alive(now), "while a claim is alive nobody goes on his own"
        assert not self.has_sources or isinstance(self.event, Ruled)

    def is_claim_alive(self, now: float) -> bool:
        return self.heard_claim_at is not None and now < self.heard_claim_at + CLAIM_HEARD_S - SLACK_S

    def can_nobody(self, now: float) -> bool:
        if self.is_claim_alive(now) or not self.words:
            return False
        since, _ = self.words[0]
        is_alone = self.words[-1][1]
        return is_alone or (len(self.words) >= 2 and now >= since + NOBODY_S - SLACK_S)

    def ask_again(self, offset: int) -> None:
        """containerd goes on from where its body ended."""
        if len(self.open) > 6:
            return
        request_id = self.do_ask(offset, is_head=False, at_fallback=False)
        assert request_id not in self.open, "it was sent to the origin"

    def do_ask(self, start: int, *, is_head: bool, at_fallback: bool) -> int:
        self.ids += 1
        asked = Asked(self.ids, is_head, start, at_fallback)
        self.open[self.ids] = Request(asked, self.host.now, offset=start, silent_since=self.host.now)
        if at_fallback and not is_head:
            self.words.clear()
        self.tell(asked)
        return asked.request_id

    # -- what happens ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open) < 6)
    @rule(
        start=st.sampled_from([0, 0, 0, MIB, 3 * MIB]),
        kind=st.sampled_from(["first", "first", "fallback", "head", "head at fallback"]),
    )
    def ask(self, start: int, kind: str) -> None:
        self.do_ask(start, is_head=kind.startswith("head"), at_fallback=kind.endswith("fallback"))

    @precondition(lambda self: self.question is not None)
    @rule(
        kind=st.sampled_from(RULINGS),
        providers=st.sampled_from([(), (), (), (NODES[2],), (NODES[3],)]),
        progress=st.sampled_from([0, 0, MIB, 5 * MIB]),
        is_alone=st.sampled_from([False, False, False, True]),
    )
    def answer(self, kind: str, providers: tuple[bytes, ...], progress: int, is_alone: bool) -> None:
        self.give_answer(kind, providers, progress, is_alone=is_alone)

    def give_answer(self, kind: str, providers: tuple[bytes, ...], progress: int, *, is_alone: bool) -> None:
        assert self.question is not None
        question, self.question = self.question, None
        if isinstance(question, do.AskClaim) and not question.wants_providers:
            providers = ()
        # Who is named is another host.
        is_alone = is_alone and not providers
        others = (Participant(NODES[1], progress),)
        ruling: Ruling
        now = self.host.now
        match kind:
            case "granted":
                self.fence_count += 1
                ruling = Granted(Fence(b"a", self.fence_count), others)
            case "wait":
                self.first_wait_at = self.host.now if self.first_wait_at is None else self.first_wait_at
                ruling = Wait(Fence(b"b", 1), Participant(NODES[0], progress), 1.0, others)
            case "pending":
                ruling = Pending(0.5, others)
            case "excluded":
                ruling = Excluded(10.0)
            case "refused":
                ruling = Refused(10.0)
            case _:
                ruling = Unruled()
        self.heard(ruling, now, is_alone=is_alone)
        if kind == "refused":
            self.refused_until = max(self.refused_until, now + 10.0)
        if providers:
            self.has_sources = True
        self.tell(Ruled(question.ask_id, ruling, providers, is_alone))

    def heard(self, ruling: Ruling, now: float, *, is_alone: bool) -> None:
        match ruling:
            case Wait():
                self.heard_claim_at = now
                self.words.clear()
            case Unruled():
                self.words.append((now, is_alone))
            case Pending():
                self.heard_claim_at = None
                self.words.clear()
            case _:
                self.heard_claim_at = None
                self.words.append((now, is_alone))

    @rule(more=st.sampled_from([0, MIB, 4 * MIB]), ahead=st.sampled_from([0, MIB]), rooted=st.booleans())
    def swarm_moves(self, more: int, ahead: int, rooted: bool) -> None:
        prefix = min(SIZE, self.host.ladder._sources.prefix_bytes + more)
        frontier = min(SIZE, prefix + ahead)
        self.has_sources = rooted or frontier > prefix
        self.tell(on.SourceProgress(prefix, frontier, SIZE, rooted))

    @rule()
    def swarm_ends(self) -> None:
        self.has_sources = False
        self.tell(on.SourcesGone())

    @precondition(
        lambda self: any(one.phase != "held" and not one.asked.is_head for one in self.open.values())
    )
    @rule(data=st.data(), more=st.sampled_from([0, 1, MIB]), starves=st.booleans())
    def bytes_are_sent(self, data: st.DataObject, more: int, starves: bool) -> None:
        ready = [one for one in self.open.values() if one.phase != "held" and not one.asked.is_head]
        request = data.draw(st.sampled_from(ready))
        request.phase = "body"
        request.offset += more
        if request.offset > request.asked.range_start and more:
            request.silent_since = None
        self.tell(on.Fed(request.asked.request_id, request.offset))
        if starves and request.asked.request_id in self.open:
            if request.silent_since is None:
                request.silent_since = self.host.now
            self.tell(on.Starved(request.asked.request_id, request.offset))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.open)))
        del self.open[request_id]
        self.tell(on.Left(request_id))
        self.left()

    def left(self) -> None:
        """With nobody left the ladder forgets what it was told of the others."""
        if not self.open:
            self.words.clear()

    @precondition(lambda self: not self.is_committed)
    @rule(
        event=st.sampled_from(["born", "grew", "vanished", "right"]), more=st.sampled_from([1, MIB, 4 * MIB])
    )
    def ingest_moves(self, event: str, more: int) -> None:
        match event:
            case "born":
                self.ingest = 0
                self.tell(on.IngestBorn(SIZE))
            case "grew":
                self.ingest = min(SIZE, self.ingest + more)
                self.tell(on.IngestGrew(self.ingest))
            case "vanished":
                self.ingest = 0
                self.tell(on.IngestVanished())
            case "right":
                self.tell(on.IngestRight())

    @precondition(lambda self: not self.is_committed)
    @rule(wrong=st.sampled_from([False, True]), rarely=st.integers(0, 3))
    def it_ends(self, wrong: bool, rarely: int) -> None:
        if rarely:
            return
        if wrong:
            self.refused_until = max(self.refused_until, self.host.now + 10.0)
            self.tell(on.BytesWrong())
        else:
            self.is_committed = True
            self.tell(on.Committed())

    @rule(kind=st.sampled_from(list(RefusalKind)))
    def the_origin_refused(self, kind: RefusalKind) -> None:
        for request_id, request in list(self.open.items()):
            if request.asked.at_fallback and request.phase == "held":
                self.tell(on.OriginRefused(request_id, kind))

    @rule(is_joining=st.booleans())
    def daemon(self, is_joining: bool) -> None:
        self.tell(on.DaemonJoining(is_joining))

    @rule(
        for_s=st.sampled_from([0.05, 0.3, 1.0, 3.0, 8.0, 21.0]),
        answer=st.sampled_from(["", "", "wait", "unruled", "excluded", "pending"]),
    )
    def time_goes_on(self, for_s: float, answer: str = "") -> None:
        """`answer`: to each question, at once."""
        host = self.host
        end_at = host.now + for_s
        spun = 0
        if answer and self.question is not None:
            self.give_answer(answer, (), 0, is_alone=False)
        while host.timer_at is not None and host.timer_at <= end_at:
            host.now, host.timer_at = host.timer_at, None
            if host.now >= self.asked_until() - SLACK_S:
                # The ladder takes it as unruled by itself.
                self.question = None
                self.heard(Unruled(), host.now, is_alone=False)
            self.tell(on.Timer())
            self.check_bounds()
            if answer and self.question is not None:
                self.give_answer(answer, (), 0, is_alone=False)
            spun += 1
            assert spun < 2000, "it spins"
        host.now = end_at
        self.left()

    def asked_until(self) -> float:
        late_at = self.host.ladder._asking._late_at
        return float("inf") if late_at is None else late_at

    # -- what must hold ----------------------------------------------------------------------------------------------

    @invariant()
    def check_bounds(self) -> None:
        now = self.host.now
        for request in self.open.values():
            if self.is_committed or request.silent_since is None:
                continue
            if request.phase == "body":
                limit_s = SILENT_MAX_S
            elif request.asked.at_fallback:
                limit_s = FALLBACK_MAX_S
            else:
                # Behind a claimant that has still to begin, and was told of for so long.
                first_at = self.first_wait_at
                may_be_queued = first_at is not None and now - first_at > CLAIM_FIRST_BYTE_S
                limit_s = QUEUED_MAX_S if may_be_queued else SILENT_MAX_S
            if request.phase == "body" and request.offset == request.asked.range_start:
                limit_s += ZERO_BYTE_CLOSE_EVERY_S * len(self.open)
            assert now <= request.silent_since + limit_s + SLACK_S, "it waits for ever"
            assert self.host.timer_at is not None, "nobody will look at it again"

    @invariant()
    def what_is_open_is_known(self) -> None:
        if hasattr(self, "host"):
            assert len(self.host.ladder._readers) == len(self.open)

    def teardown(self) -> None:
        if not hasattr(self, "host"):
            return
        self.question = None
        for request_id, request in list(self.open.items()):
            if request.silent_since is None or self.is_committed:
                del self.open[request_id]
                self.tell(on.Left(request_id))
        for _ in range(20):
            self.time_goes_on(21.0)
        assert self.open == {}, "everybody was answered"
        assert self.host.ladder.is_idle
        assert self.host.timer_at is None


TestLadder = Machine.TestCase
TestLadder.settings = settings(max_examples=examples(300), stateful_step_count=25, deadline=None)
