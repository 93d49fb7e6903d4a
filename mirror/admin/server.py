"""Health and status for probes and operators, and the metrics page. Read-only.

A request whose Host is not one of this machine's loopback names is refused: a web page in a browser on the host must
not read it by DNS rebinding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from mirror.metrics import Metrics

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class AdminServer:
    """`unready` gives the reasons in words, empty when ready; `status` gives what /api/v1/status answers; `listen_host`
    is the address the server is bound to, which is a good `Host` as well."""

    def __init__(
        self,
        unready: Callable[[], list[str]],
        status: Callable[[], Mapping[str, object]],
        listen_host: str,
    ) -> None:
        self._unready = unready
        self._status = status
        self._hosts = _LOOPBACK_NAMES | {listen_host}
        self._app = web.Application(client_max_size=0, middlewares=[self._only_local_names])
        self._app.router.add_get("/livez", self._livez)
        self._app.router.add_get("/readyz", self._readyz)
        self._app.router.add_get("/api/v1/status", self._status_page)

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
        reasons = self._unready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ok\n")

    async def _status_page(self, request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._status()), content_type="application/json")


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
