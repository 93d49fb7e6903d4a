"""All digests that are on their way to this host or from it: makes their transfers, and brings each what is for it.

Refuses to know what a request looks like, and what becomes of one: that is the transfer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from mirror.discovery.base import Discovery, Peer, ProviderState
from mirror.errors import StoreUnavailable
from mirror.herd.avoided import Avoided
from mirror.herd.errors import Missed
from mirror.herd.layers_ahead import LayersAhead
from mirror.herd.own_bytes import Portion, SpoolSpace
from mirror.herd.ports import Neighbours, TransferPorts
from mirror.herd.reading import Reading
from mirror.herd.transfer import Transfer
from mirror.ingest.base import Born, Committed, EventsLost, Grew, IngestEvent, IngestWatch, Vanished
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.manifest import Manifest
from mirror.peer import news
from mirror.peer.channel import Channel
from mirror.peer.client import PeerClient
from mirror.peer.frames import DeclineReason
from mirror.peer.streams import PeerStreams
from mirror.relay.spool import Spool
from mirror.steer.claims import Claims, NamedPeer
from mirror.steer.flow import Flows
from mirror.steer.ladder import Ladder
from mirror.steer.rates import Rates
from mirror.steer.timers import Rungs
from mirror.store.base import ContentAdded, ContentStore, Snapshot
from mirror.swarm.lending import Lending
from mirror.swarm.params import SwarmParams

log = logging.getLogger(__name__)

# Peers still come for what this host got a moment ago; containerd comes back with a Range after a cut body.
LINGER_S = 60.0
# What the store says is advertised after a quarter of a second, together with what it says next.
ADVERTISED_AFTER_S = 0.4
SWEEP_EVERY_S = 5.0
# Each may hold two descriptors; the usual limit of a process is 1,024.
TRANSFERS_MAX_COUNT = 256
# Sizes named by manifests that passed through: 64 images of 64 layers.
SIZES_MAX_COUNT = 4096
# Digests that are answered 404 for a while.
REMEMBERED_MAX_COUNT = 4096
# Neighbours that one search brings; the swarm wants ten.
FOUND_MAX_COUNT = 16


@dataclass(frozen=True, slots=True)
class HerdPorts:
    """`ingests`: what the own runtime is downloading. `discard_ingest` is the store's; `count_bytes` gets what each
    peer sent. `announced` returns when others know what the store said that it has. `streams` None: all that they
    send is hashed here."""

    claims: Claims
    discovery: Discovery
    client: PeerClient
    channels: Neighbours
    ingests: IngestWatch
    store: ContentStore
    spool: Spool
    announced: Callable[[], Awaitable[None]]
    count_bytes: Callable[[Peer, int], None]
    clock: Callable[[], float]
    streams: PeerStreams | None = None


def find_with(discovery: Discovery) -> Callable[[Digest], Awaitable[list[NamedPeer]]]:
    """Providers as discovery knows them."""

    async def find(digest: Digest) -> list[NamedPeer]:
        found: list[NamedPeer] = []
        async with aclosing(discovery.find_providers(str(digest))) as providers:
            async for one in providers:
                found.append(NamedPeer(one.peer, one.state is ProviderState.COMPLETE))
                if len(found) == FOUND_MAX_COUNT:
                    break
        return found

    return find


class Herd:
    """`run` must be running while it is asked."""

    def __init__(
        self,
        ports: HerdPorts,
        rng: random.Random,
        *,
        params: SwarmParams | None = None,
        rungs: Rungs | None = None,
    ) -> None:
        self._ports = ports
        self._rng = rng
        self._rungs = rungs
        self._transfers: OrderedDict[Digest, Transfer] = OrderedDict()
        self._sizes_bytes: OrderedDict[Digest, int] = OrderedDict()
        # Until when a GET is answered 404: at the first host, and at both.
        self._given_up: OrderedDict[Digest, tuple[float, float]] = OrderedDict()
        self._rates = Rates()
        self._flows = Flows()
        self._ids = itertools.count(1)
        self._tasks: asyncio.TaskGroup | None = None
        self._avoided = Avoided(ports.clock)
        self._ahead = LayersAhead(
            self._transfers,
            self._sizes_bytes,
            ports.store,
            ports.spool,
            transfer=lambda digest, registry: self._transfer(digest, is_manifest=False, registry=registry),
            boundary=self._boundary,
        )
        self._transfer_ports = TransferPorts(
            claims=ports.claims,
            channels=ports.channels,
            client=ports.client,
            streams=ports.streams,
            ingests=ports.ingests,
            find=find_with(ports.discovery),
            make_space=self._make_space,
            open_stored=self._open_stored,
            discard_ingest=ports.store.discard_ingest,
            remember=self._remember,
            note_rate=self._note_rate,
            lied=self._lied,
            fed=self._ahead.fed,
            has_spare=self._ahead.has_spare,
            count_bytes=ports.count_bytes,
            clock=ports.clock,
            spawn=self._spawn,
            avoided=self._avoided,
            lending=Lending(),
            params=params or SwarmParams(),
        )

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                async with asyncio.TaskGroup() as services:
                    services.create_task(self._ports.channels.run(), name="state channels")
                    services.create_task(self._ports.ingests.run(), name="ingests")
                    services.create_task(self._follow_ingests(), name="what containerd downloads")
                    services.create_task(self._follow_store(), name="what was committed")
                    services.create_task(self._sweep(), name="ended transfers")
            finally:
                self._tasks = None
                for transfer in list(self._transfers.values()):
                    transfer.close()
                self._transfers.clear()

    # -- the own containerd ------------------------------------------------------------------------------------------

    def learn_sizes(self, manifest: Manifest) -> None:
        """Remembers what a verified manifest says of its children, so that a source that lies of a size is found."""
        for child in manifest.children:
            self._sizes_bytes[child.digest] = child.size_bytes
            self._sizes_bytes.move_to_end(child.digest)
            transfer = self._transfers.get(child.digest)
            if transfer is not None:
                transfer.vouch(child.size_bytes)
        self._ahead.learn(manifest)
        while len(self._sizes_bytes) > SIZES_MAX_COUNT:
            self._sizes_bytes.popitem(last=False)

    @contextlib.asynccontextmanager
    async def ask(
        self,
        digest: Digest,
        byte_range: ByteRange | None,
        *,
        registry: str,
        is_manifest: bool,
        is_head: bool,
        at_fallback: bool,
        media_type: str = "",
    ) -> AsyncIterator[Reading]:
        """A request of the own containerd, for an image of `registry`; `media_type`: what it expects, if it says so.
        Raises: Missed."""
        if self._tasks is None:
            raise Missed(digest, "this daemon is starting or stopping")
        first_until, both_until = self._given_up.get(digest, (0.0, 0.0))
        now = self._ports.clock()
        transfer = self._transfers.get(digest)
        # While its ladder lives, that one knows better.
        if (
            transfer is None
            and not is_head
            and now < (both_until if at_fallback else max(first_until, both_until))
        ):
            raise Missed(digest, "given up for some seconds")
        transfer = self._transfer(digest, is_manifest=is_manifest, registry=registry)
        if transfer.is_aside:
            raise Missed(digest, "this host's disk does not take it, or nobody could bring it whole")
        transfer.expects(media_type)
        if not is_head:
            self._ahead.asked(digest)
        reading = transfer.ask(next(self._ids), byte_range, is_head=is_head, at_fallback=at_fallback)
        try:
            yield reading
        finally:
            transfer.left(reading)
            if not is_head:
                self._ahead.left(digest)

    @property
    def avoided(self) -> Avoided:
        """To be looked at."""
        return self._avoided

    # -- peers -------------------------------------------------------------------------------------------------------

    def size_bytes(self, digest: Digest) -> int | None:
        """Of a blob that is on its way here; None: it is not, or nobody has named its size."""
        transfer = self._transfers.get(digest)
        return None if transfer is None else transfer.size_bytes()

    @contextlib.contextmanager
    def lend(self, digest: Digest, span: ByteSpan) -> Iterator[Sequence[Portion] | None]:
        """For a peer: a part of a blob that is on its way here. None: not all of it may be offered."""
        transfer = self._transfers.get(digest)
        own = None if transfer is None else transfer.own
        if transfer is None or own is None:
            yield None
            return
        with own.hold():
            yield transfer.lend(span)

    def on_news(self, channel: Channel, told: news.News) -> None:
        """As `Channels` calls it."""
        transfer: Transfer | None
        match told:
            case news.ChannelUp():
                self._avoided.forgive(channel.peer)
                return
            case news.ChannelDown() | news.PeerLoad():
                for transfer in list(self._transfers.values()):
                    with self._boundary(transfer.digest):
                        transfer.heard(channel, told)
                return
            case news.PeerJoined(digest) | news.PeerHolds(digest):
                transfer = self._transfers.get(digest)
                if transfer is None and self._tasks is not None and self._ports.store.size_bytes(digest):
                    transfer = self._transfer(digest, is_manifest=False)
                    transfer.committed()
            case _:
                transfer = self._transfers.get(told.digest)
        if transfer is not None:
            with self._boundary(transfer.digest):
                transfer.heard(channel, told)
        elif isinstance(told, news.PeerJoined | news.PeerHolds):
            channel.decline(told.digest, DeclineReason.ABSENT)
        elif isinstance(told, news.PieceDigestsAsked):
            channel.answer_digests(told.digest, told.first, told.stop, {})

    # -- transfers ---------------------------------------------------------------------------------------------------

    def _transfer(self, digest: Digest, *, is_manifest: bool, registry: str = "") -> Transfer:
        transfer = self._transfers.get(digest)
        if transfer is None:
            self._make_room()
            ladder = Ladder(
                self._rng,
                is_manifest=is_manifest,
                rungs=self._rungs,
                expected_bytes_s=self._rates.expected_bytes_s(registry, self._ports.clock()),
                flow=self._flows.of(registry),
            )
            size_bytes = self._sizes_bytes.get(digest)
            transfer = Transfer(digest, ladder, self._transfer_ports, self._rng, size_bytes, registry)
            self._transfers[digest] = transfer
        self._transfers.move_to_end(digest)
        return transfer

    def _make_room(self) -> None:
        while len(self._transfers) >= TRANSFERS_MAX_COUNT:
            idle = next((one for one in self._transfers.values() if one.is_idle), None)
            if idle is None:
                return
            self._end(idle)

    def _end(self, transfer: Transfer) -> None:
        if self._transfers.get(transfer.digest) is transfer:
            del self._transfers[transfer.digest]
        transfer.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = self._ports.clock()
            self._ahead.sweep()
            for transfer in list(self._transfers.values()):
                if transfer.is_idle and now - transfer.used_at >= LINGER_S:
                    self._end(transfer)
            await self._ports.spool.sweep()

    def _spawn(self, digest: Digest, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._tasks is not None
        task = self._tasks.create_task(self._guarded(digest, work), name=f"transfer {digest}")
        # Of a task that is cancelled before it began nobody has awaited it.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _guarded(self, digest: Digest, work: Coroutine[Any, Any, None]) -> None:
        with self._boundary(digest):
            await work

    @contextlib.contextmanager
    def _boundary(self, digest: Digest) -> Iterator[None]:
        """A defect in one transfer ends this transfer, not the daemon."""
        try:
            yield
        except Exception:
            log.exception("the transfer of %s failed", digest)
            transfer = self._transfers.pop(digest, None)
            if transfer is not None:
                transfer.close()

    def _lied(self, digest: Digest, source_id: str) -> None:
        """About one digest: what it sent of others is no better."""
        if self._avoided.has_lied(source_id):
            return
        self._avoided.lied(source_id)
        for transfer in list(self._transfers.values()):
            if transfer.digest != digest:
                with self._boundary(transfer.digest):
                    transfer.distrust(source_id)

    def _remember(self, digest: Digest, for_s: float, at_both: bool) -> None:
        _, both_until = self._given_up.pop(digest, (0.0, 0.0))
        until = self._ports.clock() + for_s
        self._given_up[digest] = (until, until if at_both else both_until)
        if len(self._given_up) > REMEMBERED_MAX_COUNT:
            self._given_up.popitem(last=False)

    def _note_rate(self, registry: str, count_bytes: int, for_s: float) -> None:
        self._rates.seen(registry, count_bytes, for_s, self._ports.clock())

    # -- ports of a transfer -----------------------------------------------------------------------------------------

    async def _make_space(self, digest: Digest, size_bytes: int) -> SpoolSpace:
        """Raises: SpoolFull."""
        spool = self._ports.spool
        file = await spool.make(digest, size_bytes)

        def give_back() -> None:
            spool.drop(file)
            spool.release(file)

        return SpoolSpace(file.descriptor, give_back)

    async def _open_stored(self, digest: Digest) -> tuple[int, int]:
        """A descriptor of the caller's, and the size. Raises: ContentNotFound, StoreUnavailable."""
        blob = await self._ports.store.open(digest)
        try:
            if blob.descriptor is None:
                raise StoreUnavailable(f"{digest} cannot be read as a file")
            return os.dup(blob.descriptor), blob.size_bytes
        finally:
            blob.close()

    # -- what happens on this host -----------------------------------------------------------------------------------

    async def _follow_ingests(self) -> None:
        async with aclosing(self._ports.ingests.watch(self._is_patient)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, EventsLost):
                    log.debug("%s", event.reason)
                elif event.digest is not None:
                    with self._boundary(event.digest):
                        self._ingest_event(event.digest, event)

    def _is_patient(self, digest: Digest) -> bool:
        transfer = self._transfers.get(digest)
        return transfer is not None and not transfer.is_growth_awaited()

    def _ingest_event(self, digest: Digest, event: IngestEvent) -> None:
        transfer = self._transfers.get(digest)
        if transfer is None and isinstance(event, Grew):
            # It was downloaded before this daemon was asked: before it started, say.
            transfer = self._transfer(digest, is_manifest=False)
            transfer.born(None)
        if transfer is None:
            return
        match event:
            case Born(_, _, _, total_bytes):
                transfer.born(total_bytes)
            case Grew(_, size_bytes):
                transfer.grew(size_bytes)
            case Committed():
                transfer.committed()
            case Vanished():
                transfer.vanished()

    async def _follow_store(self) -> None:
        """For runtimes whose ingests are not seen, and commits that were not."""
        async with aclosing(self._ports.store.watch()) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case ContentAdded(digest):
                        self._stored(digest)
                    case Snapshot(sizes_bytes):
                        for digest in [one for one in self._transfers if one in sizes_bytes]:
                            self._stored(digest)
                    case _:
                        pass

    def _stored(self, digest: Digest) -> None:
        transfer = self._transfers.get(digest)
        if transfer is not None:
            # Else it is told late: the blob was deleted since, and is downloaded anew. Or early, and the ingest's own
            # end says so in a moment.
            if self._ports.ingests.size_bytes(digest) is None:
                with self._boundary(digest):
                    transfer.committed()
            self._spawn(digest, self._provided(transfer))

    async def _provided(self, transfer: Transfer) -> None:
        """Who advertises heard of it at the same time."""
        await asyncio.sleep(ADVERTISED_AFTER_S)
        await self._ports.announced()
        transfer.provided()
