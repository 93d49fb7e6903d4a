"""Content by digest for this host's clients: the store, then the herd, then, with a relay, the origin. Knows no tags.

What a request with the hop header asks for is never searched for.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from mirror.errors import ContentNotFound, MirrorError, StoreUnavailable, TransferError
from mirror.herd.errors import Missed
from mirror.herd.herd import Herd
from mirror.herd.reading import Reading as HerdReading
from mirror.metrics import Metrics
from mirror.oci.byterange import ByteRange, ByteSpan
from mirror.oci.digest import Digest
from mirror.oci.distribution import DistributionRequest
from mirror.oci.manifest import MANIFEST_MAX_BYTES, MANIFEST_MEDIA_TYPES, ManifestInvalid
from mirror.origin.base import FetchedManifest, Repository
from mirror.origin.errors import OriginAbsent
from mirror.peer.connection import STALL_TIMEOUT_S
from mirror.registry.manifests import HeldManifest, ManifestCache
from mirror.relay.reading import Reading
from mirror.steer.events import RefusalKind
from mirror.store.base import ContentStore
from mirror.web.body import content_headers, cut, send_blob, send_chunks, send_span, span_of
from mirror.web.splice import End, Moved, outlet

log = logging.getLogger(__name__)

BLOB_MEDIA_TYPE = "application/octet-stream"
# The words of the metrics and the log.
LOCAL, PEER, ORIGIN = "local", "peer", "origin"


class Answer:
    """One request, and what is told of it in the log and the metrics, filled in on the way. `is_local_only`: nothing is
    searched for. `is_relayed`: what no peer has may be fetched from the origin."""

    def __init__(self, request: web.Request, wanted: DistributionRequest) -> None:
        self.request = request
        self.wanted = wanted
        self.is_local_only = False
        self.is_relayed = True
        self.at_fallback = False
        # What the origin said to an anonymous question after it failed this host.
        self.refusal_kind = RefusalKind.NOT_ASKED
        self.headers: dict[str, str] = {}
        self.outcome = "miss"
        self.reason = ""

    @property
    def repository(self) -> Repository:
        return Repository(self.wanted.registry, self.wanted.repository)


class Relaying(Protocol):
    """As `mirror.relay.relay.Relay` has it. Raises: TransferError."""

    async def manifest(self, repository: Repository, reference: str) -> FetchedManifest: ...

    async def size_bytes(self, repository: Repository, digest: Digest) -> int: ...

    def blob(
        self, repository: Repository, digest: Digest, byte_range: ByteRange | None
    ) -> AbstractAsyncContextManager[Reading]: ...


@dataclass(frozen=True, slots=True)
class Content:
    """`relay` None: what no peer has is a miss."""

    store: ContentStore
    herd: Herd
    relay: Relaying | None
    metrics: Metrics
    manifests: ManifestCache

    # -- manifests

    async def send_manifest(self, answer: Answer, held: HeldManifest, digest: Digest) -> web.StreamResponse:
        # Each time: the sizes of the manifest that was asked for last are those of the blobs asked for next.
        self.herd.learn_sizes(held.manifest)
        request, size_bytes = answer.request, len(held.data)
        span, partial = span_of(request, size_bytes)
        headers = content_headers(digest, held.manifest.media_type, span, size_bytes, partial)
        headers.update(answer.headers)
        status = 206 if partial else 200
        if request.method == "HEAD":
            response = web.StreamResponse(status=status, headers=headers)
            await response.prepare(request)
            return response
        del headers["Content-Length"]  # aiohttp takes it from the body, and sends both in one segment
        self.metrics.bytes.labels(answer.outcome).inc(span.length_bytes)
        return web.Response(status=status, headers=headers, body=held.data[span.start : span.stop])

    async def held_manifest(self, answer: Answer, digest: Digest) -> HeldManifest:
        """Verified. Raises: ManifestInvalid, ContentNotFound, StoreUnavailable, TransferError."""
        held = self.manifests.get(digest)
        if held is not None:
            answer.outcome = LOCAL if self.store.size_bytes(digest) is not None else PEER
            return held
        try:
            data = await self._local_manifest(digest)
            answer.outcome = LOCAL
        except (ContentNotFound, StoreUnavailable):
            if answer.is_local_only:
                raise
            data = await self._distant_manifest(answer, digest)
        return self.manifests.put(digest, data)

    async def is_manifest(self, answer: Answer, digest: Digest) -> bool:
        """Whether the bytes are a manifest: registries give those below /blobs, too, and containerd asks there after a
        404 (measured, by a HEAD of 2.1). Raises: ContentNotFound, StoreUnavailable, TransferError."""
        size_bytes = self.store.size_bytes(digest)
        if size_bytes is None and not answer.is_local_only:
            size_bytes = await self._distant_size_bytes(answer, digest)
        if size_bytes is None or size_bytes > MANIFEST_MAX_BYTES:
            return False
        try:
            await self.held_manifest(answer, digest)
        except (ManifestInvalid, OriginAbsent):
            return False
        return True

    async def is_whole(self, answer: Answer, held: HeldManifest, digest: Digest) -> bool:
        """Whether this host will finish what the manifest names, for clients that choose a mirror once: all of it is
        here, or the origin gives it to the relay."""
        children = held.manifest.children
        # What an index names is not all wanted, and which of it is, is not known here.
        is_index = any(child.media_type in MANIFEST_MEDIA_TYPES for child in children)
        if not is_index and all(self.store.size_bytes(child.digest) is not None for child in children):
            return True
        if self.relay is None:
            return False
        try:
            await self.relay.manifest(answer.repository, str(digest))
        except TransferError as exc:
            answer.reason = str(exc)
            return False
        return True

    async def note_refusal(self, answer: Answer, digest: Digest) -> None:
        """The origin refused this host a manifest that is not given here either: claims end by it."""
        with contextlib.suppress(MirrorError):
            async with self._asked(answer, digest) as reading:
                await reading.whole(MANIFEST_MAX_BYTES)

    @contextlib.asynccontextmanager
    async def _asked(self, answer: Answer, digest: Digest) -> AsyncIterator[HerdReading]:
        """Raises: Missed."""
        request = answer.request
        is_head = request.method == "HEAD"
        async with self.herd.ask(
            digest,
            None if is_head or answer.wanted.is_manifest else ByteRange.parse(request.headers.get("Range")),
            registry=answer.wanted.registry,
            is_manifest=answer.wanted.is_manifest,
            is_head=is_head,
            at_fallback=answer.at_fallback,
            # containerd names what the manifest says first, and all others behind it.
            media_type=request.headers.get("Accept", "").partition(",")[0].strip(),
        ) as reading:
            if answer.at_fallback:
                reading.origin_refused(answer.refusal_kind)
            yield reading

    async def _distant_manifest(self, answer: Answer, digest: Digest) -> bytes:
        try:
            async with self._asked(answer, digest) as reading:
                data = await reading.whole(MANIFEST_MAX_BYTES)
        except TransferError:
            if self.relay is None or not answer.is_relayed:
                raise
            fetched = await self.relay.manifest(answer.repository, str(digest))
            answer.outcome = ORIGIN
            return fetched.data
        answer.outcome = PEER
        return data

    async def _local_manifest(self, digest: Digest) -> bytes:
        blob = await self.store.open(digest)
        try:
            if blob.size_bytes > MANIFEST_MAX_BYTES:
                raise ManifestInvalid(f"{digest} has {blob.size_bytes} bytes: no manifest is that large")
            return b"".join([chunk async for chunk in blob.chunks(ByteSpan(0, blob.size_bytes))])
        finally:
            blob.close()

    # -- blobs

    async def send_blob(self, answer: Answer, digest: Digest) -> web.StreamResponse:
        """Raises: RangeInvalid, ContentNotFound, StoreUnavailable, TransferError, all before the first byte."""
        try:
            blob = await self.store.open(digest)
        except (ContentNotFound, StoreUnavailable):
            if answer.is_local_only:
                raise
            if digest.matches(b""):
                return await self._empty(answer, digest)
            if answer.request.method == "HEAD":
                return await self._distant_head(answer, digest)
            return await self._distant_blob(answer, digest)
        answer.outcome = LOCAL
        count_bytes = self.metrics.bytes.labels(LOCAL).inc
        return await send_blob(answer.request, blob, digest, BLOB_MEDIA_TYPE, count_bytes)

    async def _empty(self, answer: Answer, digest: Digest) -> web.StreamResponse:
        """Everybody has it."""
        span, partial = span_of(answer.request, 0)
        headers = content_headers(digest, BLOB_MEDIA_TYPE, span, 0, partial)
        response = web.StreamResponse(headers=headers)
        await response.prepare(answer.request)
        return response

    async def _distant_size_bytes(self, answer: Answer, digest: Digest) -> int:
        try:
            async with self.herd.ask(
                digest,
                None,
                registry=answer.wanted.registry,
                is_manifest=False,
                is_head=True,
                at_fallback=answer.at_fallback,
            ) as reading:
                await reading.begin()
                size_bytes = reading.size_bytes
            answer.outcome = PEER
        except TransferError:
            if self.relay is None or not answer.is_relayed:
                raise
            size_bytes = await self.relay.size_bytes(answer.repository, digest)
            answer.outcome = ORIGIN
        return size_bytes

    async def _distant_head(self, answer: Answer, digest: Digest) -> web.StreamResponse:
        size_bytes = await self._distant_size_bytes(answer, digest)
        span = ByteSpan(0, size_bytes)
        headers = content_headers(digest, BLOB_MEDIA_TYPE, span, size_bytes, partial=False)
        response = web.StreamResponse(headers=headers)
        await response.prepare(answer.request)
        return response

    async def _distant_blob(self, answer: Answer, digest: Digest) -> web.StreamResponse:
        started_s = time.monotonic()
        async with AsyncExitStack() as attempt:
            reading = await attempt.enter_async_context(self._asked(answer, digest))
            try:
                span = await reading.begin()
            except Missed:
                if self.relay is None or not answer.is_relayed:
                    raise
            else:
                answer.outcome = PEER
                partial = reading.byte_range is not None
                headers = content_headers(digest, BLOB_MEDIA_TYPE, span, reading.size_bytes, partial)
                response = web.StreamResponse(status=206 if partial else 200, headers=headers)
                with self.metrics.readers.track_inprogress():
                    done = await self._send_reading(answer.request, response, reading)
                if done:
                    self._log_delivery(answer, digest, span, started_s)
                return response
        return await self._relayed_blob(answer, digest, started_s)

    async def _send_reading(
        self, request: web.Request, response: web.StreamResponse, reading: HerdReading
    ) -> bool:
        """Whether all was sent."""
        await response.prepare(request)
        try:
            while not reading.is_over:
                send = self._send_portions if reading.stream is None else self._send_stream
                if not await send(request, response, reading):
                    return False
        except MirrorError as exc:
            log.info("a body was ended early: %s", exc)
            cut(request, response)
            return False
        return True

    async def _send_portions(
        self, request: web.Request, response: web.StreamResponse, reading: HerdReading
    ) -> bool:
        """False: the body has been cut."""
        count_bytes = self.metrics.bytes.labels(PEER).inc
        async with aclosing(reading.portions()) as portions:
            async for portion in portions:
                if not await send_span(request, response, portion.descriptor, portion.span):
                    return False
                count_bytes(portion.span.length_bytes)
        return True

    async def _send_stream(
        self, request: web.Request, response: web.StreamResponse, reading: HerdReading
    ) -> bool:
        """As far as it brings the body. False: the body has been cut."""
        stream = reading.stream
        assert stream is not None
        if reading.stretch() is None:
            return True
        try:
            await response.write(stream.first)
        except ConnectionError:
            cut(request, response)
            return False
        self._count_stream(reading, Moved(len(stream.first), End.ALL))
        async with outlet(request) as out:
            while (span := reading.stretch()) is not None:
                moved = await out.take(stream.sock, span.length_bytes, silence_s=STALL_TIMEOUT_S)
                self._count_stream(reading, moved)
                match moved.end:
                    case End.CLIENT_GONE:
                        cut(request, response)
                        return False
                    case End.SOURCE_SILENT:
                        reading.broke(stream.stalled())
                    case End.SOURCE_ENDED | End.SOURCE_FAILED:
                        reading.broke(stream.broke(moved.reason or "it closed the connection"))
                    case End.ALL:
                        pass
        return True

    def _count_stream(self, reading: HerdReading, moved: Moved) -> None:
        self.metrics.bytes.labels(PEER).inc(moved.count_bytes)
        self.metrics.spliced_bytes.inc(moved.count_bytes)
        reading.streamed(moved.count_bytes, moved.waited_s)

    async def _relayed_blob(self, answer: Answer, digest: Digest, started_s: float) -> web.StreamResponse:
        assert self.relay is not None
        byte_range = ByteRange.parse(answer.request.headers.get("Range"))
        async with self.relay.blob(answer.repository, digest, byte_range) as reading:
            answer.outcome = ORIGIN
            partial = byte_range is not None
            response = web.StreamResponse(
                status=206 if partial else 200,
                headers=content_headers(digest, BLOB_MEDIA_TYPE, reading.span, reading.size_bytes, partial),
            )
            count_bytes = self.metrics.bytes.labels(ORIGIN).inc
            with self.metrics.readers.track_inprogress():
                done = await send_chunks(answer.request, response, reading.chunks, count_bytes)
        if done:
            self._log_delivery(answer, digest, reading.span, started_s)
        return response

    def _log_delivery(self, answer: Answer, digest: Digest, span: ByteSpan, started_s: float) -> None:
        log.info(
            "delivered from peers" if answer.outcome == PEER else "delivered from the origin",
            extra={
                "digest": str(digest),
                "image": str(answer.repository),
                "bytes": span.length_bytes,
                "seconds": round(time.monotonic() - started_s, 3),
            },
        )
