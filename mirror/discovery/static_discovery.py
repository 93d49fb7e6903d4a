"""Finds providers among a fixed list of peers by asking each of them. For small clusters and for tests.

Refuses to remember who holds what: an answer is as fresh as the question. Announcing does nothing, since peers ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence

from mirror.discovery.base import Peer, Provider, ProviderState
from mirror.oci.digest import Digest, DigestInvalid
from mirror.peer.errors import PeerAbsent, PeerError, PeerIncompatible, PeerRefused

log = logging.getLogger(__name__)

# No lookup takes longer: a peer slower than this is no help.
LOOKUP_TIMEOUT_S = 0.3
# Two strikes: a peer that did not answer twice in a row is not waited for until it rested.
STRIKES_COUNT = 2
REST_S = 5.0

Ask = Callable[[Peer, Digest], Awaitable[int]]


class StaticDiscovery:
    """`ask` gives the size of a digest at a peer and raises PeerError; `clock` is monotonic seconds."""

    def __init__(self, peers: Sequence[Peer], ask: Ask, clock: Callable[[], float]) -> None:
        self._peers = tuple(dict.fromkeys(peers))
        self._ask = ask
        self._clock = clock
        self._strikes: dict[Peer, int] = {}
        self._rests_until: dict[Peer, float] = {}

    async def run(self) -> None:
        await asyncio.Event().wait()

    @property
    def unready(self) -> str | None:
        return None

    async def announce(self, keys: Collection[str]) -> None:
        del keys

    async def withdraw(self, keys: Collection[str]) -> None:
        del keys

    async def find_providers(self, key: str) -> AsyncGenerator[Provider, None]:
        try:
            digest = Digest.parse(key)
        except DigestInvalid:
            return
        now = self._clock()
        peers = [peer for peer in self._peers if self._rests_until.get(peer, now) <= now]
        if not peers:
            return
        answers: asyncio.Queue[Peer | None] = asyncio.Queue(len(peers))

        async def ask(peer: Peer) -> None:
            await answers.put(peer if await self._holds(peer, digest) else None)

        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(ask(peer)) for peer in peers]
            for _ in peers:
                peer = await answers.get()
                if peer is None:
                    continue
                try:
                    yield Provider(peer, ProviderState.COMPLETE)
                except GeneratorExit:
                    # The caller left early. A task group would wrap this in a group of its own.
                    for task in asked:
                        task.cancel()
                    return

    async def _holds(self, peer: Peer, digest: Digest) -> bool:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                await self._ask(peer, digest)
        except (PeerAbsent, PeerIncompatible, PeerRefused) as exc:
            log.debug("%s", exc)
            self._strikes.pop(peer, None)
            return False
        except (PeerError, TimeoutError) as exc:
            strikes = self._strikes.get(peer, 0) + 1
            self._strikes[peer] = strikes
            if strikes >= STRIKES_COUNT:
                self._rests_until[peer] = self._clock() + REST_S
            log.debug("peer %s did not answer a lookup: %s", peer, exc)
            return False
        self._strikes.pop(peer, None)
        return True
