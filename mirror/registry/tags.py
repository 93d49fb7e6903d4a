"""A tag that a client asks for: whether it is answered here, and with which manifest.

Rules
1. What `mirror.tags.rules` refuses is refused; at the fallback host in the way that leaves the user the origin's words.
2. A client that chooses a mirror once has no fallback host to ask: with a relay it is answered as if the origin had
   failed it. It gets no manifest of which this host would not finish every blob.
3. An answer without the registry's word says so: `Warning: 110` (RFC 7234 §5.5.1), a line in the log, a metric.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from mirror.errors import ContentNotFound, MirrorError
from mirror.metrics import Metrics
from mirror.oci.digest import Digest
from mirror.oci.errors import ErrorCode
from mirror.origin.base import ManifestHead
from mirror.registry.content import ORIGIN, Answer, Content
from mirror.registry.fallback import OriginFailures
from mirror.registry.policy import closes_on_refused_tag
from mirror.tags.answers import TagAnswers
from mirror.tags.base import TagName
from mirror.tags.rules import AskedAt, Refuse, Stale
from mirror.web.body import error_response
from mirror.web.ending import hang_up

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TagRequests:
    tags: TagAnswers
    content: Content
    failures: OriginFailures
    metrics: Metrics

    async def answer(
        self, answer: Answer, tag: str, *, at_fallback: bool, chooses_once: bool
    ) -> web.StreamResponse:
        """Raises: MirrorError where the manifest cannot be had: a miss."""
        name = TagName(answer.repository, tag)
        as_fallback = at_fallback or (chooses_once and self.content.relay is not None)
        told = await self.tags.answer(name, AskedAt.FALLBACK_HOST if as_fallback else AskedAt.FIRST_HOST)
        if at_fallback:
            self.failures.record(answer.wanted, told.probed)
        given = told.answer
        if isinstance(given, Refuse):
            self.metrics.tags.labels("refused").inc()
            answer.reason = given.why.value
            return self.refuse(answer, given.why.value, at_fallback=at_fallback)
        digest, outcome, head = given.digest, "fresh", None
        if isinstance(given, Stale):
            outcome = "stale"
            answer.headers["Warning"] = f'110 peili "{_words(given)}"'
        elif told.probed is not None:
            head = told.probed.head
        try:
            response = await self._manifest(answer, digest, head, chooses_once=chooses_once)
        except MirrorError as exc:
            self.metrics.tags.labels("missing").inc()
            answer.reason = str(exc)
            return self.refuse(answer, f"{digest} is at no host: {exc}", at_fallback=at_fallback)
        self.metrics.tags.labels(outcome).inc()
        if outcome == "stale":
            log.warning(
                "a tag was answered without the registry's word",
                extra={"image": str(name), "digest": str(digest), "why": answer.headers["Warning"]},
            )
        return response

    def refuse(self, answer: Answer, why: str, *, at_fallback: bool) -> web.StreamResponse:
        answer.outcome = "refused"
        user_agent = answer.request.headers.get("User-Agent", "")
        if at_fallback and closes_on_refused_tag(answer.wanted, user_agent):
            return _hang_up(answer.request)
        return error_response(ErrorCode.MANIFEST_UNKNOWN, why, head=answer.request.method == "HEAD")

    async def _manifest(
        self, answer: Answer, digest: Digest, head: ManifestHead | None, *, chooses_once: bool
    ) -> web.StreamResponse:
        try:
            held = await self.content.held_manifest(answer, digest)
        except MirrorError:
            # Without a relay nobody here would give what the head promises: the user shall read why the registry
            # refused him, and not that we have nothing.
            if head is None or chooses_once or self.content.relay is None or answer.request.method != "HEAD":
                raise
            # The registry has just said all that a HEAD tells.
            answer.outcome = ORIGIN
            return await _send_head(answer, head)
        if chooses_once and not await self.content.is_whole(answer, held, digest):
            raise ContentNotFound(f"not all of {digest} would come from this host")
        return await self.content.send_manifest(answer, held, digest)


async def _send_head(answer: Answer, head: ManifestHead) -> web.StreamResponse:
    headers = {
        "Content-Type": head.media_type,
        "Content-Length": str(head.size_bytes),
        "Docker-Content-Digest": str(head.digest),
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(answer.request)
    return response


def _words(stale: Stale) -> str:
    if stale.pulled_at_s <= 0:
        return stale.why.value
    when = datetime.fromtimestamp(stale.pulled_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{stale.why.value}; as pulled at {when}"


def _hang_up(request: web.Request) -> web.StreamResponse:
    """Ends the connection without an answer."""
    hang_up(request)
    return web.Response(status=404)
