"""The registry API for this host's containerd: local content, then peers, then a quick 404.

Rules (measured on containerd 1.6, 1.7, 2.1)
1. To containerd a miss is a 404, a failure a 404 or a body ended by FIN; never 401, 408 or 429.
2. Headers leave when the first byte of the body is in hand: a body that ends before its first byte is asked for
   again, and four of them fail a pull.
3. What a request with the hop header asks for is never searched for at peers.
"""

from __future__ import annotations

import logging
import time

from aiohttp import web

from mirror.download.downloads import Downloads
from mirror.errors import ContentNotFound, MirrorError, StoreUnavailable
from mirror.metrics import Metrics
from mirror.oci.byterange import ByteRange, ByteSpan, RangeInvalid
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.distribution import (
    ByDigest,
    ByTag,
    DistributionRequest,
    NameInvalid,
    PathUnknown,
    ReferenceInvalid,
    parse_path,
)
from mirror.oci.errors import ErrorCode
from mirror.oci.manifest import MANIFEST_MAX_BYTES, ManifestInvalid
from mirror.peer.wire import HOP_HEADER
from mirror.registry.manifests import HeldManifest, ManifestCache
from mirror.registry.policy import Policy, closes_on_refused_tag
from mirror.store.base import ContentStore
from mirror.web.body import content_headers, error_response, range_error, send_blob, send_chunks, span_of

log = logging.getLogger(__name__)

FALLBACK_PREFIX = "/fallback"
BLOB_MEDIA_TYPE = "application/octet-stream"


class Registry:
    def __init__(self, store: ContentStore, downloads: Downloads, policy: Policy, metrics: Metrics) -> None:
        self._store = store
        self._downloads = downloads
        self._policy = policy
        self._metrics = metrics
        self._manifests = ManifestCache()
        self._draining = False
        self._app = web.Application(client_max_size=0)
        for prefix in ("", FALLBACK_PREFIX):
            self._app.router.add_route("*", prefix + "/v2", self._base)
            self._app.router.add_route("*", prefix + "/v2/", self._base)
            self._app.router.add_route("*", prefix + "/v2/{rest:.+}", self._content)
        self._app.router.add_route("*", "/{rest:.*}", self._unknown)

    @property
    def app(self) -> web.Application:
        return self._app

    def drain(self) -> None:
        """From now on what is not local is a miss. Running answers go on."""
        self._draining = True

    async def _base(self, request: web.Request) -> web.StreamResponse:
        refused = _refused_method(request)
        if refused is not None:
            return refused
        headers = {"Docker-Distribution-API-Version": "registry/2.0"}
        return web.json_response({}, headers=headers)

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        return error_response(
            ErrorCode.NAME_UNKNOWN, "the registry API is below /v2/", head=request.method == "HEAD"
        )

    async def _content(self, request: web.Request) -> web.StreamResponse:
        refused = _refused_method(request)
        if refused is not None:
            return refused
        head = request.method == "HEAD"
        fallback = request.path.startswith(FALLBACK_PREFIX)
        try:
            wanted = parse_path(request.path.removeprefix(FALLBACK_PREFIX), request.query.get("ns"))
        except PathUnknown as exc:
            return error_response(ErrorCode.NAME_UNKNOWN, str(exc), head=head)
        except NameInvalid as exc:
            return error_response(ErrorCode.NAME_INVALID, str(exc), head=head)
        except DigestInvalid as exc:
            return error_response(ErrorCode.DIGEST_INVALID, str(exc), head=head)
        except ReferenceInvalid as exc:
            return error_response(ErrorCode.MANIFEST_INVALID, str(exc), head=head)
        started_s = time.monotonic()
        answer = _Answer(request, wanted)
        try:
            response = await self._answer(answer, fallback)
        except RangeInvalid as exc:
            answer.outcome = "refused"
            response = range_error(exc)
        except MirrorError as exc:
            answer.outcome = "miss"
            answer.reason = str(exc)
            response = error_response(_unknown_code(wanted), str(exc), head=head)
        self._metrics.requests.labels("manifest" if wanted.is_manifest else "blob", answer.outcome).inc()
        log.debug(
            "%s %s %s: %s %s in %.0f ms",
            request.method,
            "manifest" if wanted.is_manifest else "blob",
            wanted.image_name,
            answer.outcome,
            answer.reason or response.status,
            (time.monotonic() - started_s) * 1000,
        )
        return response

    async def _answer(self, answer: _Answer, fallback: bool) -> web.StreamResponse:
        """Raises: RangeInvalid (416); every other MirrorError is a 404."""
        request, wanted = answer.request, answer.wanted
        refusal = self._policy.refusal(wanted)
        if refusal is not None:
            answer.outcome = "refused"
            return error_response(ErrorCode.NAME_UNKNOWN, refusal, head=request.method == "HEAD")
        match wanted.reference:
            case ByTag():
                answer.outcome = "refused"
                if fallback and closes_on_refused_tag(wanted, request.headers.get("User-Agent", "")):
                    return _hang_up(request)
                detail = "tags are the registry's to answer"
                return error_response(ErrorCode.MANIFEST_UNKNOWN, detail, head=request.method == "HEAD")
            case ByDigest(digest):
                answer.local_only = self._draining or HOP_HEADER in request.headers
                if wanted.is_manifest:
                    return await self._manifest(answer, digest)
                return await self._blob(answer, digest)

    async def _manifest(self, answer: _Answer, digest: Digest) -> web.StreamResponse:
        held = await self._held_manifest(answer, digest)
        # Each time: the sizes of the manifest that was asked for last are those of the blobs asked for next.
        self._downloads.learn_sizes(held.manifest)
        request, size_bytes = answer.request, len(held.data)
        span, partial = span_of(request, size_bytes)
        headers = content_headers(digest, held.manifest.media_type, span, size_bytes, partial)
        status = 206 if partial else 200
        if request.method == "HEAD":
            response = web.StreamResponse(status=status, headers=headers)
            await response.prepare(request)
            return response
        del headers["Content-Length"]  # aiohttp takes it from the body, and sends both in one segment
        self._metrics.bytes.labels(answer.outcome).inc(span.length_bytes)
        return web.Response(status=status, headers=headers, body=held.data[span.start : span.stop])

    async def _held_manifest(self, answer: _Answer, digest: Digest) -> HeldManifest:
        """Raises: ManifestInvalid, ContentNotFound, TransferError."""
        held = self._manifests.get(digest)
        if held is not None:
            answer.outcome = "local" if self._store.size_bytes(digest) is not None else "peer"
            return held
        try:
            data = await self._local_manifest(digest)
            answer.outcome = "local"
        except (ContentNotFound, StoreUnavailable):
            if answer.local_only:
                raise
            async with self._downloads.join(digest) as download:
                data = await download.whole(MANIFEST_MAX_BYTES)
            answer.outcome = "peer"
        return self._manifests.put(digest, data)

    async def _local_manifest(self, digest: Digest) -> bytes:
        blob = await self._store.open(digest)
        try:
            if blob.size_bytes > MANIFEST_MAX_BYTES:
                raise ManifestInvalid(f"{digest} has {blob.size_bytes} bytes: no manifest is that large")
            return b"".join([chunk async for chunk in blob.chunks(ByteSpan(0, blob.size_bytes))])
        finally:
            blob.close()

    async def _blob(self, answer: _Answer, digest: Digest) -> web.StreamResponse:
        request = answer.request
        try:
            blob = await self._store.open(digest)
        except (ContentNotFound, StoreUnavailable):
            if answer.local_only:
                raise
            return await self._blob_from_peers(answer, digest)
        answer.outcome = "local"
        return await send_blob(
            request, blob, digest, BLOB_MEDIA_TYPE, self._metrics.bytes.labels("local").inc
        )

    async def _blob_from_peers(self, answer: _Answer, digest: Digest) -> web.StreamResponse:
        request = answer.request
        async with self._downloads.join(digest) as download:
            if request.method == "HEAD":
                size_bytes = await download.size_bytes()
                answer.outcome = "peer"
                span = ByteSpan(0, size_bytes)
                response = web.StreamResponse(
                    headers=content_headers(digest, BLOB_MEDIA_TYPE, span, size_bytes, partial=False)
                )
                await response.prepare(request)
                return response
            byte_range = ByteRange.parse(request.headers.get("Range"))
            started_s = time.monotonic()
            async with download.read(byte_range) as reading:
                answer.outcome = "peer"
                partial = byte_range is not None
                response = web.StreamResponse(
                    status=206 if partial else 200,
                    headers=content_headers(
                        digest, BLOB_MEDIA_TYPE, reading.span, reading.size_bytes, partial
                    ),
                )
                with self._metrics.readers.track_inprogress():
                    done = await send_chunks(
                        request, response, reading.chunks, self._metrics.bytes.labels("peer").inc
                    )
            if done:
                log.info(
                    "delivered from peers",
                    extra={
                        "digest": str(digest),
                        "image": f"{answer.wanted.registry}/{answer.wanted.repository}",
                        "bytes": reading.span.length_bytes,
                        "seconds": round(time.monotonic() - started_s, 3),
                    },
                )
            return response


class _Answer:
    """What is told of a request in the log and the metrics, filled in on the way."""

    def __init__(self, request: web.Request, wanted: DistributionRequest) -> None:
        self.request = request
        self.wanted = wanted
        self.local_only = False
        self.outcome = "miss"
        self.reason = ""


def _unknown_code(wanted: DistributionRequest) -> ErrorCode:
    return ErrorCode.MANIFEST_UNKNOWN if wanted.is_manifest else ErrorCode.BLOB_UNKNOWN


def _refused_method(request: web.Request) -> web.Response | None:
    if request.method in ("GET", "HEAD"):
        return None
    return error_response(ErrorCode.UNSUPPORTED, "this mirror only answers pulls", {"Allow": "GET, HEAD"})


def _hang_up(request: web.Request) -> web.StreamResponse:
    """Ends the connection without an answer."""
    if request.transport is not None:
        request.transport.close()
    return web.Response(status=404)
