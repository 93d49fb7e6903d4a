"""Warm pulls that are streamed: from one complete peer into the client's socket, past the spool, on real servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from mirror.discovery.base import Peer
from mirror.ingest.base import IngestWatch
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from tests.support.faulty_peer import Fault, FaultyPeer, faulty_peer
from tests.support.memory_discovery import MemoryCluster
from tests.support.memory_ingests import MemoryIngest, MemoryIngests
from tests.support.mirror_host import MirrorHost, ask, mirror_host
from tests.support.raw_client import RawClient, raw_client
from tests.support.store_beds import eventually

MIB = 1024 * 1024
BLOB = random.Random(11).randbytes(9 * MIB + 77)
D = Digest.of(BLOB)
CUT_AT = 5 * MIB + 13


@dataclass(slots=True)
class Host:
    """`ingest` is containerd's, born before its first request."""

    mirror: MirrorHost
    ingests: MemoryIngests
    ingest: MemoryIngest

    @property
    def url(self) -> str:
        return f"{self.mirror.registry_url}/v2/team/app/blobs/{D}"

    @property
    def spliced_bytes(self) -> int:
        return self.mirror.metrics.value("peili_spliced_bytes_total")

    @property
    def received_bytes(self) -> int:
        return self.mirror.metrics.value("peili_peer_received_bytes_total")


@asynccontextmanager
async def host(*peers: Peer, verify_always: bool = False, is_seen: bool = True) -> AsyncIterator[Host]:
    """`peers` are said to hold the blob whole. `is_seen`: its containerd's ingest."""
    ingests = MemoryIngests()
    try:
        ingest = ingests.begin(D if is_seen else None, len(BLOB))
        cluster = MemoryCluster()
        for peer in peers:
            cluster.announce(str(D), peer)
        member = cluster.member(Peer("127.0.0.1", 1))
        async with mirror_host(discovery=member, ingests=ingests, verify_always=verify_always) as mirror:
            yield Host(mirror, ingests, ingest)
    finally:
        ingests.close()


# -- whole bodies


async def test_a_warm_pull_is_spliced() -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        answer = await ask(it.url)
        assert (answer.status, answer.body) == (200, BLOB)
        assert it.spliced_bytes == it.received_bytes == len(BLOB)
        assert it.mirror.metrics.value("peili_bytes_total", source="peer") == len(BLOB)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (f"bytes={CUT_AT}-", ByteSpan(CUT_AT, len(BLOB))),
        (f"bytes=1-{CUT_AT}", ByteSpan(1, CUT_AT + 1)),
        (f"bytes=-{2 * MIB}", ByteSpan(len(BLOB) - 2 * MIB, len(BLOB))),
    ],
)
async def test_a_range_is_spliced(header: str, span: ByteSpan) -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        answer = await ask(it.url, Range=header)
        assert (answer.status, answer.body) == (206, BLOB[span.start : span.stop])
        assert answer.headers["Content-Range"] == span.content_range(len(BLOB))
        assert it.spliced_bytes == it.received_bytes == span.length_bytes


async def test_the_connection_is_kept_after_a_spliced_body() -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        address = it.mirror.registry_url.removeprefix("http://").split(":")
        async with raw_client((address[0], int(address[1]))) as client:
            for _ in range(2):
                await client.get(f"/v2/team/app/blobs/{D}")
                status, headers = await client.head()
                assert (status, headers.get("connection")) == (200, None)
                assert await client.exactly(len(BLOB)) == BLOB
        assert it.spliced_bytes == 2 * len(BLOB)


async def test_everything_is_hashed_where_that_is_wanted() -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer, verify_always=True) as it:
        assert (await ask(it.url)).body == BLOB
        assert (it.spliced_bytes, it.received_bytes) == (0, len(BLOB))


async def test_a_client_that_is_not_seen_to_verify_gets_what_was_hashed() -> None:
    """Whatever it is, it is not this host's containerd."""
    async with mirror_host(BLOB) as holder, host(holder.peer, is_seen=False) as it:
        assert (await ask(it.url)).body == BLOB
        assert (it.spliced_bytes, it.received_bytes) == (0, len(BLOB))


async def test_two_readers_share_what_comes_once() -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        answers = await asyncio.gather(ask(it.url), ask(it.url))
        assert [answer.body for answer in answers] == [BLOB, BLOB]


# -- sources that fail


@pytest.mark.parametrize("fault", [Fault.FIN, Fault.RST, Fault.STALL])
@pytest.mark.parametrize("at", [1, CUT_AT])
async def test_another_stream_goes_on_at_the_exact_byte(fault: Fault, at: int) -> None:
    async with faulty_peer(BLOB, fault, at) as dying, faulty_peer(BLOB, Fault.NONE) as good:
        async with host(dying.peer, good.peer) as it:
            answer = await ask(it.url)
            assert (answer.status, answer.whole) == (200, True)
            assert answer.body == BLOB
            assert it.spliced_bytes == it.received_bytes == len(BLOB)
    assert dying.sent_spans == [ByteSpan(0, at)]
    if fault is not Fault.RST:
        assert good.sent_spans == [ByteSpan(at, len(BLOB))]


@pytest.mark.parametrize(
    "fault", [Fault.SILENT, Fault.NOT_HTTP, Fault.ERROR_500, Fault.BUSY, Fault.ABSENT, Fault.LONG_LENGTH]
)
async def test_where_a_stream_cannot_be_opened_the_swarm_takes_over(fault: Fault) -> None:
    async with faulty_peer(BLOB, fault, 5) as bad, faulty_peer(BLOB, Fault.NONE) as good:
        async with host(bad.peer, good.peer) as it:
            it.mirror.registry  # noqa: B018
            answer = await ask(it.url)
            assert answer.status in (200, 404)
            if answer.status == 200 and answer.whole:
                assert answer.body == BLOB
