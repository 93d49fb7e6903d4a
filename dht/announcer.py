"""Sends what dht.announce.announce says is due. Decides nothing about when or to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dht.announce.announce import Batch, Verb
from dht.contacts import Contact, stamp
from dht.node import Node
from dht.protocol import ProviderProtocol
from dht.records.records import Stored
from dht.replies import Reply
from dht.wire.codec import Added, AddProviders, RemoveProviders


class Announcer:
    """`run` once a socket is open. `here`: this node as a provider."""

    def __init__(self, node: Node, protocol: ProviderProtocol, here: Callable[[], Contact]) -> None:
        self._node = node
        self._params = node.params
        self._protocol = protocol
        self._here = here
        self._announcements = node.announcements
        self._loop = asyncio.get_running_loop()
        self._due = asyncio.Event()
        self._open_count = 0
        self._own_sequence = 0
        self._flushes: list[asyncio.Future[None]] = []
        node.on_announcements_due(self._due.set)

    def provide(self, keys: list[bytes], state: int) -> None:
        self._announcements.provide(keys, state, self._loop.time())
        self._due.set()

    def withdraw(self, keys: list[bytes]) -> None:
        self._announcements.withdraw(keys, self._loop.time())
        self._due.set()

    async def flush(self) -> None:
        """Returns when nothing new waits to be sent or answered."""
        if not self._is_quiet():
            flushed = self._loop.create_future()
            self._flushes.append(flushed)
            await flushed

    def _is_quiet(self) -> bool:
        return self._open_count == 0 and not self._announcements.has_urgent

    async def run(self) -> None:
        while True:
            self._due.clear()
            if not self._node.has_joined:
                # Who knows few would tell the wrong ones, and the right ones only as newcomers.
                await self._due.wait()
                continue
            now = self._loop.time()
            if self._open_count < self._params.announce_parallel_count:
                for batch in self._announcements.due(now):
                    self._send(batch)
            if self._flushes and self._is_quiet():
                self._flushed()
            due_at = self._announcements.next_due(self._loop.time())
            if due_at is None or self._open_count >= self._params.announce_parallel_count:
                await self._due.wait()
                continue
            try:
                async with asyncio.timeout_at(due_at):
                    await self._due.wait()
            except TimeoutError:
                pass

    def _flushed(self) -> None:
        flushes, self._flushes = self._flushes, []
        for flushed in flushes:
            if not flushed.done():
                flushed.set_result(None)

    def _send(self, batch: Batch) -> None:
        if batch.target is None:
            self._store_here(batch)
            return
        to = batch.target.reach(v4=self._protocol.speaks_v4, v6=self._protocol.speaks_v6)
        if to is None:
            self._announcements.done(batch, b"", self._loop.time())
            return
        packed = b"".join(batch.keys)
        request: AddProviders | RemoveProviders
        if batch.verb is Verb.ADD:
            request = AddProviders(batch.state, int(self._params.record_ttl_s), self._node.own.info, packed)
        else:
            request = RemoveProviders(packed)
        self._open_count += 1

        def done(reply: Reply | None) -> None:
            self._open_count -= 1
            now = self._loop.time()
            if reply is None:
                self._announcements.failed(batch, now)
            else:
                saturated = reply.result.saturated if isinstance(reply.result, Added) else b""
                self._announcements.done(batch, saturated, now)
            self._due.set()

        self._protocol.ask(batch.target.node, to, request, done)

    def _store_here(self, batch: Batch) -> None:
        now = self._loop.time()
        here = self._here()
        self._own_sequence += 1
        said = stamp(here.epoch, self._own_sequence)
        saturated = bytearray((len(batch.keys) + 7) // 8)
        for number, key in enumerate(batch.keys):
            if batch.verb is Verb.REMOVE:
                self._node.records.remove(key, here.node, said, now)
            elif (
                self._node.records.add(key, here, batch.state, said, self._params.record_ttl_s, now)
                is Stored.SATURATED
            ):
                saturated[number // 8] |= 1 << number % 8
        self._announcements.done(batch, bytes(saturated), now)
