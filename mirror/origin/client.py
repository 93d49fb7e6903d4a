"""Asks the endpoints of a registry's route for heads, manifests and blobs: implements `Origin`.

Rules
1. The endpoints are asked in order, those that may not resolve only for content by digest, and the first good answer
   is the answer. When all fail, the error is the last one's, which is the registry itself: what a mirror of the user
   does not have or give says nothing of the registry.
2. A GET that was answered 5xx, or cut before its headers, is sent once more after a short pause. A GET that was
   answered 429 with a Retry-After waits, if all its waiting stays within `PATIENCE_S`. A HEAD does neither: it asks
   how things stand.
3. Equal questions for heads and manifests share one answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar

from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MANIFEST_MAX_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    ManifestInvalid,
    parse_manifest,
)
from mirror.origin import answers
from mirror.origin.asker import GOOD, Asker, Question
from mirror.origin.base import Endpoint, FetchedManifest, ManifestHead, OriginBody, Repository, Routes
from mirror.origin.body import HttpBody
from mirror.origin.connections import Connections, OriginHiccup, Timeouts
from mirror.origin.credentials import Credentials
from mirror.origin.errors import (
    OriginError,
    OriginFailing,
    OriginNonsense,
    OriginRateLimited,
)
from mirror.origin.exchange import Arrival, whole
from mirror.origin.flights import Flights
from mirror.origin.guard import Guard
from mirror.origin.proxies import Proxies

# Behind it stands somebody's pull, and containerd's user waits.
PATIENCE_S: Final = 10.0
# Long enough for a restarted server behind a load balancer, and spread so that hosts do not come back together.
RETRY_PAUSE_S: Final = (0.2, 0.6)
# From a manifest's headers to its end: 4 MiB at the slowest rate that is of use.
MANIFEST_READ_TIMEOUT_S: Final = 30.0

# As containerd's resolver asks (measured on 1.6, 1.7 and 2.1).
MANIFEST_ACCEPT: Final = ", ".join([DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"])
# Servers that know no HEAD of a manifest.
_NO_HEAD: Final = frozenset({405, 501})

Answer = TypeVar("Answer")


class OriginClient:
    """Use as an async context manager. `clock` is monotonic."""

    def __init__(
        self,
        routes: Routes,
        credentials: Credentials,
        guard: Guard,
        clock: Callable[[], float],
        *,
        unix_clock: Callable[[], float] = time.time,
        proxies: Proxies | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`proxies` None: by the environment."""
        self._routes = routes
        proxies = Proxies.of(os.environ) if proxies is None else proxies
        self._connections = Connections(guard, clock, proxies, timeouts or Timeouts())
        self._asker = Asker(self._connections, credentials, clock, unix_clock)
        self._heads: Flights[tuple[Repository, str, bool], ManifestHead] = Flights()
        self._manifests: Flights[tuple[Repository, str, bool], FetchedManifest] = Flights()

    async def __aenter__(self) -> OriginClient:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._connections.__aexit__(*exc_info)

    # --- what is asked

    async def head(self, repository: Repository, reference: str, *, is_anonymous: bool) -> ManifestHead:
        async def ask(endpoint: Endpoint) -> ManifestHead:
            return await self._head(endpoint, repository, reference, is_anonymous)

        key = (repository, reference, is_anonymous)
        return await self._heads.share(
            key, lambda: self._over_route(repository, ask, is_tag=":" not in reference)
        )

    async def manifest(
        self, repository: Repository, reference: str, *, is_anonymous: bool
    ) -> FetchedManifest:
        async def ask(endpoint: Endpoint) -> FetchedManifest:
            return await self._manifest(endpoint, repository, reference, is_anonymous, is_patient=True)

        key = (repository, reference, is_anonymous)
        return await self._manifests.share(
            key, lambda: self._over_route(repository, ask, is_tag=":" not in reference)
        )

    @contextlib.asynccontextmanager
    async def blob(
        self, repository: Repository, digest: Digest, start: int, stop: int | None, *, is_anonymous: bool
    ) -> AsyncIterator[OriginBody]:
        is_whole = start == 0 and stop is None
        ranges = () if is_whole else (("Range", f"bytes={start}-{'' if stop is None else stop - 1}"),)
        headers = (("Accept", "*/*"), *ranges)
        question = Question(repository, "GET", f"blobs/{digest}", headers, is_anonymous)
        async with contextlib.AsyncExitStack() as stack:

            async def ask(endpoint: Endpoint) -> OriginBody:
                async with contextlib.AsyncExitStack() as attempt:
                    arrival = await attempt.enter_async_context(self._get(endpoint, question))
                    response, where = arrival.response, arrival.where
                    answers.check_encoding(where, response.headers)
                    span, size_bytes = answers.blob_span(
                        where, response.status, response.headers, start, stop
                    )
                    stack.push_async_exit(attempt.pop_all())
                    between_bytes_s = self._connections.timeouts.between_bytes_s
                    return HttpBody(where, span, size_bytes, response, between_bytes_s)

            yield await self._over_route(repository, ask)

    # --- one endpoint

    async def _over_route(
        self, repository: Repository, ask: Callable[[Endpoint], Awaitable[Answer]], *, is_tag: bool = False
    ) -> Answer:
        last: OriginError = OriginFailing(str(repository), "has no endpoint that may be asked")
        for endpoint in await self._routes.route(repository.registry):
            if is_tag and not endpoint.can_resolve:
                continue
            try:
                return await ask(endpoint)
            except OriginError as exc:
                last = exc
        raise last

    async def _head(
        self, endpoint: Endpoint, repository: Repository, reference: str, is_anonymous: bool
    ) -> ManifestHead:
        accept = (("Accept", MANIFEST_ACCEPT),)
        question = Question(
            repository, "HEAD", f"manifests/{reference}", accept, is_anonymous, GOOD | _NO_HEAD
        )
        async with self._asker.once(endpoint, question) as arrival:
            if arrival.response.status in GOOD:
                wanted = _digest(reference)
                head = answers.manifest_head(arrival.where, arrival.response.headers, wanted)
                if head is not None:
                    return head
        fetched = await self._manifest(endpoint, repository, reference, is_anonymous, is_patient=False)
        return ManifestHead(fetched.digest, fetched.media_type, len(fetched.data))

    async def _manifest(
        self,
        endpoint: Endpoint,
        repository: Repository,
        reference: str,
        is_anonymous: bool,
        *,
        is_patient: bool,
    ) -> FetchedManifest:
        accept = (("Accept", MANIFEST_ACCEPT),)
        question = Question(repository, "GET", f"manifests/{reference}", accept, is_anonymous)
        opened = self._get(endpoint, question) if is_patient else self._asker.once(endpoint, question)
        async with opened as arrival:
            headers = arrival.response.headers
            answers.check_encoding(arrival.where, headers)
            data = await whole(arrival, MANIFEST_MAX_BYTES, MANIFEST_READ_TIMEOUT_S)
            digest = _digest(reference) or answers.told_digest(headers) or Digest.of(data)
            if not digest.matches(data):
                raise OriginNonsense(arrival.where, f"sent other bytes than those of {digest} for {question}")
            try:
                media_type = parse_manifest(data).media_type
            except ManifestInvalid as exc:
                raise OriginNonsense(
                    arrival.where, f"sent what cannot be served for {question}: {exc}"
                ) from exc
            return FetchedManifest(digest, media_type, data)

    @contextlib.asynccontextmanager
    async def _get(self, endpoint: Endpoint, question: Question) -> AsyncIterator[Arrival]:
        """Rule 2."""
        waited_s, has_retried = 0.0, False
        async with contextlib.AsyncExitStack() as stack:
            arrival: Arrival | None = None
            while arrival is None:
                try:
                    arrival = await stack.enter_async_context(self._asker.once(endpoint, question))
                    continue
                except OriginRateLimited as exc:
                    pause_s = exc.retry_after_s
                    if not 0 < pause_s <= PATIENCE_S - waited_s:
                        raise
                    waited_s += pause_s
                except OriginHiccup:
                    if has_retried:
                        raise
                    has_retried = True
                    pause_s = random.uniform(*RETRY_PAUSE_S)
                await asyncio.sleep(pause_s)
            yield arrival


def _digest(reference: str) -> Digest | None:
    if ":" not in reference:
        return None
    try:
        return Digest.parse(reference)
    except DigestInvalid as exc:
        raise OriginNonsense(reference[:140], "is no reference that can be asked for") from exc
