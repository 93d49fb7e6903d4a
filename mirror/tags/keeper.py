"""Keeps this host's records of tags, tells the cluster those that may be told, and finds out which may be.

It carries; what is told is `inventory`'s to decide, and when to ask the registry is `publicity`'s. At the end nothing
is withdrawn: a host that stops still has what it has.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Protocol

from mirror.advertise.inventory import Announce, Withdraw
from mirror.discovery.base import Discovery
from mirror.origin.base import Prober, Repository, Standing
from mirror.origin.memory import OriginMemory
from mirror.peer.tag_answer import TagAnswer
from mirror.tags.base import Attestation, OwnTag, TagName
from mirror.tags.inventory import TagInventory
from mirror.tags.publicity import Publicity
from mirror.tags.rules import TagPolicy
from mirror.tags.source import TagsLost, TagSource

log = logging.getLogger(__name__)

# Between two questions to registries: a host that begins with 300 images takes ten minutes, and no registry takes it
# for an attack. A limit of anonymous requests is by the hour.
PROBE_PAUSE_S = 2.0
# What else may change, since others ask the registry, too, and findings grow old: noticed this late. What is told is
# decided anew each time that a peer asks.
LOOK_AGAIN_S = 30.0


class Witnesses(Protocol):
    """`mirror.tags.attest.Attestor`."""

    async def ask(self, name: TagName) -> Sequence[Attestation]: ...


class TagKeeper:
    """`prober` None: no registry is asked (`--origin off`). `is_named`: by --stale-private. `gauge` is told how many
    keys are announced. `unix_clock` is seconds since 1970, `clock` monotonic."""

    def __init__(
        self,
        source: TagSource,
        discovery: Discovery,
        prober: Prober | None,
        memory: OriginMemory,
        witnesses: Witnesses,
        *,
        policy: TagPolicy,
        is_named: Callable[[Repository], bool],
        unix_clock: Callable[[], float],
        clock: Callable[[], float],
        rng: random.Random,
        gauge: Callable[[float], None],
        probe_pause_s: float = PROBE_PAUSE_S,
    ) -> None:
        self._source = source
        self._discovery = discovery
        self._prober = prober
        self._witnesses = witnesses
        self._unix_clock = unix_clock
        self._clock = clock
        self._gauge = gauge
        self._probe_pause_s = probe_pause_s
        self._inventory = TagInventory(policy, is_named)
        self._publicity = Publicity(memory, rng)
        self._woken = asyncio.Event()
        # Two tasks announce: what was decided later must not be done earlier.
        self._telling = asyncio.Lock()

    @property
    def announced_count(self) -> int:
        return self._inventory.announced_count

    def is_announced(self, name: TagName) -> bool:
        return self._inventory.is_announced(name)

    def own(self, name: TagName) -> OwnTag | None:
        """This host's own record, told to others or not."""
        return self._inventory.own(name)

    def told(self, name: TagName) -> TagAnswer | None:
        """What a peer that asks is told; None: nothing, whether there is a record or not."""
        tag = self._inventory.own(name)
        if tag is None or not self._inventory.is_told(name.repository, self._is_public):
            return None
        public_at_s = self._publicity.public_at_s(name.repository, self._unix_clock())
        return TagAnswer(tag.digest, int(tag.pulled_at_s), None if public_at_s is None else int(public_at_s))

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._find_out())

    async def _follow(self) -> None:
        async with aclosing(self._source.watch_tags()) as events:
            async for event in events:
                if isinstance(event, TagsLost):
                    # The content store says so in the log; both hear of it at once.
                    log.debug("tags are as they were: %s", event.reason)
                self._inventory.handle(event)
                self._publicity.keep(self._inventory.to_be_known(), self._clock())
                self._woken.set()
                await self._tell()

    async def _find_out(self) -> None:
        while True:
            self._woken.clear()
            repository = self._publicity.due(self._clock())
            standing = None if repository is None else await self._ask(repository)
            await self._tell()
            if standing is not None:
                await asyncio.sleep(self._probe_pause_s)
            elif repository is None:
                await self._wait()

    async def _wait(self) -> None:
        due_at = self._publicity.next_due_at()
        wait_s = LOOK_AGAIN_S if due_at is None else min(LOOK_AGAIN_S, max(0.0, due_at - self._clock()))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._woken.wait()

    async def _ask(self, repository: Repository) -> Standing | None:
        """Other hosts, and where they do not know, the registry: what it showed. None: no need to ask anybody."""
        name = self._inventory.newest(repository)
        standing: Standing | None = None
        if name is not None and not self._is_fresh(repository):
            attestations = await self._witnesses.ask(name)
            now_s = self._unix_clock()
            self._publicity.hear(repository, attestations, now_s)
            if self._publicity.leaves_it_to_others(repository, attestations, now_s):
                standing = Standing.NOT_ASKED
            elif not self._is_fresh(repository):
                standing = await self._probe(name)
        self._publicity.asked(repository, standing, self._clock())
        return standing

    async def _probe(self, name: TagName) -> Standing:
        if self._prober is None:
            return Standing.NOT_ASKED
        probed = await self._prober.probe(name.repository, name.tag)
        log.debug("%s: asked the registry whether it is public: %s", name, probed.standing.value)
        return probed.standing

    async def _tell(self) -> None:
        async with self._telling:
            for command in self._inventory.changes(self._is_public):
                match command:
                    case Announce(keys):
                        await self._discovery.announce(keys)
                    case Withdraw(keys):
                        await self._discovery.withdraw(keys)
            self._gauge(self._inventory.announced_count)

    def _is_public(self, repository: Repository) -> bool:
        return self._publicity.is_public(repository, self._unix_clock())

    def _is_fresh(self, repository: Repository) -> bool:
        return self._publicity.is_fresh(repository, self._unix_clock())
