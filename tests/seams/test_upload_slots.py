"""A peer whose upload slots are all taken, asked by the real client: what it still gives, and what it says instead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.oci.byterange import ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.client import PeerClient
from mirror.peer.errors import PeerAbsent, PeerBusy
from mirror.peer.server import PeerServer
from mirror.peer.slots import FREE_BODY_MAX_BYTES, UploadSlots
from mirror.peer.strangers import Strangers
from mirror.web.listener import Listener, bind
from tests.support.memory_store import MemoryStore
from tests.support.mirror_host import subkeys
from tests.support.raw_client import End, raw_client

# More than the kernel and the client take while nobody reads: an answer that is not read keeps its slot.
BLOB = random.Random(4).randbytes(24 * 2**20)
D = Digest.of(BLOB)
SMALL = BLOB[:FREE_BODY_MAX_BYTES]
ON_ITS_WAY = Digest.of(b"on its way")
OTHERS = [Peer("127.0.0.8", 29021), Peer("fd00::8", 29021)]


@dataclass(frozen=True, slots=True)
class Lent:
    """As `mirror.peer.server.Portion`."""

    descriptor: int
    span: ByteSpan


@dataclass(slots=True)
class Lender:
    """Lends the bytes of the blob under another digest."""

    descriptor: int
    lent_count: int = 0

    def size_bytes(self, digest: Digest) -> int | None:
        return len(BLOB) if digest == ON_ITS_WAY else None

    @contextlib.contextmanager
    def lend(self, digest: Digest, span: ByteSpan) -> Iterator[Sequence[Lent] | None]:
        self.lent_count += 1
        try:
            yield [Lent(self.descriptor, span)]
        finally:
            self.lent_count -= 1


@dataclass(slots=True)
class Bed:
    client: PeerClient
    peer: Peer
    lender: Lender
    told: list[float]
    asked: list[Digest] = field(default_factory=list)

    async def first_byte(self, digest: Digest, start: int = 0, stop: int | None = None) -> bytes:
        with await self.client.fetch(self.peer, digest, start, stop) as body:
            first = bytearray(1)
            await body.fill(memoryview(first))
            return bytes(first)

    async def hold(self, stack: contextlib.AsyncExitStack, digest: Digest = D) -> None:
        stack.enter_context(await self.client.fetch(self.peer, digest, 0, None))

    async def until_free(self) -> None:
        """The server sees a moment later that a reader has left."""
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(PeerBusy):
                    await self.first_byte(D)
                    return


@contextlib.asynccontextmanager
async def bed(slots_count: int = 2) -> AsyncIterator[Bed]:
    keys, told = subkeys(), list[float]()
    with contextlib.closing(os.fdopen(os.memfd_create("lent"), "wb")) as file:
        file.write(BLOB)
        file.flush()
        async with PeerClient(keys, time.time, Strangers()) as client:
            made = Bed(client, Peer("127.0.0.1", 0), Lender(file.fileno()), told)

            def peers_to_try(digest: Digest) -> Sequence[Peer]:
                made.asked.append(digest)
                return OTHERS

            server = PeerServer(
                MemoryStore(BLOB, SMALL, has_files=True),
                keys,
                NodeId(random.randbytes(20)),
                time.time,
                lambda _, __: None,
                Strangers(),
                lender=made.lender,
                slots=UploadSlots(slots_count, told.append),
                peers_to_try=peers_to_try,
            )
            listener = Listener(server.app, bind("peer", "127.0.0.1", 0), drain_s=0.1)
            await listener.start()
            made.peer = Peer(*listener.address)
            try:
                yield made
            finally:
                await listener.stop()


async def test_without_a_free_slot_a_peer_is_busy_and_names_others() -> None:
    async with bed() as host, contextlib.AsyncExitStack() as stack:
        await host.hold(stack)
        await host.hold(stack)
        for start, stop in ((0, None), (5, None), (0, FREE_BODY_MAX_BYTES + 1)):
            with pytest.raises(PeerBusy) as busy:
                await host.first_byte(D, start, stop)
            assert (busy.value.retry_after_s, busy.value.others) == (1, tuple(OTHERS))
        assert host.asked == [D, D, D]


async def test_what_needs_no_slot_is_given_all_the_same() -> None:
    async with bed() as host, contextlib.AsyncExitStack() as stack:
        await host.hold(stack)
        await host.hold(stack)
        assert await host.client.size_bytes(host.peer, D) == len(BLOB)
        assert await host.first_byte(Digest.of(SMALL)) == SMALL[:1]
        assert await host.first_byte(D, 7, 7 + FREE_BODY_MAX_BYTES) == BLOB[7:8]
        with pytest.raises(PeerAbsent):
            await host.first_byte(Digest.of(b"nothing"))


async def test_a_reader_who_leaves_makes_room() -> None:
    async with bed() as host, contextlib.AsyncExitStack() as stack:
        await host.hold(stack)
        async with contextlib.AsyncExitStack() as leaving:
            await host.hold(leaving)
            with pytest.raises(PeerBusy):
                await host.first_byte(D)
        await host.until_free()
    assert host.told[:2] == [0.5, 1.0]
    assert host.told[-1] == 0.0


async def test_a_part_of_what_is_on_its_way_needs_a_slot_too() -> None:
    async with bed() as host, contextlib.AsyncExitStack() as stack:
        await host.hold(stack, ON_ITS_WAY)
        await host.hold(stack)
        with pytest.raises(PeerBusy):
            await host.first_byte(ON_ITS_WAY)
        with pytest.raises(PeerBusy):
            await host.first_byte(D)
        assert host.lender.lent_count == 1, "the refused borrow nothing"
        assert await host.first_byte(ON_ITS_WAY, 9, 10) == BLOB[9:10]


async def test_a_stranger_is_not_kept() -> None:
    async with bed() as host, raw_client((host.peer.address, host.peer.port)) as stranger:
        await stranger.get(f"/peer/v1/blobs/{D}", "Authorization: Peili v=1,k=00000000,t=1,n=-,m=00")
        status, headers = await stranger.head()
        assert (status, headers["connection"]) == (401, "close")
        assert (await stranger.rest())[1] is End.FIN
