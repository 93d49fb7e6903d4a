"""One digest on its way to this host: its sources, what is known of it, and the readers on it.

However many requests ask for a digest, they share one `Download`: what one reader learned of a source (dead, absent,
lying, of another size) holds for all. Each reader streams by itself; pieces that readers share come with the swarm.

Rules
1. A reader resumes at the exact next byte on another source when one dies, stalls, or contradicts itself.
2. What is no larger than `VERIFY_WHOLE_MAX_BYTES` (manifests, configs, small layers) is verified before its first
   byte leaves. A larger blob that is read from its first byte to its last is hashed on the way, and its last chunk
   is withheld until the digest matches. Any other range relies on containerd's own check.
3. After a mismatch the digest is given up for `GIVE_UP_S`, whoever asks and however (measured: containerd asks
   again with a Range or without), and what containerd holds of it is thrown away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from mirror.discovery.base import Discovery, Peer
from mirror.download.errors import DigestMismatch, NoSources
from mirror.download.sources import Sources
from mirror.errors import StoreUnavailable
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.peer.client import PeerClient
from mirror.peer.errors import (
    PeerAbsent,
    PeerBroke,
    PeerDisagrees,
    PeerError,
    PeerNonsense,
    PeerUnreachable,
)

log = logging.getLogger(__name__)

# Configs and manifests of ordinary images are far below; buffering one costs less than a wrong byte.
VERIFY_WHOLE_MAX_BYTES = 1024 * 1024
# Hashing goes to a thread in portions of this: a hop costs about 60 µs, hashing a portion 700 µs.
HASH_PORTION_BYTES = 1024 * 1024
# Long enough for containerd's retries after a cut body to be sent on to the origin.
GIVE_UP_S = 10.0
# Providers found this short a time ago are not asked for again.
SEARCH_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class DownloadPorts:
    """What a download needs of the daemon. `discard_ingest` is the store's; `count_bytes` gets what peers sent."""

    discovery: Discovery
    client: PeerClient
    discard_ingest: Callable[[Digest], Awaitable[None]]
    count_bytes: Callable[[int], None]
    clock: Callable[[], float]


class Reading:
    """Bytes on their way to one client. The first chunk is already in hand when it is made."""

    def __init__(self, span: ByteSpan, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        self.span = span
        self.size_bytes = size_bytes
        self.chunks = chunks


class Download:
    """One per digest; made and kept by `Downloads`."""

    def __init__(self, digest: Digest, sources: Sources, ports: DownloadPorts) -> None:
        self.digest = digest
        self.reader_count = 0
        self.idle_since = ports.clock()
        self._size_bytes: int | None = None
        self._size_is_vouched = False
        self._sources = sources
        self._ports = ports
        self._searched_at: float | None = None
        self._searching = False
        self._changed = asyncio.Condition()
        self._given_up_until = 0.0
        self._small: bytes | None = None
        self._small_lock = asyncio.Lock()

    # --- sources

    def search_due(self) -> bool:
        """Whether providers should be looked for now. The caller then runs `search` in a task of its own."""
        now = self._ports.clock()
        if self._searching or now < self._given_up_until:
            return False
        return self._searched_at is None or now - self._searched_at >= SEARCH_AGAIN_S

    def search_begins(self) -> None:
        self._searching = True
        self._searched_at = self._ports.clock()

    async def search(self) -> None:
        """Feeds providers to the sources until discovery has no more."""
        try:
            found = self._ports.discovery.find_providers(str(self.digest))
            async with contextlib.aclosing(found) as providers:
                async for provider in providers:
                    async with self._changed:
                        self._sources.found(provider)
                        self._changed.notify_all()
        except Exception:
            # A task boundary: a defect in one lookup ends this lookup, not the daemon.
            log.exception("the search for %s failed", self.digest)
        finally:
            self._searching = False
            async with self._changed:
                self._changed.notify_all()

    async def _next_source(self, last_error: PeerError | None) -> Peer:
        """Raises: NoSources."""
        async with self._changed:
            while True:
                now = self._ports.clock()
                if now < self._given_up_until:
                    raise NoSources(self.digest, "given up for some seconds after wrong bytes")
                peer = self._sources.choose(now)
                if peer is not None:
                    return peer
                if not self._searching:
                    raise NoSources(self.digest, str(last_error) if last_error else "no provider known")
                await self._changed.wait()

    @contextlib.asynccontextmanager
    async def _source_errors(self, peer: Peer) -> AsyncIterator[None]:
        """Books what a source did; the error goes on to the reader, which asks the next."""
        self._sources.opened(peer)
        try:
            yield
        except PeerAbsent:
            self._sources.absent(peer, self._ports.clock())
            raise
        except PeerUnreachable as exc:
            self._sources.unreachable(peer, self._ports.clock())
            log.debug("%s", exc, extra={"digest": str(self.digest)})
            raise
        except PeerNonsense as exc:
            self._sources.lied(peer, self._ports.clock())
            log.warning("%s; it is left aside for a while", exc, extra={"digest": str(self.digest)})
            raise
        except PeerError as exc:
            self._sources.failed(peer, self._ports.clock())
            log.debug("%s", exc, extra={"digest": str(self.digest)})
            raise
        else:
            self._sources.served(peer)
        finally:
            self._sources.closed(peer)

    def vouch(self, size_bytes: int) -> None:
        """A manifest names the size: better than a peer's word, and replaced by the next manifest's."""
        self._size_bytes = size_bytes
        self._size_is_vouched = True

    # --- what readers ask

    async def size_bytes(self) -> int:
        """Asks a source. Raises: NoSources."""
        last_error: PeerError | None = None
        while True:
            peer = await self._next_source(last_error)
            try:
                async with self._source_errors(peer):
                    told_bytes = await self._ports.client.size_bytes(peer, self.digest)
                    self._agree(peer, told_bytes)
                    return told_bytes
            except PeerError as exc:
                last_error = exc

    @contextlib.asynccontextmanager
    async def read(self, byte_range: ByteRange | None) -> AsyncIterator[Reading]:
        """Raises: NoSources, DigestMismatch, RangeInvalid, all before the first byte. While the chunks are read:
        NoSources, DigestMismatch."""
        size_bytes = await self._known_size_bytes()
        if size_bytes <= VERIFY_WHOLE_MAX_BYTES:
            data = await self.whole(VERIFY_WHOLE_MAX_BYTES)
            span = byte_range.resolve(len(data)) if byte_range else ByteSpan(0, len(data))
            yield Reading(span, len(data), _single(data[span.start : span.stop]))
            return
        span = byte_range.resolve(size_bytes) if byte_range else ByteSpan(0, size_bytes)
        async with contextlib.aclosing(self._stream(span, size_bytes)) as chunks:
            first = await anext(chunks)
            yield Reading(span, size_bytes, _prepend(first, chunks))

    def forget_small(self) -> None:
        """Lets go of what `whole` holds, when nobody reads any more."""
        self._small = None

    async def whole(self, max_bytes: int) -> bytes:
        """The verified bytes of something small, such as a manifest. Raises: NoSources, DigestMismatch."""
        async with self._small_lock:
            if self._small is None:
                size_bytes = await self._known_size_bytes()
                if size_bytes > max_bytes:
                    raise NoSources(self.digest, f"{size_bytes} bytes are over the limit of {max_bytes}")
                self._small = await self._fetch_verified()
            return self._small

    async def _fetch_verified(self) -> bytes:
        last_error: PeerError | None = None
        while True:
            peer = await self._next_source(last_error)
            data = bytearray()
            try:
                async with (
                    self._source_errors(peer),
                    self._ports.client.fetch(peer, self.digest, 0, None) as body,
                ):
                    self._agree(peer, body.size_bytes)
                    async for chunk in body.chunks():
                        data += chunk
                        self._ports.count_bytes(len(chunk))
                    if not self.digest.matches(bytes(data)):
                        self._doubt_size()
                        raise PeerNonsense(str(peer), f"sent bytes that are not those of {self.digest}")
                    return bytes(data)
            except PeerError as exc:
                last_error = exc

    async def _stream(self, span: ByteSpan, size_bytes: int) -> AsyncGenerator[bytes, None]:
        """The bytes of one reader, from source to source (rules 1 and 2)."""
        offset = span.start
        whole = span == ByteSpan(0, size_bytes)
        verifier = _Verifier(self.digest) if whole else None
        contributors: list[Peer] = []
        last_error: PeerError | None = None
        while offset < span.stop:
            peer = await self._next_source(last_error)
            try:
                async with (
                    self._source_errors(peer),
                    self._ports.client.fetch(peer, self.digest, offset, span.stop) as body,
                ):
                    self._agree(peer, body.size_bytes)
                    if peer not in contributors:
                        contributors.append(peer)
                    async for chunk in body.chunks():
                        offset += len(chunk)
                        self._ports.count_bytes(len(chunk))
                        if verifier and not await verifier.take(chunk, last=offset == span.stop):
                            raise await self._mismatch(contributors)
                        yield chunk
                    if offset < span.stop:
                        raise PeerBroke(str(peer), f"ended the body {span.stop - offset} bytes early")
            except PeerError as exc:
                last_error = exc

    async def _known_size_bytes(self) -> int:
        return await self.size_bytes() if self._size_bytes is None else self._size_bytes

    def _agree(self, peer: Peer, size_bytes: int) -> None:
        """All sources must tell one size. No ban for another one: whoever can have a manifest fetched can name
        wrong sizes in it, and would have honest peers banned. Raises: PeerDisagrees."""
        if self._size_bytes is None:
            self._size_bytes = size_bytes
        elif self._size_bytes != size_bytes:
            told = f"says {size_bytes} bytes of {self.digest}, not {self._size_bytes}"
            raise PeerDisagrees(str(peer), told)

    def _doubt_size(self) -> None:
        """Whoever sent wrong bytes may have told a wrong size as well."""
        if not self._size_is_vouched:
            self._size_bytes = None

    async def _mismatch(self, peers: list[Peer]) -> DigestMismatch:
        """Books wrong bytes that were noticed after some had left (rule 3); gives the error to raise."""
        now = self._ports.clock()
        for peer in peers:
            self._sources.lied(peer, now)
        self._given_up_until = now + GIVE_UP_S
        self._doubt_size()
        error = DigestMismatch(self.digest, ", ".join(str(peer) for peer in peers))
        log.warning("%s", error)
        try:
            await self._ports.discard_ingest(self.digest)
        except StoreUnavailable as exc:
            log.warning("what containerd holds of %s could not be thrown away: %s", self.digest, exc)
        return error


class _Verifier:
    """Hashes a stream in portions on a worker thread."""

    def __init__(self, digest: Digest) -> None:
        self._digest = digest
        self._hasher = digest.hasher()
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    async def take(self, chunk: bytes, *, last: bool) -> bool:
        """False: this was the last chunk and the digest does not match."""
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        if not last and self._pending_bytes < HASH_PORTION_BYTES:
            return True
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        await asyncio.to_thread(self._update, pending)
        return not last or self._hasher.hexdigest() == self._digest.encoded

    def _update(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._hasher.update(chunk)


async def _prepend(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for chunk in rest:
        yield chunk


async def _single(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data
