"""Warm pulls that are streamed: from one complete peer into the client's socket, past the spool, on real servers."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.herd_hosts import herd, pulling
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
    data: bytes

    @property
    def path(self) -> str:
        return f"/v2/team/app/blobs/{Digest.of(self.data)}"

    @property
    def url(self) -> str:
        return f"{self.mirror.registry_url}{self.path}"

    @property
    def address(self) -> tuple[str, int]:
        name, _, port = self.mirror.registry_url.removeprefix("http://").partition(":")
        return name, int(port)

    @property
    def written(self) -> bytes:
        return os.pread(self.ingest.descriptor, self.ingest.written_bytes, 0)

    @property
    def spliced_bytes(self) -> int:
        return self.mirror.metrics.value("peili_spliced_bytes_total")

    @property
    def readers_count(self) -> int:
        """Of its ingest's file, beside the one who writes it."""
        written = os.fstat(self.ingest.descriptor)
        found = 0
        for path in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found += os.path.samestat(path.stat(), written)
        return found - 1

    @property
    def received_bytes(self) -> int:
        return self.mirror.metrics.value("peili_peer_received_bytes_total")


@asynccontextmanager
async def host(
    *peers: Peer, verify_always: bool = False, is_seen: bool = True, data: bytes = BLOB
) -> AsyncIterator[Host]:
    """`peers` are said to hold the blob whole. `is_seen`: its containerd's ingest."""
    ingests = MemoryIngests()
    try:
        digest = Digest.of(data)
        ingest = ingests.begin(digest if is_seen else None, len(data))
        cluster = MemoryCluster()
        for peer in peers:
            cluster.announce(str(digest), peer)
        member = cluster.member(Peer("127.0.0.1", 1))
        async with mirror_host(discovery=member, ingests=ingests, verify_always=verify_always) as mirror:
            yield Host(mirror, ingests, ingest, data)
    finally:
        ingests.close()


@asynccontextmanager
async def reading(it: Host) -> AsyncIterator[RawClient]:
    """A client that has read no byte of its body yet, and takes few at a time."""
    async with raw_client(it.address, receive_buffer_bytes=64 * 1024) as client:
        await client.get(it.path)
        assert (await client.head())[0] == 200
        yield client


async def drained(client: RawClient, it: Host, count_bytes: int) -> int:
    """As containerd: into its ingest."""
    for start in range(0, count_bytes, MIB):
        it.ingest.write(await client.exactly(min(MIB, count_bytes - start)))
    return count_bytes


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


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
        async with raw_client(it.address) as client:
            for _ in range(2):
                await client.get(it.path)
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
    "fault",
    [
        Fault.SILENT,
        Fault.NOT_HTTP,
        Fault.ERROR_500,
        Fault.BUSY,
        Fault.ABSENT,
        Fault.REDIRECT,
    ],
)
async def test_where_a_stream_cannot_be_opened_the_swarm_takes_over(fault: Fault) -> None:
    """And asks the others."""
    async with faulty_peer(BLOB, fault, 5) as bad, faulty_peer(BLOB, Fault.NONE) as good:
        async with host(bad.peer, good.peer) as it:
            answer = await ask(it.url)
            assert (answer.status, answer.body) == (200, BLOB)
            # Who says himself that he does not have it is not asked for a stream.
            assert it.spliced_bytes == (len(BLOB) if fault is Fault.ABSENT else 0)


@pytest.mark.parametrize("fault", [Fault.FIN, Fault.STALL])
async def test_a_lone_source_that_dies_ends_the_body_at_that_byte(fault: Fault) -> None:
    """By FIN, so that containerd goes on elsewhere."""
    async with faulty_peer(BLOB, fault, CUT_AT) as dying, host(dying.peer) as it:
        answer = await ask(it.url)
        assert (answer.status, answer.whole, answer.body) == (200, False, BLOB[:CUT_AT])
        assert it.spliced_bytes == CUT_AT


async def test_a_client_that_leaves_leaves_nothing_open() -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        assert (await ask(it.url, Range="bytes=0-9")).status == 206  # what is opened once is open
        before = open_descriptors()
        async with reading(it) as client:
            await client.exactly(2 * MIB)
            client.leave()
        await eventually(lambda: open_descriptors() <= before, lambda: str(open_descriptors()))
        assert (await ask(it.url, Range=f"bytes={2 * MIB}-")).body == BLOB[2 * MIB :]


# -- others who come


LARGE = random.Random(12).randbytes(48 * MIB)
LARGE_STREAMED_BYTES = 24 * MIB
BUFFERED_MAX_BYTES = 12 * MIB


async def test_a_second_reader_ends_the_stream_and_both_get_all() -> None:
    async with mirror_host(LARGE) as holder, host(holder.peer, data=LARGE) as it:
        async with reading(it) as client:
            it.ingest.write(await client.exactly(MIB))
            answer = await ask(it.url)
            assert answer.body == LARGE
            assert MIB + await drained(client, it, len(LARGE) - MIB) == len(LARGE)
            assert it.spliced_bytes < len(LARGE)
            assert it.written == LARGE


async def test_a_herd_that_comes_ends_the_stream_and_shares_the_rest() -> None:
    """What was streamed is had from containerd's file, and fetched by nobody twice."""
    async with herd(0, LARGE) as bed:
        holder = await bed.host(LARGE)
        first, second = await bed.host(verify_always=False), await bed.host(verify_always=False)
        it = Host(first.mirror, first.ingests, first.ingests.begin(Digest.of(LARGE), len(LARGE)), LARGE)
        other = Host(second.mirror, second.ingests, second.ingests.begin(Digest.of(LARGE), len(LARGE)), LARGE)
        async with reading(it) as client:
            await drained(client, it, LARGE_STREAMED_BYTES)
            async with reading(other) as waiting:
                await drained(client, it, len(LARGE) - LARGE_STREAMED_BYTES)
                await drained(waiting, other, len(LARGE))
        assert it.written == other.written == LARGE
        assert LARGE_STREAMED_BYTES <= it.spliced_bytes < len(LARGE)
        # What lay in sockets' buffers when it was left may have come again.
        assert it.received_bytes <= len(LARGE) + BUFFERED_MAX_BYTES
        assert (
            holder.mirror.metrics.value("peili_peer_served_bytes_total") < 2 * len(LARGE) + BUFFERED_MAX_BYTES
        )


async def test_a_herd_that_is_there_is_not_streamed_past() -> None:
    async with herd(0, LARGE) as bed:
        await bed.host(LARGE)
        hosts = [await bed.host(verify_always=False) for _ in range(3)]
        async with pulling(hosts, LARGE) as pulls:
            await pulls.done()
            assert all(pull.data == LARGE for pull in pulls)
        assert sum(one.mirror.metrics.value("peili_spliced_bytes_total") for one in hosts) <= len(LARGE) // 2


# -- wrong bytes


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["kept", "cancelled"])
async def test_wrong_bytes_are_noticed_thrown_away_and_blamed(
    is_cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether containerd keeps what it could not commit, or not."""
    async with faulty_peer(BLOB, Fault.WRONG_BYTE, CUT_AT) as liar, host(liar.peer) as it:
        answer = await ask(it.url)
        assert answer.whole
        assert answer.body != BLOB
        it.ingest.write(answer.body)
        if is_cancelled:
            it.ingest.cancel()
        await eventually(lambda: it.mirror.store.discarded == [D], lambda: str(it.mirror.store.discarded))
        asked_count = len(liar.gets)
        assert (await ask(it.url)).status == 404
        assert len(liar.gets) == asked_count
    named = [record.getMessage() for record in caplog.records if "wrong bytes" in record.getMessage()]
    assert any(str(liar.peer) in text for text in named), named


async def test_a_commit_that_takes_long_blames_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with mirror_host(BLOB) as holder, host(holder.peer) as it:
        it.ingest.write((await ask(it.url)).body)
        await eventually(lambda: it.readers_count == 1)  # who hashes it has begun,
        await eventually(lambda: it.readers_count == 0)  # and has found it right
        it.ingest.commit()
        it.mirror.store.add(BLOB)
        assert (await ask(it.url)).body == BLOB
        assert it.mirror.store.discarded == []
    assert not [record for record in caplog.records if "wrong bytes" in record.getMessage()]


async def test_of_a_mixed_body_nobody_is_blamed_without_proof(caplog: pytest.LogCaptureFixture) -> None:
    """Two peers sent it, and which of them is wrong is not known."""
    async with (
        faulty_peer(BLOB, Fault.FIN, CUT_AT) as dying,
        faulty_peer(BLOB, Fault.WRONG_BYTE, CUT_AT + 1) as liar,
        host(dying.peer, liar.peer) as it,
    ):
        it.ingest.write((await ask(it.url)).body)
        assert it.spliced_bytes == len(BLOB)
        await eventually(lambda: it.mirror.store.discarded == [D], lambda: str(it.mirror.store.discarded))
    assert not [one for one in caplog.records if "left aside" in one.getMessage()]
