"""Where the origin client may connect: what it asks of whoever knows. Only the port; see `mirror.origin.resolver`.

An image's name comes from outside, and with it the registry, its token realm and the places it redirects to. None of
them may lead this daemon to an address that only this host can reach.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp.abc import AbstractResolver
from yarl import URL

from mirror.origin.base import Endpoint


class Guard(Protocol):
    """Both calls belong to each connection: aiohttp asks no resolver about an address that stands in the URL, and
    `check` resolves no name."""

    def check(self, url: URL, endpoint: Endpoint) -> None:
        """Before each request: the endpoint's own, each hop of a redirect, a token realm. `endpoint` is the one that
        this is for. Does not block. Raises: OriginForbidden."""
        ...

    def resolver(self, endpoint: Endpoint, proxy: URL | None = None) -> AbstractResolver:
        """For the connector of this endpoint's requests, redirects and realms: gives only addresses that may be
        connected to, so the address that was checked is the one connected to; when none is left, `resolve` raises
        OriginForbidden (aiohttp lets it through as it is).

        `proxy`: this is for the connector of the requests that go through that proxy; its address is the operator's
        choice. Direct requests need a connector without it, which may not reach the proxy as if it were a registry.
        Endpoints that nobody named may share a connector. One with `named_by_user` needs its own, or that of an
        endpoint with the same scheme, host and port: a pooled connection or a cached name is a permission."""
        ...
