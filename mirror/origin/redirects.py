"""Whether a redirect is followed, and what goes along. Pure. Whether the address may be connected to is the guard's.

Rules
1. At most `REDIRECTS_MAX_COUNT` hops.
2. Never from https to http, unless the endpoint itself is http.
3. The endpoint's credentials and own headers go along only while every hop stays at its scheme, host and port: what is
   asked for by way of a stranger is chosen by the stranger.
"""

from __future__ import annotations

from dataclasses import dataclass

# Registries redirect once, to a storage or a CDN; some of these once more to a region.
REDIRECTS_MAX_COUNT = 5
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
# Signed addresses have about 1,500 characters.
LOCATION_MAX_CHARS = 8190

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads: what browsers call an origin. `host` is lower-case."""

    scheme: str
    host: str
    port: int

    @staticmethod
    def of(scheme: str, host: str | None, port: int | None) -> Place | None:
        """None: not a place on the web."""
        if scheme not in _DEFAULT_PORTS or not host:
            return None
        return Place(scheme, host.lower(), port or _DEFAULT_PORTS[scheme])


@dataclass(frozen=True, slots=True)
class Trail:
    """How far a request has come from its endpoint."""

    endpoint: Place
    hop_count: int = 0
    is_at_home: bool = True


def step(trail: Trail, there: Place) -> Trail | str:
    """The trail with one hop more, or the reason why that hop is not made."""
    if trail.hop_count >= REDIRECTS_MAX_COUNT:
        return f"redirects more than {REDIRECTS_MAX_COUNT} times"
    if there.scheme == "http" and trail.endpoint.scheme == "https":
        return "redirects from https to http"
    return Trail(trail.endpoint, trail.hop_count + 1, trail.is_at_home and there == trail.endpoint)


def location_fault(location: str) -> str | None:
    """Why a Location header cannot be one; None: it can. Anything but printable ASCII is read in different ways by
    different readers, and user names in it would be sent."""
    if not location:
        return "redirects to nowhere"
    if len(location) > LOCATION_MAX_CHARS:
        return f"redirects to an address of {len(location)} characters"
    if not (location.isascii() and location.isprintable()) or " " in location or "\\" in location:
        return "redirects to an address that is not one"
    return None
