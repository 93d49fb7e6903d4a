"""Datagrams sent again, or from elsewhere: what they may do, and what nobody learns from them."""

from __future__ import annotations

import asyncio
import random

import pytest

from dht.contacts import Contact
from dht.endpoints import Endpoint, pack
from dht.ids import key_of
from dht.node import Node, Shadow
from dht.provider_reading import Providers
from dht.replies import Reply
from dht.stats import Stats
from dht.wire.codec import (
    Added,
    AddProviders,
    Claim,
    Delta,
    DeltaKind,
    Found,
    GetProviders,
    Leave,
    Ping,
    Pong,
    Removed,
    RemoveProviders,
    Request,
    Verb,
    WireContact,
    WireProvider,
    encode_response,
)
from dht.wire.envelope import Key
from dht.wire.guard import Admitted
from tests.support.dht_attackers import member, stranger
from tests.support.dht_nodes import KEY, PARAMS, Wall, live, live_cluster, quiet, until

KEYS = pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
WANTED = key_of("wanted")
ADD = AddProviders(0, 3600, b"info", WANTED)


@pytest.mark.parametrize(
    "request_",
    [Ping(b"info"), ADD, GetProviders(WANTED, 16), RemoveProviders(WANTED), Claim(WANTED, Verb.ASK, 1)],
)
async def test_a_captured_request_is_served_once(request_: Request, caplog: pytest.LogCaptureFixture) -> None:
    wall = Wall()
    with quiet(caplog):
        async with live(wall=wall) as node, live(node) as another, member() as known, stranger() as other:
            await until(lambda: len(another.members) == len(node.members) == 1)
            await another.settled()
            captured = known.seal(known.frame(request_), node)
            await known.socket.pour([captured], node)
            await until(lambda: len(known.socket.got) == 1)
            served, members = node.dht.stats.rpcs_received.copy(), node.members
            for _ in range(20):
                await known.socket.pour([captured], node)
                await other.pour([captured], node)
            assert node.drops == {"replayed": 40}
            # Whoever else gets it, it is not for him.
            await other.pour([captured], another)
            assert another.drops["mac"] == 1
            # When it is too old to be remembered, it is too old to be served. Its time is told, in fewer bytes.
            wall.ahead_s = PARAMS.freshness_s + 1
            await other.pour([captured], node)
            assert node.drops["clock"] == 1
            await until(lambda: len(other.got) == 1)
            assert other.got_bytes < len(captured)
            # Not even a node that has forgotten all serves it then.
            async with live(wall=wall, node=node.id, epoch=2) as restarted:
                await other.pour([captured], restarted)
                assert restarted.drops == {"clock": 1}
                assert restarted.members == {}
            assert node.dht.stats.rpcs_received == served
            assert node.members == members == {known.id: (known.endpoint,), another.id: (another.endpoint,)}
            assert len(known.socket.got) == 1


async def test_a_ping_for_everybody_teaches_nobody_where_its_sender_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first one to an address is not addressed: whoever recorded it can send it to others."""
    with quiet(caplog):
        async with live_cluster(2) as (node, another), member() as known, stranger() as other:
            captured = known.seal(known.frame(Ping()), node.endpoint)
            await known.socket.pour([captured], node)
            await other.pour([captured] * 3, another)
            await until(lambda: len(other.got) == 1)
            assert another.drops["replayed"] == 2
            assert known.id not in node.members | another.members
            # A member's stays where it was.
            assert isinstance(await known.ask(Ping(), node), Pong)
            again = known.seal(known.frame(Ping()), node.endpoint)
            await other.pour([again], node)
            assert node.members[known.id] == (known.endpoint,)


@KEYS
async def test_a_withdrawn_record_does_not_come_back(
    keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded on its way, or held up on it: the withdrawal is newer."""
    with quiet(caplog):
        async with live(keys=keys) as node, member(keys=keys) as known, stranger() as other:
            await known.ask(Ping(), node)
            held_up = known.seal(known.frame(ADD), node)
            captured = known.seal(known.frame(ADD), node)
            await known.socket.pour([captured], node)
            assert node.holds(WANTED) == {known.id}
            assert await known.ask(RemoveProviders(WANTED), node) == Removed(1)
            for again in (known.socket, other):
                await again.pour([captured, held_up, captured, held_up], node)
            assert node.holds(WANTED) == set()
            assert len(node.dht.records) == 0
            # Its own word counts.
            assert await known.ask(ADD, node) == Added(1)
            assert node.holds(WANTED) == {known.id}


async def test_nobody_else_moves_a_providers_records(caplog: pytest.LogCaptureFixture) -> None:
    """Of a later life, another member says; it may be believed where the node is asked next, but for a provider's
    records only its own word counts."""
    with quiet(caplog):
        async with live() as node, member() as known, member() as asker, stranger() as other:
            await known.ask(ADD, node)

            async def told() -> list[bytes]:
                found = await asker.ask(GetProviders(WANTED, 16), node)
                assert isinstance(found, Found)
                return [one.endpoints for one in found.providers]

            for epoch in (1, 2, (1 << 24) - 1):
                lie = WireContact(known.id, epoch, pack((other.endpoint,)))
                now = asyncio.get_running_loop().time()
                node.dht.node.introduced([lie], asker.endpoint, now, are_news=True)
                assert await told() == [pack((known.endpoint,))]
            # What it says itself does, whatever epoch others gave it.
            async with member(node=known.id, epoch=2) as moved:
                await moved.ask(Ping(), node)
                assert await told() == [pack((moved.endpoint,))]
                assert node.members[known.id] == (moved.endpoint,)


async def test_an_old_farewell_ends_no_later_life(caplog: pytest.LogCaptureFixture) -> None:
    """Held up on its way, while others told of the node's next life."""
    with quiet(caplog):
        async with live() as node, member(epoch=1) as known, stranger() as other:
            farewell = known.seal(known.frame(Leave()), node)
            now = asyncio.get_running_loop().time()
            again = WireContact(known.id, 2, pack((known.endpoint,)))
            node.dht.node.introduced([again], other.endpoint, now, are_news=True)
            await known.socket.pour([farewell], node)
            assert node.members == {known.id: (known.endpoint,)}
            async with member(node=known.id, epoch=2) as later:
                later.say(Leave(), node)
                await until(lambda: node.members == {})
                # It is not believed to live because others have not heard it yet; nor is it news that it does.
                node.dht.node.introduced([again], other.endpoint, now, are_news=True)
                assert node.members == {}
            async with member() as unknown:
                unknown.say(Leave(), node)
                await until(lambda: node.dht.stats.rpcs_received["leave", "ignored"] == 3)
                assert node.members == {}
                assert {one.member.node for one in node.dht.node.news(bytes(20), 1000)} <= {known.id}


async def test_a_provider_on_ipv6_is_at_its_datagrams_source(caplog: pytest.LogCaptureFixture) -> None:
    with quiet(caplog):
        there = Endpoint("::1", 0)
        async with live(listen=there) as node, live(node, listen=there) as another:
            await until(lambda: len(node.members) == len(another.members) == 1)
            async with member(address="::1") as known, stranger("::1") as other:
                captured = known.seal(known.frame(ADD), node)
                await known.socket.pour([captured], node)
                await other.pour([captured], node)
                assert node.drops == {"replayed": 1}
                found = await another.find(WANTED)
                assert [(one.node, one.endpoint) for one in found.values()] == [(known.id, known.endpoint)]
                assert known.endpoint.is_v6


async def test_what_a_datagram_from_elsewhere_teaches(caplog: pytest.LogCaptureFixture) -> None:
    """Sealed by a member, sent from another address: a host behind a NAT moves so. Only its newest word to us counts;
    and when it speaks from both in turns, that is noticed."""
    async with live() as node, member() as known, stranger() as other:
        home, elsewhere = (known.endpoint,), (other.endpoint,)
        with quiet(caplog):
            late = known.seal(known.frame(Ping()), node)
            assert isinstance(await known.ask(Ping(), node), Pong)
            forged = known.seal(known.frame(Ping()), node)
            unaddressed = known.seal(known.frame(Ping()), node.endpoint)
            for datagram in (late, forged[:-1] + b"\xc1", unaddressed):
                await other.pour([datagram], node)
                assert node.members == {known.id: home}
            newest = known.seal(known.frame(Ping()), node)
            await other.pour([newest], node)
            assert node.members == {known.id: elsewhere}
            assert node.dht.stats.conflicts == 0
        await known.ask(Ping(), node)
        assert node.dht.stats.conflicts == 1
        assert known.id.hex() in caplog.text


@pytest.mark.parametrize(
    ("advertised", "believed"),
    [
        (None, None),
        (Endpoint("192.0.2.9", 4444), Endpoint("192.0.2.9", 4444)),
        (Endpoint("10.9.9.9", 4444), Endpoint("10.9.9.9", 4444)),
        (Endpoint("127.0.0.1", 4444), Endpoint("127.0.0.1", 4444)),
        (Endpoint("127.0.0.2", 4444), None),
        (Endpoint("169.254.1.1", 4444), None),
        (Endpoint("224.0.0.1", 4444), None),
        (Endpoint("0.0.0.0", 4444), None),
        (Endpoint("255.255.255.255", 4444), None),
    ],
)
async def test_a_provider_is_at_its_datagrams_source_or_where_it_says_itself(
    advertised: Endpoint | None, believed: Endpoint | None, caplog: pytest.LogCaptureFixture
) -> None:
    with quiet(caplog):
        async with live() as node, member(advertise=advertised) as known, member() as asker:
            await known.ask(ADD, node)
            found = await asker.ask(GetProviders(WANTED, 16), node)
            place = believed or known.endpoint
            assert isinstance(found, Found)
            assert [(one.node, one.endpoints) for one in found.providers] == [(known.id, pack((place,)))]
            assert node.members[known.id] == (place,)
            # Its answers go to where it asks from all the same.
            assert node.wire.went[-1].peer == asker.endpoint
            assert {seen.peer for seen in node.wire.went} == {known.endpoint, asker.endpoint}


@KEYS
async def test_whose_answer_counts(keys: tuple[Key, ...], caplog: pytest.LogCaptureFixture) -> None:
    """An answer nobody asked for, by another than the one who was asked, or from another address."""
    with quiet(caplog):
        async with live(keys=keys) as node, member(keys=keys) as known, member(keys=keys) as liar:
            await known.ask(Ping(), node)
            await liar.ask(Ping(), node)
            lie = Found([WireProvider(liar.id, pack((liar.endpoint,)), 0, b"lie")], [], 1)
            seen: list[bytes] = []

            def answer(request: Request, admitted: Admitted) -> Found | None:
                if not isinstance(request, GetProviders):
                    return None
                frame = encode_response(admitted.message_id, lie, [])
                seen.append(admitted.message_id)
                # It knows the message id, but was not asked.
                liar.socket.send(liar.seal(frame, node), node.endpoint)
                if not keys:
                    # Anybody can say that he is the one who was asked.
                    liar.socket.send(known.seal(frame, node), node.endpoint)
                return Found([WireProvider(b"t" * 20, pack((known.endpoint,)), 0, b"truth")], [], 1)

            known.answer = answer
            node.dht.members._take_out(node.dht.members._find(liar.id))
            found = await node.find(WANTED)
            assert [one.info for one in found.values()] == [b"truth"]
            await until(lambda: node.drops.get("wrong node", 0) + node.drops.get("unasked", 0) > 0)
            unasked = node.drops.get("unasked", 0)
            # Once more, when it is over.
            again = known.seal(encode_response(seen[0], lie, []), node)
            await known.socket.pour([again], node)
            assert node.drops["unasked"] > unasked
            assert (await node.find(WANTED)).keys() == found.keys()


# -- told by others ------------------------------------------------------------------------------------------------

FAR = Endpoint("10.0.0.5", 29021)
NEVER = [
    "127.0.0.1",
    "127.1.2.3",
    "::1",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "239.255.174.86",
    "ff02::1",
    "ff12::d1a7:ae56",
    "169.254.169.254",
    "fe80::1",
    "255.255.255.255",
    "240.0.0.1",
]
PUBLIC = ["8.8.8.8", "2600::1"]
NEAR = ["10.0.0.7", "192.168.1.1", "172.16.0.1", "100.64.0.1", "fd00::7"]


def node_of(*, is_sealed: bool) -> tuple[Node, list[Shadow]]:
    shadows: list[Shadow] = []
    own = Contact(b"o" * 20, 1, (), b"")
    return Node(own, PARAMS, random.Random(1), Stats(), shadows.append, is_sealed=is_sealed), shadows


def packed(address: str, port: int = 29021) -> bytes:
    return pack((Endpoint(address, port),))


@pytest.mark.parametrize("is_sealed", [True, False])
def test_addresses_that_mean_something_else_here_are_never_learned_from_others(is_sealed: bool) -> None:
    node, shadows = node_of(is_sealed=is_sealed)
    told = {address: number.to_bytes(20, "big") for number, address in enumerate(NEVER + PUBLIC + NEAR, 1)}
    contacts = [WireContact(one, 1, packed(address)) for address, one in told.items()]
    contacts += [WireContact(b"p" * 20, 1, packed("10.0.0.8", 0)), WireContact(b"q" * 20, 1, bytes(7))]
    contacts.append(WireContact(b"o" * 20, 9, packed("10.0.0.9")))
    node.introduced(contacts, FAR, 1.0, are_news=True)
    node.told([Delta(DeltaKind.JOINED, one) for one in contacts], FAR, 2.0)
    learned = {one.node for one in node.members}
    assert learned == {told[address] for address in NEAR + (PUBLIC if is_sealed else [])}
    # Of two addresses the good one is kept.
    both = pack((Endpoint("127.0.0.1", 1), Endpoint("fd00::9", 1)))
    node.introduced([WireContact(b"r" * 20, 1, both)], FAR, 3.0, are_news=True)
    contact = node.members.get(b"r" * 20)
    assert contact is not None
    assert contact.endpoints == (Endpoint("fd00::9", 1),)
    # News of an end makes nobody go.
    gone = [
        Delta(kind, WireContact(one, 1 << 23, packed(address)))
        for kind in (1, 2, 200)
        for address, one in told.items()
    ]
    node.told(gone, FAR, 4.0)
    assert learned < {one.node for one in node.members}
    assert {one.node for one in node.take_suspects(99)} == learned
    assert (shadows, node.own.epoch) == ([], 1)


@pytest.mark.parametrize("how", ["silent", "left"])
async def test_a_provider_that_is_gone_is_not_found_but_asked_whether_it_is_back(how: str) -> None:
    """Its holders may not have noticed yet. Who left told them all: who is named after that is back."""
    async with live(keys=()) as node:
        dht, now = node.dht.node, 100.0
        providers = Providers(dht, node.protocol, node.dht.stats)
        gone, unknown, at = b"g" * 20, b"u" * 20, Endpoint("10.0.0.7", 29021)
        reply = Reply(Found([], []), b"f" * 20, at, at, 0.1)
        told = [WireProvider(gone, packed("10.0.0.8"), 0), WireProvider(unknown, packed("10.0.0.9"), 0)]

        def found(now: float) -> set[bytes]:
            return {one.node for one in providers.read(told, reply, now)}

        dht.members.heard(gone, 1, Endpoint("10.0.0.8", 29021), b"", now)
        assert found(now) == {gone, unknown}
        assert not dht.suspects
        if how == "left":
            dht.members.left(gone, 1, now)
        else:
            for _ in range(2):
                now += 1.0
                dht.members.struck(gone, now)
        sure_at, forgotten_at = now + dht.params.silent_sure_s, now + dht.params.dead_memory_s
        assert found(sure_at - 0.1) == {gone, unknown}, "it may be starting again"
        assert set(dht.suspects) == ({gone} if how == "silent" else set())
        assert (
            found(sure_at) == found(forgotten_at - 0.1) == ({unknown} if how == "silent" else {gone, unknown})
        )
        assert found(forgotten_at) == {gone, unknown}
        dht.members.heard(gone, 2, Endpoint("10.0.0.8", 29021), b"", now)
        assert found(sure_at) == {gone, unknown}


@pytest.mark.parametrize("keys", [(KEY,), ()], ids=["secret", "no secret"])
async def test_nor_are_they_used(keys: tuple[Key, ...]) -> None:
    """As providers, or as nodes to ask."""
    async with live(keys=keys) as node:
        providers = Providers(node.dht.node, node.protocol, node.dht.stats)
        reply = Reply(Found([], []), b"f" * 20, FAR, FAR, 0.1)
        v4 = [address for address in NEVER + PUBLIC + NEAR if ":" not in address]
        told = {number.to_bytes(20, "big"): address for number, address in enumerate(v4, 1)}
        found = providers.read([WireProvider(one, packed(at), 0) for one, at in told.items()], reply, 0.0)
        closer = providers.read_closer([WireContact(one, 1, packed(at)) for one, at in told.items()], reply)
        usable = {at for at in NEAR + (PUBLIC if keys else []) if ":" not in at}
        assert {told[one.node] for one in found} == {told[one.node] for one in closer} == usable
        # Whoever speaks of himself is where he was asked, whatever he says.
        (itself,) = providers.read([WireProvider(b"f" * 20, packed("0.0.0.0"), 0)], reply, 0.0)
        assert itself.endpoint == FAR
