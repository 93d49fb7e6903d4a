"""The real peer client against the real peer server: who gets in, what is told, who goes no further."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from mirror.oci.digest import Digest
from mirror.peer.client import PeerClient
from mirror.peer.errors import PeerAbsent, PeerIncompatible, PeerRefused, PeerUnreachable
from mirror.secret import ClusterSecret
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.mirror_host import ask, mirror_host, subkeys

BLOB = bytes(range(256)) * 5000
D = Digest.of(BLOB)
PATH = f"/peer/v1/blobs/{D}"


async def read(client: PeerClient, host: object, start: int = 0, stop: int | None = None) -> bytes:
    with await client.fetch(host, D, start, stop) as body:  # type: ignore[arg-type]
        data = bytearray(body.span.length_bytes)
        await body.fill(memoryview(data))
        return bytes(data)


@pytest.mark.parametrize(
    ("start", "stop"), [(0, None), (5, None), (0, 10), (100, 200), (len(BLOB) - 1, None)]
)
async def test_a_peer_gives_the_bytes_that_were_asked_for(start: int, stop: int | None) -> None:
    async with mirror_host(BLOB) as holder, mirror_host() as asker:
        assert await asker.client.size_bytes(holder.peer, D) == len(BLOB)
        assert await read(asker.client, holder.peer, start, stop) == BLOB[start:stop]
        async with asyncio.timeout(5):  # counted when the last byte left, which the reader may see first
            while holder.metrics.value("peili_peer_served_bytes_total") != len(BLOB[start:stop]):
                await asyncio.sleep(0.01)


async def test_what_a_peer_does_not_hold_is_absent() -> None:
    async with mirror_host() as holder, mirror_host() as asker:
        with pytest.raises(PeerAbsent):
            await asker.client.size_bytes(holder.peer, D)


async def test_a_peer_asked_by_a_peer_never_searches_further() -> None:
    async with (
        mirror_host(BLOB) as holder,
        mirror_host(peers=[holder.peer]) as between,
        mirror_host() as asker,
    ):
        with pytest.raises(PeerAbsent):
            await asker.client.size_bytes(between.peer, D)
        assert (await ask(f"{between.registry_url}/v2/a/blobs/{D}", Peili_Hop="1")).status == 404
        assert holder.metrics.value("peili_peer_served_bytes_total") == 0
        assert (await ask(f"{between.registry_url}/v2/a/blobs/{D}")).body == BLOB


@pytest.mark.parametrize("offset_s", [-7200, -121, 0, 121, 86400 * 365])
async def test_a_wrong_clock_is_learned_in_one_round_trip(offset_s: int) -> None:
    async with mirror_host(BLOB) as holder, mirror_host(unix_clock=lambda: time.time() + offset_s) as asker:
        assert await asker.client.size_bytes(holder.peer, D) == len(BLOB)
        assert await read(asker.client, holder.peer) == BLOB


@pytest.mark.parametrize(
    "keys",
    [subkeys("garage"), subkeys(secret=ClusterSecret((b"t" * 32,))), ()],
    ids=["cluster", "secret", "none"],
)
async def test_a_stranger_gets_nothing(keys: tuple[object, ...], caplog: pytest.LogCaptureFixture) -> None:
    async with mirror_host(BLOB) as holder, mirror_host(keys=keys) as stranger:  # type: ignore[arg-type]
        for _ in range(3):
            with pytest.raises(PeerRefused):
                await stranger.client.size_bytes(holder.peer, D)
            with pytest.raises(PeerRefused, match="401"):
                await read(stranger.client, holder.peer)
        assert holder.metrics.value("peili_peer_served_bytes_total") == 0
    warned = [record.getMessage() for record in caplog.records if "was refused" in record.getMessage()]
    assert len(warned) == 1, "one line for each sender and reason, not one a request"


async def test_without_any_authorization_nothing_is_told() -> None:
    async with mirror_host(BLOB) as holder:
        for path in (PATH, "/", "/v2/", "/peer/v1/blobs/nonsense"):
            answer = await ask(f"http://{holder.peer}{path}")
            assert answer.status == 401
            assert "Peili-Challenge" not in answer.headers
            assert json.loads(answer.body)["errors"][0]["code"] == "UNAUTHORIZED"


async def test_a_cluster_without_a_secret_serves_private_addresses() -> None:
    async with mirror_host(BLOB, keys=()) as holder, mirror_host(keys=()) as asker:
        assert await read(asker.client, holder.peer) == BLOB


async def test_while_a_secret_changes_both_are_accepted() -> None:
    old, new = b"o" * 32, b"n" * 32
    changing = subkeys(secret=ClusterSecret((old, new)))
    changed = subkeys(secret=ClusterSecret((new, old)))
    async with mirror_host(BLOB, keys=changing) as holder, mirror_host(keys=changed) as asker:
        assert await read(asker.client, holder.peer) == BLOB


async def test_another_wire_version_is_refused_politely(caplog: pytest.LogCaptureFixture) -> None:
    async with mirror_host(BLOB) as holder:
        for _ in range(3):
            answer = await ask(f"http://{holder.peer}{PATH}", Authorization="Peili v=9,z=1")
            assert (answer.status, answer.headers["Peili-Versions"]) == (400, "1")
            assert json.loads(answer.body)["errors"][0]["code"] == "VERSION_UNSUPPORTED"
    named = [record for record in caplog.records if "wire version 9" in record.getMessage()]
    assert len(named) == 1


async def test_a_peer_of_another_version_is_left_aside() -> None:
    async with faulty_peer(BLOB, Fault.OTHER_VERSION) as newer, mirror_host() as asker:
        with pytest.raises(PeerIncompatible):
            await read(asker.client, newer.peer)


async def test_nobody_there_is_unreachable() -> None:
    async with mirror_host(BLOB) as gone, mirror_host() as asker:
        peer = gone.peer
    async with mirror_host() as asker:
        with pytest.raises(PeerUnreachable):
            await asker.client.size_bytes(peer, D)


async def test_a_store_that_went_away_holds_nothing() -> None:
    async with mirror_host(BLOB) as holder, mirror_host() as asker:
        holder.store.go_away("containerd restarts")
        with pytest.raises(PeerAbsent):
            await asker.client.size_bytes(holder.peer, D)
        holder.store.come_back()
        assert await asker.client.size_bytes(holder.peer, D) == len(BLOB)
