"""The registry API for this host's clients: reads what is asked for, and hands it to who answers.

Rules (measured on containerd 1.6, 1.7, 2.1)
1. To containerd a miss is a 404, a failure a 404 or a body ended by FIN; never 401, 408 or 429.
2. Headers leave when the first byte of the body is in hand: a body that ends before its first byte is asked for
   again, and four of them fail a pull.
3. Below /fallback stands the host that containerd asks behind the origin; see `mirror.registry.fallback`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from mirror.errors import MirrorError
from mirror.metrics import Metrics
from mirror.oci.byterange import RangeInvalid
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
from mirror.peer.wire import HOP_HEADER
from mirror.registry.content import Answer, Content
from mirror.registry.fallback import OriginFailures
from mirror.registry.policy import PROTECTED, Policy, chooses_once
from mirror.registry.tags import TagRequests
from mirror.web.body import error_response, range_error

log = logging.getLogger(__name__)

FALLBACK_PREFIX = "/fallback"


@dataclass(frozen=True, slots=True)
class Answerers:
    """`saw_registry` is told of each registry that containerd asks for."""

    content: Content
    tags: TagRequests
    failures: OriginFailures
    saw_registry: Callable[[str], None]


class Registry:
    def __init__(self, answerers: Answerers, policy: Policy, metrics: Metrics) -> None:
        self._answerers = answerers
        self._policy = policy
        self._metrics = metrics
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
        at_fallback = request.path.startswith(FALLBACK_PREFIX)
        namespace = request.query.get("ns")
        try:
            wanted = parse_path(request.path.removeprefix(FALLBACK_PREFIX), namespace)
        except PathUnknown as exc:
            return error_response(ErrorCode.NAME_UNKNOWN, str(exc), head=head)
        except NameInvalid as exc:
            return error_response(ErrorCode.NAME_INVALID, str(exc), head=head)
        except DigestInvalid as exc:
            return error_response(ErrorCode.DIGEST_INVALID, str(exc), head=head)
        except ReferenceInvalid as exc:
            return error_response(ErrorCode.MANIFEST_INVALID, str(exc), head=head)
        if namespace:
            self._answerers.saw_registry(wanted.registry)
        started_s = time.monotonic()
        answer = Answer(request, wanted)
        answer.is_local_only = self._draining or HOP_HEADER in request.headers
        # Where the origin has just failed this host, it would fail it again.
        answer.is_relayed = not at_fallback
        answer.at_fallback = at_fallback
        try:
            response = await self._answer(answer, at_fallback=at_fallback)
        except RangeInvalid as exc:
            answer.outcome = "refused"
            response = range_error(exc)
        except MirrorError as exc:
            answer.outcome = "miss"
            answer.reason = str(exc)
            response = error_response(_unknown_code(wanted), str(exc), head=head)
        self._metrics.requests.labels("manifest" if wanted.is_manifest else "blob", answer.outcome).inc()
        log.debug(
            "%s %s %s%s: %s %s in %.0f ms",
            request.method,
            "manifest" if wanted.is_manifest else "blob",
            wanted.image_name,
            " at the fallback host" if at_fallback else "",
            answer.outcome,
            answer.reason or response.status,
            (time.monotonic() - started_s) * 1000,
        )
        return response

    async def _answer(self, answer: Answer, *, at_fallback: bool) -> web.StreamResponse:
        """Raises: RangeInvalid (416); every other MirrorError is a 404."""
        request, wanted = answer.request, answer.wanted
        refusal = self._policy.refusal(wanted)
        if refusal is not None:
            return self._refuse(answer, refusal, ErrorCode.NAME_UNKNOWN, at_fallback=at_fallback)
        is_choice = chooses_once(request.query.get("ns"), request.headers.get("User-Agent", ""))
        match wanted.reference:
            case ByTag(tag):
                return await self._answerers.tags.answer(
                    answer, tag, at_fallback=at_fallback, chooses_once=is_choice
                )
            case ByDigest(digest) if wanted.is_manifest:
                return await self._manifest(answer, digest, at_fallback=at_fallback, is_choice=is_choice)
            case ByDigest(digest):
                if at_fallback:
                    self._answerers.failures.record(wanted, None)
                content = self._answerers.content
                if self._policy.is_protected(wanted) and await content.is_manifest(answer, digest):
                    refusal = PROTECTED.format(wanted.image_name)
                    return self._refuse(answer, refusal, ErrorCode.BLOB_UNKNOWN, at_fallback=at_fallback)
                return await content.send_blob(answer, digest)

    async def _manifest(
        self, answer: Answer, digest: Digest, *, at_fallback: bool, is_choice: bool
    ) -> web.StreamResponse:
        content = self._answerers.content
        if at_fallback:
            failures = self._answerers.failures
            refusal, answer.refusal_kind = await failures.refusal_of_manifest(answer.wanted, str(digest))
            if refusal is not None:
                await content.note_refusal(answer, digest)
                return self._refuse(answer, refusal, ErrorCode.MANIFEST_UNKNOWN, at_fallback=True)
        held = await content.held_manifest(answer, digest)
        if is_choice and not await content.is_whole(answer, held, digest):
            why = answer.reason or "a relay is not on"
            refusal = f"not all of it would come from this host: {why}"
            return self._refuse(answer, refusal, ErrorCode.MANIFEST_UNKNOWN, at_fallback=at_fallback)
        return await content.send_manifest(answer, held, digest)

    def _refuse(self, answer: Answer, why: str, code: ErrorCode, *, at_fallback: bool) -> web.StreamResponse:
        answer.reason = why
        if isinstance(answer.wanted.reference, ByTag):
            return self._answerers.tags.refuse(answer, why, at_fallback=at_fallback)
        answer.outcome = "refused"
        return error_response(code, why, head=answer.request.method == "HEAD")


def _unknown_code(wanted: DistributionRequest) -> ErrorCode:
    return ErrorCode.MANIFEST_UNKNOWN if wanted.is_manifest else ErrorCode.BLOB_UNKNOWN


def _refused_method(request: web.Request) -> web.Response | None:
    if request.method in ("GET", "HEAD"):
        return None
    return error_response(ErrorCode.UNSUPPORTED, "this mirror only answers pulls", {"Allow": "GET, HEAD"})
