"""One node of the DHT, to use: finds providers, provides, claims. Makes the parts and runs them; decides nothing.

``async with DHT(settings) as dht`` binds, loads what the last run saved, and meets the others in the background; at
the end it leaves, saves and closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

from dht.announcer import Announcer
from dht.bootstrap.interfaces import is_here
from dht.bootstrap.lan import Lan
from dht.bootstrap.loop import Bootstrap
from dht.bootstrap.sources import DnsSource, Source, StaticSource
from dht.claiming import ClaimAnswer, Claiming, OnReplaced
from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.lookups import Lookups
from dht.members.members import Members
from dht.membership import Membership
from dht.node import Node, Shadow
from dht.protocol import ProviderProtocol
from dht.provider_reading import FoundProvider, Providers
from dht.records.records import Records, SavedRecord
from dht.routing import FullRoutingTable
from dht.server import ProviderServer
from dht.settings import DnsBootstrap, LanBootstrap, Settings, StaticBootstrap
from dht.sockets import OpenUdp, open_udp
from dht.state_files import StateFiles
from dht.stats import BEACON, Stats
from dht.wire.codec import Fence, Verb
from dht.wire.envelope import FIRST_SEQUENCE_LIMIT, Envelope
from dht.wire.guard import DUPLICATE_ID, Guard

log = logging.getLogger(__name__)

# Of the two seconds that a stopping daemon has.
LEAVE_S = 1.0
SAVE_S = 1.0
# Each round looks at this share of all records, so that none is over for more than a minute and still counts: 20 ms at
# 500,000 records.
EXPIRE_SHARE = 6
EXPIRE_MIN_COUNT = 2000
# Restoring takes 13 us a record: what the event loop may be held for at a time.
RESTORE_COUNT = 500
# A conflict of ids is told again after so long.
SHADOW_EVERY_S = 600.0
# Neighbours met at once; the next beacon comes soon.
MEETINGS_MAX_COUNT = 16
SHADOWS_MAX_COUNT = 256


class State(Protocol):
    """What outlives a restart."""

    async def load_peers(self) -> list[Contact]: ...

    async def save_peers(self, contacts: Iterable[Contact]) -> bool: ...

    async def load_records(self) -> list[SavedRecord]: ...

    async def save_records(self, records: Iterable[SavedRecord]) -> bool: ...


class DHT:
    """Construction does no I/O. `wall` is seconds since 1970; `state` None: files in `settings.state_dir`, if any."""

    def __init__(
        self,
        settings: Settings,
        *,
        rng: random.Random | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
        open_udp: OpenUdp = open_udp,
        wall: Callable[[], float] = time.time,
        state: State | None = None,
    ) -> None:
        self._settings = settings
        self._params = params = settings.params
        self._rng = rng or random.Random()
        self._random_bytes = random_bytes
        self._wall = wall
        self._state = state
        if state is None and settings.state_dir is not None:
            self._state = StateFiles(settings.state_dir, settings.cluster, params, wall)
        self.stats = Stats()
        advertised = () if settings.advertise is None else (settings.advertise,)
        own = Contact(settings.node, settings.epoch, advertised, settings.info)
        self.node = Node(own, params, self._rng, self.stats, self._noticed, is_sealed=bool(settings.keys))
        first = int.from_bytes(random_bytes(8), "big") % FIRST_SEQUENCE_LIMIT
        envelope = Envelope(
            settings.node,
            settings.epoch,
            settings.cluster,
            settings.keys,
            first_sequence=first,
            datagram_max_bytes=params.datagram_max_bytes,
        )
        self._guard = Guard(envelope, params, random_bytes, settings.advertise)
        self._server = ProviderServer(settings.node, self._make_protocol, open_udp)
        self._shadows: dict[bytes, float] = {}
        self._stack = contextlib.AsyncExitStack()

    # -- lifecycle -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Raises: BindFailed."""
        async with contextlib.AsyncExitStack() as stack:
            self._protocol = await self._server.listen_on(self._settings.listen)
            stack.callback(self._server.stop)
            self._membership = Membership(self.node, self._protocol)
            self._providers = providers = Providers(self.node, self._protocol, self.stats)
            self._lookups = Lookups(self.node, self._protocol, providers, self.stats)
            stack.callback(self._lookups.close)
            self._announcer = Announcer(self.node, self._protocol, self._here)
            self._claiming = Claiming(self.node, self._protocol, providers, self._here, self.stats)
            saved = await self._load()
            self._bootstrap = self._make_bootstrap(saved)
            # Nobody to meet: a cluster of one is ready at once.
            self.node.has_joined = self._bootstrap.has_asked
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = [
                tasks.create_task(self._membership.run(), name="dht membership"),
                tasks.create_task(self._announcer.run(), name="dht announcer"),
                tasks.create_task(self._bootstrap.run(), name="dht bootstrap"),
                tasks.create_task(self._meet_nobody(), name="dht bootstrap ends"),
                tasks.create_task(self._expire(), name="dht expiry"),
            ]
            if self._state is not None:
                running.append(tasks.create_task(self._save_regularly(), name="dht saves"))
            self._lan = self._make_lan(tasks)
            if self._lan is not None:
                running.append(tasks.create_task(self._lan.run(), name="dht beacons"))
            stack.push_async_callback(self._end, running)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _end(self, running: list[asyncio.Task[None]]) -> None:
        for task in running:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await self._membership.leave()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVE_S):
                await self._save()

    # -- use -------------------------------------------------------------------------------------------------------

    def provide(self, keys: Iterable[bytes], state: int = 0) -> None:
        """This node provides these keys (20 bytes each), in a state of the caller's (0 to 255). Idempotent; others
        hear it within delta_debounce_max_s, and again and again."""
        self._announcer.provide(list(keys), state)

    def withdraw(self, keys: Iterable[bytes]) -> None:
        """Idempotent."""
        self._announcer.withdraw(list(keys))

    async def flush(self) -> None:
        """Returns when all that is to be announced or withdrawn now was sent, and answered or given up."""
        await self._announcer.flush()

    def find_providers(self, key: bytes, want: int | None = None) -> AsyncGenerator[FoundProvider, None]:
        """As they become known, the first at once, this node never. Ends by lookup_deadline_s."""
        return self._lookups.find(key, self._params.want_count if want is None else want)

    async def claim(
        self,
        key: bytes,
        verb: Verb,
        *,
        progress: int = 0,
        fence: Fence | None = None,
        reason: int = 0,
        want: int = 16,
        on_replaced: OnReplaced | None = None,
    ) -> ClaimAnswer | None:
        """What the arbiter of the key says; None after a release, and where none was reached within claim_deadline_s.
        While providers are known nothing is granted; `want` 0 says that they were of no use.

        `reason`: of an ASK or a RENEW a dht.wire.codec.AskReason; of a RELEASE the caller's, 0 where nothing failed.
        `on_replaced`: called when a nearer arbiter's grant comes late, within rpc_timeout_s of the answer: the claim in
        the answer is given back then, and the caller holds this one instead. Without it the next renewal tells the
        fence. An ASK that is cancelled gives back what it is granted."""
        return await self._claiming.claim(
            key,
            verb,
            progress=progress,
            fence=fence,
            reason=reason,
            want=want,
            on_replaced=on_replaced,
        )

    def contact(self, node: bytes) -> Contact | None:
        """Where a member can be reached, first endpoint first, and what it says of itself. None: it is no member, or
        can be reached over no family that this node speaks. Whom a ruling names has his contact there (ClaimAnswer),
        whether or not he is a member."""
        known = self.members.get(node)
        found = None if known is None else self._providers.placed(known)
        return found if found is not None and found.endpoints else None

    @property
    def members(self) -> Members:
        return self.node.members

    @property
    def records(self) -> Records:
        return self.node.records

    @property
    def is_isolated(self) -> bool:
        return self.node.is_isolated

    @property
    def is_alone(self) -> bool:
        """Nobody at all is heard, though all who are near were asked for a pull's sake (dht.silence)."""
        alone_at = self.node.silence.alone_at(self._params.claim_unheard_s)
        return alone_at is not None and asyncio.get_running_loop().time() >= alone_at

    def listen(self) -> None:
        """Asks all who are near whether they are there, so that `is_alone` soon tells; but for those who were asked
        since anybody was heard."""
        self._claiming.listen()

    @property
    def unready(self) -> str | None:
        """Why lookups would not find what there is; a cluster of one is ready."""
        if self.node.has_joined:
            return None
        return "no other node of the cluster was reached yet"

    @property
    def trouble(self) -> str | None:
        """What an operator should mend, or None."""
        texts = [self._bootstrap.trouble]
        if self._lan is not None and len(self.members) == 0:
            texts.append(self._lan.trouble)
        return "; ".join(text for text in texts if text) or None

    @property
    def clock_offset_s(self) -> float:
        """By how much the others' clocks are ahead of this host's, as their datagrams of the last minutes say. What is
        less than two minutes is borne, and not corrected for. 0 without a secret: nobody's time is known to be true."""
        return self._guard.clock.seen_ms(self._wall()) / 1000

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where it listens, with the real ports."""
        return self._server.endpoints

    # -- parts -----------------------------------------------------------------------------------------------------

    def _make_protocol(self, server: ProviderServer) -> ProviderProtocol:
        protocol = ProviderProtocol(
            server.node,
            server.storage,
            server.ksize,
            guard=self._guard,
            decisions=self.node,
            stats=self.stats,
            params=self._params,
            wall=self._wall,
            random_bytes=self._random_bytes,
        )
        loop = asyncio.get_running_loop()
        protocol.router = FullRoutingTable(
            protocol,
            server.ksize,
            server.node,
            self.node.members,
            clock=loop.time,
            changed=lambda changes: self.node.changed(changes, loop.time()),
        )
        return protocol

    def _make_bootstrap(self, saved: list[Contact]) -> Bootstrap:
        sources: list[Source] = []
        for one in self._settings.bootstrap:
            if isinstance(one, StaticBootstrap):
                sources.append(StaticSource(one.host, one.port, self._params))
            elif isinstance(one, DnsBootstrap):
                sources.append(DnsSource(one.name, one.port, self._rng, self._params))
        reached = (one.reach(v4=self._protocol.speaks_v4, v6=self._protocol.speaks_v6) for one in saved)
        return Bootstrap(
            sources,
            [endpoint for endpoint in reached if endpoint is not None],
            self._membership.meet,
            lambda: len(self.members),
            self._params,
            self._rng,
            known=lambda: {endpoint for one in self.members for endpoint in one.endpoints},
            is_own=lambda found: found == self._settings.advertise or is_here(found, self._server.endpoints),
        )

    def _make_lan(self, tasks: asyncio.TaskGroup) -> Lan | None:
        if not any(isinstance(one, LanBootstrap) for one in self._settings.bootstrap):
            return None
        meeting: set[bytes] = set()

        async def meet(node: bytes, endpoint: Endpoint) -> None:
            try:
                await self._membership.meet(endpoint)
            finally:
                meeting.discard(node)

        def found(node: bytes, endpoint: Endpoint) -> None:
            if node not in self.members and node not in meeting and len(meeting) < MEETINGS_MAX_COUNT:
                meeting.add(node)
                tasks.create_task(meet(node, endpoint), name="dht meets a neighbour")

        def dropped(reason: str, source: Endpoint | None) -> None:
            self.stats.drops[BEACON + reason] += 1
            if reason == DUPLICATE_ID and source is not None:
                self.node.shadowed(source, asyncio.get_running_loop().time())

        return Lan(
            self._guard, self._server.endpoints, found, self._params, self._rng, self._wall, dropped=dropped
        )

    def _here(self) -> Contact:
        """This node as a provider in its own records: whoever is told asks at the address he asked us at."""
        own = self.node.own
        return own if own.endpoints else Contact(own.node, own.epoch, self._server.endpoints, own.info)

    # -- in the background -----------------------------------------------------------------------------------------

    async def _meet_nobody(self) -> None:
        """Whoever has asked everybody he was told of, in vain, is a cluster of one."""
        await self._bootstrap.asked()
        self.node.joined()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(self._params.expire_interval_s)
            now = asyncio.get_running_loop().time()
            records = self.node.records
            records.expire(now, max(EXPIRE_MIN_COUNT, len(records) // EXPIRE_SHARE))
            self.node.claims.expire(now)

    async def _load(self) -> list[Contact]:
        if self._state is None:
            return []
        now = asyncio.get_running_loop().time()
        saved = await self._state.load_records()
        for start in range(0, len(saved), RESTORE_COUNT):
            self.node.records.restore(saved[start : start + RESTORE_COUNT], now)
            await asyncio.sleep(0)
        return await self._state.load_peers()

    async def _save(self) -> None:
        if self._state is None:
            return
        now = asyncio.get_running_loop().time()
        await self._state.save_peers(self.members.best(self._params.saved_peers_count))
        # Without our own: we provide them anew, and the next run may have another id or address.
        own, entries = self.node.own.node, self.node.records.entries(now)
        await self._state.save_records(SavedRecord(*entry) for entry in entries if entry.node != own)

    async def _save_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._params.save_interval_s * self._rng.uniform(0.75, 1.25))
            await self._save()

    def _noticed(self, shadow: Shadow) -> None:
        now = asyncio.get_running_loop().time()
        last = self._shadows.get(shadow.node)
        if last is not None and now - last < SHADOW_EVERY_S:
            return
        if len(self._shadows) >= SHADOWS_MAX_COUNT:
            self._shadows.clear()
        self._shadows[shadow.node] = now
        if shadow.node == self.node.own.node:
            log.warning(
                "another live host at %s has the node id of this one, %s: one of them is a copy; delete node.json in "
                "the copy's data directory and restart it",
                shadow.endpoints[0],
                shadow.node.hex(),
            )
        else:
            log.warning(
                "two live hosts have the node id %s, at %s and %s: one is a copy; delete node.json in the copy's data "
                "directory and restart it",
                shadow.node.hex(),
                *shadow.endpoints,
            )
