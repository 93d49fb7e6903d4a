"""A member that lies in its answers: nothing loops, nothing raises, and what was asked for ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from dht.endpoints import Endpoint, pack
from dht.ids import key_of
from dht.membership import COMPARE_PAGES_MAX_COUNT, PAGE_LEAST_COUNT
from dht.wire.codec import (
    Added,
    AddProviders,
    Claim,
    Delta,
    DeltaKind,
    Differs,
    Found,
    GetMembers,
    GetProviders,
    Join,
    Outcome,
    Page,
    Ping,
    Pong,
    RemoveProviders,
    Request,
    Result,
    Ruling,
    Sync,
    Verb,
    WireContact,
    WireProvider,
    encode_response,
)
from dht.wire.envelope import Key
from dht.wire.guard import Admitted
from tests.support.dht_attackers import Member, member, stranger
from tests.support.dht_nodes import KEY, PARAMS, live, live_cluster, quiet, until
from tests.support.dht_nonsense import nonsense, spoilt_results

KEYS = pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
WANTED = key_of("wanted")
LAST = b"\xff" * 20
# What one lookup costs at most, in requests.
ASKED_MAX_COUNT = 24
# Silence is noticed later than any lookup ends.
PATIENT = dataclasses.replace(PARAMS, rpc_timeout_s=5.0)
# Slack of a busy machine on top of what the node promises.
SLACK_S = 0.7


def above(node: bytes, by: int = 1) -> bytes:
    return ((int.from_bytes(node, "big") + by) % (1 << 160)).to_bytes(20, "big")


def nearer(count: int, to: bytes = WANTED) -> list[bytes]:
    """Ids, each nearer to the key than the one before, and all nearer than any that is drawn at random."""
    number = int.from_bytes(to, "big")
    return [(number ^ 1 << (60 + count - place)).to_bytes(20, "big") for place in range(count)]


@contextlib.asynccontextmanager
async def nobody() -> AsyncIterator[Endpoint]:
    """An address where nobody answers any more."""
    async with stranger() as gone:
        there = gone.endpoint
    yield there


# -- pages ---------------------------------------------------------------------------------------------------------

PAGES: dict[str, Callable[[GetMembers, Endpoint, bytes], list[WireContact]]] = {
    "one id higher each time": lambda asked, dead, own: contacts(asked.first, range(1, 2), dead),
    "twelve ids higher each time": lambda asked, dead, own: contacts(asked.first, range(1, 13), dead),
    "the first id for ever": lambda asked, dead, own: contacts(asked.first, [0] * 12, dead),
    "backwards": lambda asked, dead, own: contacts(asked.first, range(-5, -20, -1), dead),
    "the last id": lambda asked, dead, own: contacts(asked.last, range(-12, 1), dead),
    "beyond the range": lambda asked, dead, own: contacts(LAST, range(-12, 1), dead),
    "nothing": lambda asked, dead, own: [],
    "the asker": lambda asked, dead, own: [WireContact(own, 1 << 20, pack((dead,)))] * 12,
    "nowhere": lambda asked, dead, own: contacts(asked.first, range(1, 13), Endpoint("0.0.0.0", 1)),
    "no endpoint": lambda asked, dead, own: [WireContact(above(asked.first, 1), 1, bytes(7))] * 12,
}


def contacts(node: bytes, places: Sequence[int], at: Endpoint) -> list[WireContact]:
    return [WireContact(above(node, by), 1, pack((at,))) for by in places]


@pytest.mark.parametrize("name", PAGES)
async def test_pages_without_an_end(name: str, caplog: pytest.LogCaptureFixture) -> None:
    page = PAGES[name]
    params = dataclasses.replace(PARAMS, members_max_count=2048)
    with quiet(caplog):
        async with nobody() as dead, live(params=params) as node, member() as liar:

            def answer(request: Request, admitted: Admitted) -> Result | None:
                if isinstance(request, Join):
                    return Page([WireContact(bytes(20), 1, pack((dead,)))], True, 9)
                if isinstance(request, GetMembers):
                    return Page(page(request, dead, node.id), True, 1 << 31)
                return Pong(b"", pack((admitted.source,))) if isinstance(request, Ping) else None

            liar.answer = answer
            started = time.perf_counter()
            async with asyncio.timeout(10):
                assert await node.dht._membership.meet(liar.endpoint)
            # A page that a busy machine was late with is asked for twice.
            asked_count = len({(one.first, one.last) for one in liar.asked if isinstance(one, GetMembers)})
            print(f"\n{name}: {asked_count} pages, {time.perf_counter() - started:.2f} s")
            assert asked_count <= params.members_max_count / PAGE_LEAST_COUNT
            assert len(node.members) <= params.members_max_count
            assert node.id not in node.members
            assert all(Endpoint("0.0.0.0", 1) not in one for one in node.members.values())
            # An honest one is heard all the same.
            async with live(node) as honest:
                await until(lambda: honest.id in node.members and node.id in honest.members)


async def test_a_comparison_without_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """Everything differs, always."""
    with quiet(caplog):
        async with nobody() as dead, live() as node, member() as liar:

            def answer(request: Request, admitted: Admitted) -> Result | None:
                if isinstance(request, Sync):
                    return Differs(0xFFFF)
                if isinstance(request, GetMembers):
                    ids = [above(request.first, 1000 + number) for number in range(12)]
                    return Page([WireContact(one, 1, pack((dead,))) for one in ids], True, 9)
                return None

            liar.answer = answer
            await liar.ask(Ping(), node)
            contact = node.dht.members.get(liar.id)
            assert contact is not None
            async with asyncio.timeout(20):
                await node.dht._membership.compare_with(contact)
            pages_count = sum(isinstance(one, GetMembers) for one in liar.asked)
            print(f"\n{len(liar.asked)} requests, {pages_count} pages, {len(node.members)} members")
            assert pages_count <= PARAMS.sync_rpcs_max_count * COMPARE_PAGES_MAX_COUNT


# -- lookups -------------------------------------------------------------------------------------------------------

CLOSER: dict[str, Callable[[list[bytes], Endpoint, bytes], list[WireContact]]] = {
    "ever nearer, dead": lambda ids, dead, own: [WireContact(one, 1, pack((dead,))) for one in ids],
    "the asker": lambda ids, dead, own: [WireContact(own, 1, pack((dead,)))] * 20,
    "nowhere": lambda ids, dead, own: [WireContact(one, 1, pack((Endpoint("0.0.0.0", 9),))) for one in ids],
    "port 0": lambda ids, dead, own: [WireContact(one, 1, b"\x7f\0\0\1\0\0") for one in ids],
    "of another family": lambda ids, dead, own: [
        WireContact(one, 1, pack((Endpoint("fd00::1", 9),))) for one in ids
    ],
    "the key itself": lambda ids, dead, own: [WireContact(WANTED, 1, pack((dead,)))] * 20,
}


@KEYS
@pytest.mark.parametrize("name", CLOSER)
async def test_a_lookup_that_is_led_astray(
    keys: tuple[Key, ...], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(caplog):
        async with nobody() as dead, live(keys=keys, params=PATIENT) as node, member(keys=keys) as liar:
            await liar.ask(Ping(), node)

            def answer(request: Request, admitted: Admitted) -> Result:
                closer = CLOSER[name](nearer(20), dead, node.id)
                own = WireProvider(node.id, pack((dead,)), 0)
                nowhere = [WireProvider(os.urandom(20), bytes(6), 0), WireProvider(b"z" * 20, b"x" * 7, 0)]
                return Found([own, *nowhere], closer, 255)

            liar.answer = answer
            before, started = len(node.wire.went), time.perf_counter()
            assert await node.find(WANTED) == {}
            took_s = time.perf_counter() - started
            assert took_s < PARAMS.lookup_deadline_s + SLACK_S
            assert len(node.wire.went) - before <= ASKED_MAX_COUNT + 1
            # Nobody became a member by that.
            assert node.members.keys() == {liar.id}


async def test_a_herd_of_liars_ends_by_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    """Each names the next, which is nearer to the key and answers at once."""
    with quiet(caplog):
        async with live(params=PATIENT) as node, contextlib.AsyncExitStack() as stack:
            liars: list[Member] = []
            for one in nearer(60):
                liars.append(await stack.enter_async_context(member(node=one)))

            def answer_of(number: int) -> Callable[[Request, Admitted], Result]:
                named = liars[number + 1 : number + 3]
                closer = [WireContact(one.id, 1, pack((one.endpoint,))) for one in named]
                return lambda request, admitted: (
                    Ruling(Outcome.REDIRECT, 0, closer=closer)
                    if isinstance(request, Claim)
                    else Found([], closer, 0)
                )

            for number, liar in enumerate(liars):
                liar.answer = answer_of(number)
            await liars[0].ask(Ping(), node)
            started = time.perf_counter()
            assert await node.find(WANTED) == {}
            assert time.perf_counter() - started < PARAMS.lookup_deadline_s + SLACK_S
            asked_count = sum(len(one.asked) for one in liars)
            assert 0 < asked_count <= ASKED_MAX_COUNT
            started = time.perf_counter()
            await node.dht.claim(WANTED, Verb.ASK)
            assert time.perf_counter() - started < PARAMS.claim_deadline_s + SLACK_S
            print(
                f"\nasked {asked_count} for providers, {sum(len(one.asked) for one in liars) - asked_count} for a claim"
            )


@KEYS
async def test_answers_that_make_no_sense(keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture) -> None:
    """Sealed, with the right message id, to everything that a node asks."""
    bodies = [*nonsense(), *spoilt_results(random.Random(7), times=1)]
    random.Random(7).shuffle(bodies)
    with quiet(caplog):
        async with live(keys=keys) as node, member(keys=keys) as liar:
            await liar.ask(Ping(), node)
            asked = 0

            def answer(request: Request, admitted: Admitted) -> None:
                nonlocal asked
                now = asyncio.get_running_loop().time()
                for _ in range(100):
                    frame = b"\x01" + admitted.message_id + bodies[asked % len(bodies)]
                    asked += 1
                    liar.socket.send(liar.seal(frame, node), node.endpoint)
                liar.socket.send(
                    liar.seal(b"\x02" + admitted.message_id + bodies[asked % len(bodies)], node),
                    node.endpoint,
                )
                del now

            liar.answer = answer
            contact = node.dht.members.get(liar.id)
            assert contact is not None
            requests: list[Request] = [
                Ping(),
                Join(b""),
                GetMembers(bytes(20), LAST),
                Sync(b"", bytes(64)),
                AddProviders(0, 1, b"", WANTED),
                RemoveProviders(WANTED),
            ]
            while asked < len(bodies):
                await asyncio.gather(
                    *(node.protocol.call(liar.id, liar.endpoint, one) for one in requests),
                    node.find(os.urandom(20)),
                    node.dht.claim(os.urandom(20), Verb.ASK),
                    node.dht._membership.meet_again(contact),
                )
            assert node.drops["bad response"] > 100
            assert node.drops["bad result"] > 100
            await until(lambda: node.sizes["calls"] == 0)
            liar.answer = lambda request, admitted: Pong(b"", pack((admitted.source,)))
            assert await node.dht._membership.meet(liar.endpoint)
            print(f"\n{asked} answers without sense: {node.drops}")


# -- news ----------------------------------------------------------------------------------------------------------


async def test_news_of_a_death_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is said to be gone is asked, and stays."""
    with quiet(caplog):
        async with live_cluster(3) as nodes, member() as liar, nobody() as dead:
            node = nodes[0]
            await liar.ask(Ping(), node)
            lies = [
                Delta(kind, WireContact(one.id, 1 << 20, pack((dead,))))
                for one in nodes
                for kind in (DeltaKind.LEFT, DeltaKind.SILENT)
            ]
            liar.answer = lambda request, admitted: encode_response(
                admitted.message_id, Pong(b"", pack((admitted.source,))), lies
            )
            contact = node.dht.members.get(liar.id)
            assert contact is not None
            asked = [one.wire.came_from[node.endpoint] for one in nodes[1:]]
            assert await node.dht._membership.meet_again(contact)
            assert node.sizes["suspects"] == 2
            await until(
                lambda: all(
                    one.wire.came_from[node.endpoint] > before
                    for one, before in zip(nodes[1:], asked, strict=True)
                )
            )
            assert {one.id: (one.endpoint,) for one in nodes[1:]}.items() <= node.members.items()


async def test_who_says_he_stores_and_does_not(caplog: pytest.LogCaptureFixture) -> None:
    """A holder that forgets all, or says that it has enough of everything, hides no record: others hold it, too."""
    with quiet(caplog):
        async with live_cluster(4) as nodes, member(node=WANTED) as liar:
            for one in nodes:
                await liar.ask(Ping(), one)

            def answer(request: Request, admitted: Admitted) -> Result | None:
                if isinstance(request, AddProviders):
                    return Added(0, b"\xff" * 6)
                return Found([], [], 0) if isinstance(request, GetProviders) else None

            liar.answer = answer
            nodes[0].dht.provide([WANTED])
            await nodes[0].dht.flush()
            assert liar.asked
            for one in nodes[1:]:
                assert (await one.find(WANTED)).keys() == {nodes[0].id}
