"""Peers that tell of tags: the real peer server with a test's records, and one that says what it is told to say."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Mapping

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.peer.client import PeerClient
from mirror.peer.server import PeerServer
from mirror.peer.strangers import Strangers
from mirror.peer.tag_answer import TagAnswer
from mirror.secret import Subkey
from mirror.tags.base import TagName
from mirror.web.listener import Listener, bind
from tests.support.memory_store import MemoryStore
from tests.support.mirror_host import subkeys


@contextlib.asynccontextmanager
async def telling_peer(
    records: Mapping[TagName, TagAnswer],
    *,
    address: str = "127.0.0.1",
    keys: tuple[Subkey, ...] | None = None,
) -> AsyncIterator[Peer]:
    """`records` may change meanwhile."""
    node = NodeId(random.randbytes(20))
    server = PeerServer(
        MemoryStore(),
        subkeys() if keys is None else keys,
        node,
        time.time,
        lambda _, __: None,
        Strangers(),
        records.get,
    )
    listener = Listener(server.app, bind("peer", address, 0), drain_s=0.1)
    await listener.start()
    try:
        yield Peer(address, listener.address[1])
    finally:
        await listener.stop()


@contextlib.asynccontextmanager
async def asking_client(keys: tuple[Subkey, ...] | None = None) -> AsyncIterator[PeerClient]:
    async with PeerClient(subkeys() if keys is None else keys, time.time, Strangers()) as client:
        yield client


class ScriptedPeer:
    """Answers every request with `answer`; None: it never answers. `targets` records what was asked for."""

    def __init__(self, answer: bytes | None, peer: Peer) -> None:
        self.answer = answer
        self.peer = peer
        self.targets: list[str] = []


@contextlib.asynccontextmanager
async def scripted_peer(answer: bytes | None, *, address: str = "127.0.0.1") -> AsyncIterator[ScriptedPeer]:
    ended = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = await reader.readuntil(b"\r\n\r\n")
            made.targets.append(head.split(b" ")[1].decode())
            if made.answer is None:
                await ended.wait()
                return
            writer.write(made.answer)
            await writer.drain()

    server = await asyncio.start_server(connected, address, 0)
    made = ScriptedPeer(answer, Peer(address, server.sockets[0].getsockname()[1]))
    try:
        yield made
    finally:
        ended.set()
        server.close()
        await server.wait_closed()


def http(body: bytes, *, status: str = "200 OK", length_bytes: int | None = None, more: str = "") -> bytes:
    """`length_bytes`: what the header says, where that differs."""
    length_bytes = len(body) if length_bytes is None else length_bytes
    return f"HTTP/1.1 {status}\r\nContent-Length: {length_bytes}\r\n{more}\r\n".encode() + body
