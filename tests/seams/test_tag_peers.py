"""Peers asked for tags: the real client against the real server, the real attestor on both, and peers that lie."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
from yarl import URL

from mirror.discovery.base import Peer, Provider
from mirror.oci.digest import Digest
from mirror.origin.base import Repository
from mirror.peer import wire
from mirror.peer.connection import STALL_TIMEOUT_S
from mirror.peer.errors import (
    PeerAbsent,
    PeerBroke,
    PeerBusy,
    PeerError,
    PeerNonsense,
    PeerRefused,
    PeerStalled,
    PeerUnreachable,
)
from mirror.peer.tag_answer import TAG_ANSWER_MAX_BYTES, TagAnswer, encode, tag_target
from mirror.secret import ClusterSecret
from mirror.tags.attest import ASKED_MAX_COUNT, Attestor
from mirror.tags.base import Attestation, TagName
from tests.support.memory_discovery import HearsayDiscovery, MemoryCluster
from tests.support.mirror_host import ask, subkeys
from tests.support.tag_peers import asking_client, http, scripted_peer, telling_peer

NAME = TagName(Repository("reg.test:5000", "lib/app"), "V1")
OTHER = TagName(Repository("[fd00::1]:5000", "lib/app"), "v1")
D, E = Digest.of(b"one"), Digest.of(b"two")
TOLD = TagAnswer(D, 1_800_000_000, 1_799_999_999)
QUIET = TagAnswer(E, 7, None)


# One peer


@pytest.mark.parametrize("keys", [subkeys(), ()], ids=["secret", "none"])
async def test_a_peer_tells_its_record(keys: tuple[object, ...]) -> None:
    async with (
        telling_peer({NAME: TOLD, OTHER: QUIET}, keys=keys) as peer,  # type: ignore[arg-type]
        asking_client(keys) as client,  # type: ignore[arg-type]
    ):
        assert await client.attestation(peer, NAME) == Attestation(
            "127.0.0.1", D, TOLD.pulled_at_s, TOLD.public_at_s
        )
        assert await client.attestation(peer, OTHER) == Attestation("127.0.0.1", E, 7, None)


async def test_what_is_not_told_is_absent_whatever_is_like_it() -> None:
    async with telling_peer({NAME: TOLD}) as peer, asking_client() as client:
        for name in (
            TagName(NAME.repository, "v1"),
            TagName(Repository("reg.test", "lib/app"), "V1"),
            TagName(Repository("reg.test:5000", "lib/app2"), "V1"),
        ):
            with pytest.raises(PeerAbsent):
                await client.attestation(peer, name)


async def test_strangers_are_told_nothing() -> None:
    async with telling_peer({NAME: TOLD}) as peer:
        answer = await ask(f"http://{peer}{tag_target(NAME)}")
        assert answer.status == 401
        assert str(D).encode() not in answer.body
        for keys in (subkeys("garage"), subkeys(secret=ClusterSecret((b"t" * 32,))), ()):
            async with asking_client(keys) as client:
                with pytest.raises(PeerRefused, match="401"):
                    await client.attestation(peer, NAME)


async def test_a_signature_is_good_for_one_tag_only() -> None:
    """The MAC covers the query: a recorded request cannot be turned to another tag."""
    key = subkeys()[0]
    async with telling_peer({NAME: TOLD, OTHER: QUIET}, keys=subkeys()) as peer:
        target = tag_target(NAME)
        unix_s = int(time.time())

        async def status(signed: str, sent: str) -> int:
            header = wire.sign(wire.Request("GET", signed, ""), key, unix_s=unix_s, node=None)
            return (await ask(f"http://{peer}{sent}", Authorization=header)).status

        async def is_challenged(signed: str, sent: str) -> bool:
            header = wire.sign(wire.Request("GET", signed, ""), key, unix_s=unix_s, node=None)
            answer = await ask(f"http://{peer}{sent}", Authorization=header)
            return answer.status == 401 and wire.CHALLENGE_HEADER in answer.headers

        assert await is_challenged(target, target), "right, but for the node id that it has to learn"
        assert not await is_challenged(target, tag_target(OTHER))
        assert await status(target, f"{target}&more=1") == 401


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?name=",
        "?name=app",
        "?name=reg.test/app",
        f"?name=reg.test/app@{D}",
        "?name=reg.test/app:v1&name=reg.test/app:v2",
        "?tag=reg.test/app:v1",
        "?name=" + "a" * 1000,
        "?name=reg.test/..%2F..%2Fapp:v1",
        "?name=%00",
    ],
)
async def test_what_is_no_name_is_told_so(query: str) -> None:
    async with telling_peer({NAME: TOLD}, keys=()) as peer:
        url = f"http://{peer}{wire.TAG_PATH}{query}"
        answer = await ask(url, Authorization=wire.sign(_request(url), None, unix_s=0, node=None))
        assert answer.status == 400
        assert json.loads(answer.body)["errors"][0]["code"] == "NAME_INVALID"


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
async def test_tags_can_only_be_got(method: str) -> None:
    async with telling_peer({NAME: TOLD}, keys=()) as peer:
        answer = await ask(f"http://{peer}{tag_target(NAME)}", method, Authorization="Peili v=1")
        assert answer.status == 405


def _request(url: str) -> wire.Request:
    return wire.Request("GET", URL(url, encoded=True).raw_path_qs, "")


GOOD = encode(TOLD)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http(b"{}"), PeerNonsense),
        (http(b""), PeerNonsense),
        (http(b"<html>a captive portal</html>"), PeerNonsense),
        (http(GOOD, status="206 Partial Content"), PeerNonsense),
        (http(b" " * (TAG_ANSWER_MAX_BYTES + 1)), PeerNonsense),
        (http(GOOD, length_bytes=10**17), PeerNonsense),
        (b"HTTP/1.1 200 OK\r\n\r\n" + GOOD, PeerNonsense),
        (b"SSH-2.0-OpenSSH_9.2\r\n", PeerNonsense),
        (http(GOOD, length_bytes=len(GOOD) + 1), PeerBroke),
        (http(b"", status="404 Not Found"), PeerAbsent),
        (http(b"busy", status="429 Too Many Requests"), PeerBusy),
        (http(b"", status="302 Found", more="Location: http://127.0.0.1:1/\r\n"), PeerRefused),
        (http(b"oops", status="500 Oops"), PeerRefused),
        (b"", PeerUnreachable),
    ],
)
async def test_whatever_a_peer_says_is_one_of_our_errors(answer: bytes, error: type[PeerError]) -> None:
    async with scripted_peer(answer) as liar, asking_client() as client:
        with pytest.raises(error):
            await client.attestation(liar.peer, NAME)
        assert set(liar.targets) == {tag_target(NAME)}


@pytest.mark.slow
async def test_a_peer_that_never_answers_is_left() -> None:
    async with scripted_peer(None) as silent, asking_client() as client:
        with pytest.raises(PeerStalled, match=f"{STALL_TIMEOUT_S:g} s"):
            await client.attestation(silent.peer, NAME)


# All that are said to have a tag


async def answers(*peers: Peer, deadline_s: float = 5.0) -> list[Attestation]:
    async with asking_client() as client:
        return await Attestor(HearsayDiscovery(peers), client, deadline_s=deadline_s).ask(NAME)


async def test_each_host_answers_for_itself() -> None:
    async with (
        telling_peer({NAME: TOLD}, address="127.0.0.2") as one,
        telling_peer({NAME: QUIET}, address="127.0.0.3") as two,
        telling_peer({}, address="127.0.0.4") as has_none,
        scripted_peer(http(b"{}"), address="127.0.0.5") as liar,
    ):
        told = await answers(one, two, has_none, liar.peer, Peer("127.0.0.6", 9))
    assert {one.host: one.digest for one in told} == {"127.0.0.2": D, "127.0.0.3": E}


async def test_nobody_has_it() -> None:
    assert await answers() == []


async def test_only_those_are_asked_who_announced_the_tag() -> None:
    cluster = MemoryCluster()
    async with (
        telling_peer({NAME: TOLD}, address="127.0.0.2") as one,
        scripted_peer(None, address="127.0.0.3") as other,
        asking_client() as client,
    ):
        await cluster.member(one).announce([NAME.key])
        await cluster.member(other.peer).announce([OTHER.key])
        told = await Attestor(cluster.member(Peer("127.0.0.9", 9)), client).ask(NAME)
        assert [one.host for one in told] == ["127.0.0.2"]
        assert other.targets == []


async def test_an_address_has_one_voice() -> None:
    """Many ports are no crowd; a port that died does not silence the one that followed it."""
    async with (
        telling_peer({NAME: TOLD}, address="127.0.0.2") as first,
        telling_peer({NAME: QUIET}, address="127.0.0.2") as second,
        telling_peer({NAME: QUIET}, address="127.0.0.2") as third,
    ):
        assert [one.digest for one in await answers(first, second, third)] == [D]
        assert [one.digest for one in await answers(Peer("127.0.0.2", 9), second)] == [E]


async def test_no_more_are_asked_than_a_few() -> None:
    async with AsyncExitStack() as stack:
        peers = [
            await stack.enter_async_context(scripted_peer(http(GOOD), address=f"127.0.0.{number}"))
            for number in range(10, 10 + ASKED_MAX_COUNT + 3)
        ]
        told = await answers(*(one.peer for one in peers))
    assert len(told) == ASKED_MAX_COUNT
    assert sum(bool(one.targets) for one in peers) == ASKED_MAX_COUNT


async def test_what_came_by_the_deadline_is_the_answer() -> None:
    async with (
        scripted_peer(None, address="127.0.0.2") as silent,
        telling_peer({NAME: TOLD}, address="127.0.0.3") as one,
    ):
        told = await answers(silent.peer, one, deadline_s=0.2)
        assert silent.targets, "it was asked"
    assert [one.host for one in told] == ["127.0.0.3"]


class EndlessDiscovery(HearsayDiscovery):
    """Names its peers and then goes on looking."""

    async def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        async for provider in super().find_providers(key):
            yield provider
        await asyncio.Event().wait()


async def test_a_lookup_that_takes_long_does_not_withhold_what_came() -> None:
    async with telling_peer({NAME: TOLD}, address="127.0.0.3") as one, asking_client() as client:
        attestor = Attestor(EndlessDiscovery([one]), client, deadline_s=0.2)
        assert [one.host for one in await attestor.ask(NAME)] == ["127.0.0.3"]
