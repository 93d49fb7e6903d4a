"""Serves this host's blobs to peers. Never searches further: what is not here is a 404 (the hop guard by design)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from dht.ids import NodeId
from mirror.errors import ContentNotFound, StoreUnavailable
from mirror.oci.byterange import RangeInvalid
from mirror.oci.digest import Digest, DigestInvalid
from mirror.oci.errors import ErrorCode
from mirror.peer import wire
from mirror.peer.strangers import Strangers
from mirror.secret import Subkey
from mirror.store.base import ContentStore
from mirror.web.body import error_response, range_error, send_blob


class PeerServer:
    """`keys`: all that are accepted; empty where the cluster has no secret."""

    def __init__(
        self,
        store: ContentStore,
        keys: Sequence[Subkey],
        node: NodeId,
        unix_clock: Callable[[], float],
        count_bytes: Callable[[int], None],
        strangers: Strangers,
    ) -> None:
        self._store = store
        self._keys = tuple(keys)
        self._node = node
        self._unix_clock = unix_clock
        self._count_bytes = count_bytes
        self._strangers = strangers
        self._app = web.Application(client_max_size=0)
        self._app.router.add_get(wire.BLOB_PATH + "{digest}", self._blob, allow_head=True)
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
            blob = await self._store.open(digest)
        except DigestInvalid as exc:
            return error_response(ErrorCode.DIGEST_INVALID, str(exc), head=head)
        except (ContentNotFound, StoreUnavailable) as exc:
            return error_response(ErrorCode.BLOB_UNKNOWN, str(exc), head=head)
        try:
            return await send_blob(request, blob, digest, "application/octet-stream", self._count_bytes)
        except RangeInvalid as exc:
            return range_error(exc)

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
                return error_response(ErrorCode.UNAUTHORIZED, reason, head=head)
