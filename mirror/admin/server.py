"""Health, what the daemon knows as JSON, for probes and operators; and the metrics page. Read-only.

A request whose Host is not one of this machine's loopback names is refused: a web page in a browser on the host must
not read it by DNS rebinding.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mirror.admin.answers import IMAGES_PATH, PEERS_PATH, STATUS_PATH, Images, Peers, Status
from mirror.errors import StoreUnavailable
from mirror.metrics import Metrics

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Views:
    """Who knows what the API answers. `unready` gives the reasons in words, empty when ready. `images` raises
    StoreUnavailable."""

    unready: Callable[[], list[str]]
    status: Callable[[], Status]
    peers: Callable[[], Peers]
    images: Callable[[], Awaitable[Images]]


class AdminServer:
    """`listen_host` is the address the server is bound to, which is a good `Host` as well."""

    def __init__(self, views: Views, listen_host: str) -> None:
        self._views = views
        self._hosts = _LOOPBACK_NAMES | {listen_host}
        self._app = web.Application(client_max_size=0, middlewares=[self._only_local_names])
        self._app.router.add_get("/livez", self._livez)
        self._app.router.add_get("/readyz", self._readyz)
        self._app.router.add_get(STATUS_PATH, self._status)
        self._app.router.add_get(PEERS_PATH, self._peers)
        self._app.router.add_get(IMAGES_PATH, self._images)

    @property
    def app(self) -> web.Application:
        return self._app

    @web.middleware
    async def _only_local_names(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if host_name(request.host) not in self._hosts:
            return web.Response(status=421, text="this address answers only to loopback names\n")
        return await handler(request)

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reasons = self._views.unready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ok\n")

    async def _status(self, request: web.Request) -> web.Response:
        return _json(self._views.status())

    async def _peers(self, request: web.Request) -> web.Response:
        return _json(self._views.peers())

    async def _images(self, request: web.Request) -> web.Response:
        try:
            return _json(await self._views.images())
        except StoreUnavailable as exc:
            return web.Response(status=503, text=f"{exc}\n")


def _json(document: Status | Peers | Images) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")


def metrics_app(metrics: Metrics) -> web.Application:
    """/metrics in Prometheus' text format, for a listener of its own."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application(client_max_size=0)
    app.router.add_get("/metrics", page)
    return app


def host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
