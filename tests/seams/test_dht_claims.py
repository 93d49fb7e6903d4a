"""Claims between real nodes: for what reason, beside others, late or to nobody, and where people are."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from dht.claiming import ClaimAnswer
from dht.claims.rulings import Granted, Lost, Pending, Wait
from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.ids import distance, key_of
from dht.wire.codec import (
    AskReason,
    Claim,
    Fence,
    Found,
    GetProviders,
    Outcome,
    Participant,
    Ping,
    Pong,
    Request,
    Result,
    Ruling,
    Verb,
    WireContact,
    WireProvider,
    encode_response,
)
from dht.wire.guard import Admitted
from tests.support.dht_attackers import Member, member
from tests.support.dht_nodes import PARAMS, Live, live, live_cluster, quiet, until

WANTED = key_of("wanted")
# Nobody who answers late counts as silent.
PATIENT = dataclasses.replace(PARAMS, rpc_timeout_s=5.0)


def at_distance(number: int) -> bytes:
    """An id that is nearer to the key than any that is drawn at random."""
    return (int.from_bytes(WANTED, "big") ^ number).to_bytes(20, "big")


class Arbiter:
    """A member that grants when it is told to."""

    def __init__(self, scripted: Member, counter: int) -> None:
        self.member = scripted
        self.fence = Fence(scripted.id, counter)
        self.ruling: Result | None = Ruling(Outcome.GRANTED, 10_000, self.fence)
        self.asked: list[Claim] = []
        # To whatever a claim asks; it said that it is there a moment ago.
        self.is_dead = False
        self._waiting: list[Admitted] = []
        scripted.answer = self._answer

    def _answer(self, request: Request, admitted: Admitted) -> Result | None:
        if isinstance(request, Ping):
            return Pong(b"", pack((admitted.source,)))
        if isinstance(request, GetProviders) and not self.is_dead:
            return Found([], [])
        if not isinstance(request, Claim):
            return None
        self.asked.append(request)
        if request.verb == Verb.RELEASE:
            return Ruling(Outcome.RELEASED, 0)
        if self.ruling is None:
            self._waiting.append(admitted)
        return self.ruling

    def answers_late(self) -> None:
        first = self._waiting[0]
        frame = encode_response(first.message_id, Ruling(Outcome.GRANTED, 10_000, self.fence), [])
        sealed = self.member.seal(frame, first.source, destination=first.sender)
        self.member.socket.send(sealed, first.source)

    @property
    def released(self) -> list[Fence | None]:
        return [one.fence for one in self.asked if one.verb == Verb.RELEASE]


@contextlib.asynccontextmanager
async def between_two() -> AsyncIterator[tuple[Live, Arbiter, Arbiter]]:
    """A node, the nearest to the key and the next nearest."""
    async with (
        live(params=PATIENT) as node,
        member(node=at_distance(1)) as one,
        member(node=at_distance(2)) as two,
    ):
        near, far = Arbiter(one, 71), Arbiter(two, 72)
        await until(lambda: node.dht.unready is None)
        for scripted in (one, two):
            await scripted.ask(Ping(), node)
        yield node, near, far


# -- one claim more ------------------------------------------------------------------------------------------------


async def test_a_second_claim_beside_a_slow_one(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live_cluster(4) as nodes:
            arbiter, slow, other, late = sorted(nodes, key=lambda one: distance(one.id, WANTED))
            first = await claimed(slow, Verb.ASK)
            assert isinstance(first.ruling, Granted)
            assert first.arbiter.node == arbiter.id
            fence = first.ruling.fence
            assert isinstance((await claimed(slow, Verb.RENEW, progress=5, fence=fence)).ruling, Granted)
            # That of a renewal asks for nothing.
            told = (await claimed(other, Verb.RENEW, fence=fence, reason=AskReason.SLOW_CLAIMANT)).ruling
            assert isinstance(told, Lost)
            assert isinstance((await claimed(other, Verb.ASK)).ruling, Wait)
            second = (await claimed(other, Verb.ASK, reason=AskReason.SLOW_CLAIMANT)).ruling
            assert isinstance(second, Granted)
            assert second.fence.counter == fence.counter + 1
            assert [one.contact.node for one in second.participants] == [slow.id]
            # Where the arbiter asks itself the reason counts, too.
            ruling = (await claimed(arbiter, Verb.ASK, reason=AskReason.HELD_LONG)).ruling
            assert isinstance(ruling, Wait)
            ruling = (await claimed(late, Verb.ASK, reason=AskReason.SLOW_CLAIMANT)).ruling
            assert isinstance(ruling, Wait)
            assert ruling.running.fence == fence
            assert ruling.participants[0].contact.node == other.id
            for found, node in (
                (ruling.running.holder.contact, slow),
                (ruling.participants[0].contact, other),
            ):
                assert found.endpoints == (node.endpoint,)
                assert late.dht.contact(node.id) == found


async def test_a_holder_that_is_busy_with_others_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Which makes it a claimant that may be slow, though it has not begun."""
    with quiet(caplog):
        async with live_cluster(3) as nodes:
            _, busy, other = sorted(nodes, key=lambda one: distance(one.id, WANTED))
            fence = granted(await claimed(busy, Verb.ASK)).fence
            assert isinstance((await claimed(other, Verb.ASK, reason=AskReason.SLOW_CLAIMANT)).ruling, Wait)
            granted(await claimed(busy, Verb.RENEW, fence=fence, reason=AskReason.QUEUED))
            granted(await claimed(other, Verb.ASK, reason=AskReason.SLOW_CLAIMANT))


async def test_the_arbiter_itself_may_help_a_slow_claimant(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        async with live_cluster(2) as nodes:
            arbiter, slow = sorted(nodes, key=lambda one: distance(one.id, WANTED))
            fence = granted(await claimed(slow, Verb.ASK)).fence
            granted(await claimed(slow, Verb.RENEW, progress=5, fence=fence))
            assert isinstance((await claimed(arbiter, Verb.ASK)).ruling, Wait)
            ruling = granted(await claimed(arbiter, Verb.ASK, reason=AskReason.SLOW_CLAIMANT))
            (holding,) = ruling.participants
            assert (holding.contact.node, holding.progress) == (slow.id, 5)
            assert holding.contact.endpoints == (slow.endpoint,)


async def claimed(
    node: Live, verb: Verb, *, progress: int = 0, fence: Fence | None = None, reason: int = 0
) -> ClaimAnswer:
    answer = await node.dht.claim(WANTED, verb, progress=progress, fence=fence, reason=reason, want=0)
    assert answer is not None
    return answer


def granted(answer: ClaimAnswer) -> Granted:
    assert isinstance(answer.ruling, Granted), answer.ruling
    return answer.ruling


# -- grants that come late, or to nobody ---------------------------------------------------------------------------


async def test_a_nearer_arbiter_s_late_grant_takes_the_place_of_the_one_that_was_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with between_two() as (node, near, far):
            near.ruling = None
            replaced: list[ClaimAnswer] = []
            answer = await node.dht.claim(WANTED, Verb.ASK, want=0, on_replaced=replaced.append)
            assert answer is not None
            assert granted(answer).fence == far.fence
            assert replaced == []
            near.answers_late()
            await until(lambda: bool(replaced) and bool(far.released))
            (found,) = replaced
            assert (granted(found).fence, found.arbiter.node) == (near.fence, near.member.id)
            assert (near.released, far.released) == ([], [far.fence])
            assert node.dht.stats.claims["ask", "replaced"] == 1
            assert node.dht.stats.claims["ask", "granted"] == 1


async def test_whoever_does_not_listen_learns_the_new_fence_by_renewing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with between_two() as (node, near, far):
            near.ruling = None
            answer = await node.dht.claim(WANTED, Verb.ASK, want=0)
            assert answer is not None
            near.answers_late()
            await until(lambda: bool(far.released))
            near.ruling = Ruling(Outcome.GRANTED, 10_000, near.fence)
            renewed = await node.dht.claim(WANTED, Verb.RENEW, fence=granted(answer).fence, want=0)
            assert renewed is not None
            assert granted(renewed).fence == near.fence


async def test_whoever_hears_nobody_rules_himself_once_he_knows(caplog: pytest.LogCaptureFixture) -> None:
    """And for the next key at once: a pull asks for many."""
    with quiet(caplog):
        async with between_two() as (node, near, far):
            for dead in (near, far):
                dead.ruling, dead.is_dead = None, True
            clock = asyncio.get_running_loop().time
            before_at = clock()
            answer = await node.dht.claim(WANTED, Verb.ASK, want=0)
            alone_at = clock()
            assert answer is not None
            assert (granted(answer).fence.arbiter, answer.arbiter.node) == (node.id, node.id)
            alone_s = PATIENT.claim_hedge_min_s + PATIENT.claim_unheard_s
            assert alone_at - before_at >= alone_s
            other = await node.dht.claim(at_distance(4), Verb.ASK, want=0)
            assert other is not None
            assert granted(other).fence.arbiter == node.id
            assert clock() - alone_at < alone_s / 2
            far.is_dead, far.ruling = False, Ruling(Outcome.GRANTED, 10_000, far.fence)
            await far.member.ask(Ping(), node)
            again = await node.dht.claim(at_distance(8), Verb.ASK, want=0)
            assert again is not None
            assert again.arbiter.node == far.member.id, "others count again"


async def test_a_search_for_providers_begins_the_silence(caplog: pytest.LogCaptureFixture) -> None:
    """A pull by digest begins with one: the claim that follows need not find out that nobody is there."""
    with quiet(caplog):
        async with between_two() as (node, near, far):
            for dead in (near, far):
                dead.ruling, dead.is_dead = None, True
            before_at = asyncio.get_running_loop().time()
            assert await node.find(WANTED) == {}
            since = node.dht.node.silence.since
            assert since is not None
            assert since >= before_at


async def test_what_a_cancelled_caller_is_granted_later_is_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with quiet(caplog):
        async with between_two() as (node, near, far):
            near.ruling = far.ruling = None
            asking = asyncio.create_task(node.dht.claim(WANTED, Verb.ASK, want=0))
            await until(lambda: bool(near.asked))
            asking.cancel()
            await asyncio.wait([asking])
            near.answers_late()
            await until(lambda: near.released == [near.fence])


async def test_a_caller_who_is_cancelled_at_any_moment_leaves_no_claim(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its own arbiter, so that it takes the same few turns of the loop each time."""
    cancelled_count = 0
    with quiet(caplog):
        async with live() as node:
            await until(lambda: node.dht.unready is None)
            for turns_count in range(10):
                asking = asyncio.create_task(node.dht.claim(WANTED, Verb.ASK))
                for _ in range(turns_count):
                    await asyncio.sleep(0)
                asking.cancel()
                await asyncio.wait([asking])
                if not asking.cancelled():
                    break
                cancelled_count += 1
                # What is under way, with nobody who waits for it.
                for _ in range(10):
                    await asyncio.sleep(0)
                assert node.dht.node.claims.running_count == 0, f"cancelled after {turns_count} turns"
            assert 3 <= cancelled_count < 10


# -- where people are ----------------------------------------------------------------------------------------------


async def test_whom_a_ruling_names_is_told_with_an_address_of_use(caplog: pytest.LogCaptureFixture) -> None:
    """The holder is no member, one waiter is a better known one, one speaks only what this node does not."""
    holder_at, wrong = Endpoint("127.0.0.1", 4001), Endpoint("127.0.0.1", 4002)
    with quiet(caplog):
        async with between_two() as (node, near, _), member() as known:
            await known.ask(Ping(b"own words"), node)
            named = [
                WireProvider(b"h" * 20, pack((holder_at, Endpoint("::1", 4001))), 0, b"info"),
                WireProvider(known.id, pack((wrong,)), 0),
                WireProvider(b"6" * 20, pack((Endpoint("::1", 4003),)), 0),
            ]
            holder, *others = (Participant(one, number) for number, one in enumerate(named))
            near.ruling = Ruling(Outcome.WAIT, 1000, near.fence, holder, others)
            ruling = (await claimed(node, Verb.ASK)).ruling
            assert isinstance(ruling, Wait)
            assert ruling.running.holder.contact == Contact(b"h" * 20, 0, (holder_at,), b"info")
            assert node.dht.contact(b"h" * 20) is None
            (other,) = ruling.participants
            assert (other.contact.endpoints, other.contact.info) == ((known.endpoint,), b"own words")
            assert node.dht.contact(known.id) == other.contact
            assert node.dht.contact(node.id) is None

            near.ruling = Ruling(Outcome.WAIT, 1000, near.fence, others[1])
            ruling = (await claimed(node, Verb.ASK)).ruling
            assert isinstance(ruling, Wait)
            assert ruling.running.holder.contact.endpoints == (), "a holder is told all the same"

            near.ruling = Ruling(Outcome.WAIT, 1000, None, None, others)
            ruling = (await claimed(node, Verb.ASK)).ruling
            assert isinstance(ruling, Pending)
            assert ruling.participants == (other,)


async def test_a_member_is_told_only_where_this_node_can_speak(caplog: pytest.LogCaptureFixture) -> None:
    v4, v6 = Endpoint("127.0.0.1", 4001), Endpoint("::1", 4001)
    both, far_away = b"b" * 20, b"6" * 20
    with quiet(caplog):
        async with between_two() as (node, near, _):
            told = [WireContact(both, 1, pack((v4, v6))), WireContact(far_away, 1, pack((v6,)))]
            now = asyncio.get_running_loop().time()
            node.dht.node.introduced(told, near.member.endpoint, now, are_news=False)
            assert node.dht.members.get(far_away) is not None
            found = node.dht.contact(both)
            assert found is not None
            assert found.endpoints == (v4,)
            assert node.dht.contact(far_away) is None
            others = [Participant(WireProvider(one, pack((v4,)), 0), 0) for one in (both, far_away)]
            near.ruling = Ruling(Outcome.WAIT, 1000, None, None, others)
            ruling = (await claimed(node, Verb.ASK)).ruling
            assert isinstance(ruling, Pending)
            assert [one.contact for one in ruling.participants] == [found]
