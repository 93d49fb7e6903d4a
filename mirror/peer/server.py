"""Serves this host's blobs to peers, and its records of tags.

Never searches further: what is not here is a 404 (the hop guard by design).
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from aiohttp import web

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.byterange import ByteSpan, RangeInvalid
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.errors import ErrorCode
from mirror.peer import busy, wire
from mirror.peer.slots import UploadSlots
from mirror.peer.strangers import Strangers
from mirror.peer.tag_answer import TagAnswer, encode
from mirror.secret import Subkey
from mirror.store.base import ContentStore
from mirror.tags.base import TagName
from mirror.tags.image_name import parse_tag_name
from mirror.web.body import content_headers, error_response, range_error, send_blob, send_span, span_of
from mirror.web.gate import ConnectionLimits

# Anybody who reaches the port can hold connections, each a descriptor and some buffers; by default a process has 1,024
# descriptors, of which the registry needs its share. Channels (128), slots (32), and idle ones of as many peers again.
# One host asks in up to 64 requests at once, and has a channel. A request comes within a round trip of the connection,
# or a lost packet. Peers end idle connections themselves after 15 s.
CONNECTIONS = ConnectionLimits(all_max_count=384, address_max_count=96, first_request_s=5.0, keepalive_s=30.0)

TellTag = Callable[[TagName], TagAnswer | None]


class Portion(Protocol):
    """Bytes `span` of a blob, at the same place of an open file."""

    @property
    def descriptor(self) -> int: ...

    @property
    def span(self) -> ByteSpan: ...


class Lender(Protocol):
    """Blobs that are on their way to this host."""

    def size_bytes(self, digest: Digest) -> int | None:
        """None: no such blob is, or its size is not known."""
        ...

    def lend(self, digest: Digest, span: ByteSpan) -> AbstractContextManager[Sequence[Portion] | None]:
        """In order, readable meanwhile. None: not all of it is here."""
        ...


class NothingLent:
    """For a host that shares only what is whole."""

    def size_bytes(self, digest: Digest) -> int | None:
        return None

    @contextmanager
    def lend(self, digest: Digest, span: ByteSpan) -> Iterator[Sequence[Portion] | None]:
        yield None


AcceptChannel = Callable[[web.Request], Awaitable[web.StreamResponse]]
PeersToTry = Callable[[Digest], Sequence[Peer]]


def tell_nothing(_: TagName) -> None:
    """For a host that has no tags to tell of."""


def know_nobody(_: Digest) -> Sequence[Peer]:
    """For a host that knows of no other to ask."""
    return ()


class PeerServer:
    """`keys`: all that are accepted; empty where the cluster has no secret. `count_bytes`: of bodies, by the address
    that asked. `tell_tag`: what a peer may be told of a tag; None: as if it were not here. `accept_channel` serves an
    upgrade request of a peer of our cluster; None: there are no state channels here. `peers_to_try`: who else may hold
    a digest, for those who find no free slot."""

    def __init__(
        self,
        store: ContentStore,
        keys: Sequence[Subkey],
        node: NodeId,
        unix_clock: Callable[[], float],
        count_bytes: Callable[[str, int], None],
        strangers: Strangers,
        tell_tag: TellTag = tell_nothing,
        accept_channel: AcceptChannel | None = None,
        lender: Lender | None = None,
        slots: UploadSlots | None = None,
        peers_to_try: PeersToTry = know_nobody,
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._node = node
        self._unix_clock = unix_clock
        self._count_bytes = count_bytes
        self._strangers = strangers
        self._tell_tag = tell_tag
        self._accept_channel = accept_channel
        self._lender = lender or NothingLent()
        self._slots = slots or UploadSlots()
        self._peers_to_try = peers_to_try
        self._app = web.Application(client_max_size=0)
        self._app.router.add_get(wire.BLOB_PATH + "{digest}", self._blob, allow_head=True)
        self._app.router.add_get(wire.TAG_PATH, self._tag, allow_head=False)
        if accept_channel is not None:
            self._app.router.add_get(wire.CHANNEL_PATH, self._channel, allow_head=False)
        self._app.router.add_route("*", "/{rest:.*}", self._unknown)

    @property
    def app(self) -> web.Application:
        return self._app

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        return refusal or error_response(
            ErrorCode.UNSUPPORTED, "no such path here", head=request.method == "HEAD"
        )

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        head = request.method == "HEAD"
        try:
            digest = Digest.parse(request.match_info["digest"])
        except DigestInvalid as exc:
            return error_response(ErrorCode.DIGEST_INVALID, str(exc), head=head)
        part = await self._part(request, digest)
        if part is not None:
            return part
        try:
            blob = await self._store.open(digest)
        except (ContentNotFound, StoreUnavailable) as exc:
            return error_response(ErrorCode.BLOB_UNKNOWN, str(exc), head=head)
        try:
            span, _partial = span_of(request, blob.size_bytes)
        except RangeInvalid as exc:
            blob.close()
            return range_error(exc)
        with self._slots.slot(0 if head else span.length_bytes) as has_slot:
            if not has_slot:
                blob.close()
                return self._busy(digest)
            count_bytes = functools.partial(self._count_bytes, request.remote or "")
            return await send_blob(request, blob, digest, "application/octet-stream", count_bytes)

    async def _part(self, request: web.Request, digest: Digest) -> web.StreamResponse | None:
        """Of a blob that is on its way to this host, or came a moment ago. Looked for first: the store may have to ask
        containerd about what is new. None: not of all that is asked for."""
        size_bytes = self._lender.size_bytes(digest)
        if size_bytes is None or request.method == "HEAD":
            return None
        try:
            span, partial = span_of(request, size_bytes)
        except RangeInvalid:
            return None
        with self._lender.lend(digest, span) as portions:
            if portions is None:
                return None
            with self._slots.slot(span.length_bytes) as has_slot:
                if not has_slot:
                    return self._busy(digest)
                headers = content_headers(digest, "application/octet-stream", span, size_bytes, partial)
                response = web.StreamResponse(status=206 if partial else 200, headers=headers)
                for portion in portions:
                    if not await send_span(request, response, portion.descriptor, portion.span):
                        break
                    self._count_bytes(request.remote or "", portion.span.length_bytes)
                return response

    def _busy(self, digest: Digest) -> web.Response:
        body = busy.encode(self._peers_to_try(digest))
        headers = {"Retry-After": str(busy.RETRY_AFTER_S)}
        status = ErrorCode.TOOMANYREQUESTS.status
        return web.Response(status=status, body=body, content_type="application/json", headers=headers)

    async def _tag(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        asked = request.query.getall("name", [])
        name = parse_tag_name(asked[0]) if len(asked) == 1 else None
        if name is None:
            return error_response(ErrorCode.NAME_INVALID, "expected ?name=registry/repository:tag")
        answer = self._tell_tag(name)
        if answer is None:
            return error_response(ErrorCode.MANIFEST_UNKNOWN, f"{name} is not told here")
        return web.Response(body=encode(answer), content_type="application/json")

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        assert self._accept_channel is not None
        return await self._accept_channel(request)

    def _refusal(self, request: web.Request) -> web.Response | None:
        sender = request.remote or ""
        what = wire.Request(request.method, request.raw_path, request.headers.get("Range", ""))
        verdict = wire.judge(
            request.headers.get("Authorization"),
            what,
            self._keys,
            node=self._node,
            now_unix_s=int(self._unix_clock()),
            sender_address=sender,
        )
        head = request.method == "HEAD"
        match verdict:
            case wire.Accepted():
                return None
            case wire.Challenged(header):
                headers = {wire.CHALLENGE_HEADER: header}
                return error_response(
                    ErrorCode.UNAUTHORIZED, "sign again with this time and node", headers, head=head
                )
            case wire.VersionUnspoken(version):
                self._strangers.of_another_version(sender, version)
                spoken = ", ".join(str(known) for known in wire.SPOKEN_VERSIONS)
                headers = {wire.VERSIONS_HEADER: spoken}
                return error_response(
                    ErrorCode.VERSION_UNSUPPORTED, f"spoken here: {spoken}", headers, head=head
                )
            case wire.Refused(reason):
                self._strangers.refused(sender, reason)
                response = error_response(ErrorCode.UNAUTHORIZED, reason, head=head)
                response.force_close()  # a stranger's connection is not kept for him
                return response
