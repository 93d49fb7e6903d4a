"""One question to an endpoint, through its redirects: what goes along, how far, and what an answer's status means.

Knows no token: a 401 is the caller's to answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from mirror.origin.base import Endpoint
from mirror.origin.connections import Connections, reason
from mirror.origin.errors import OriginBroke, OriginNonsense, OriginStalled
from mirror.origin.redirects import REDIRECT_STATUSES, Place, Trail, location_fault, step

# An error body is read this far, for its reason.
ERROR_BODY_MAX_BYTES = 2048
# A reason is not worth more waiting.
ERROR_BODY_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Call:
    """`headers` go wherever it is redirected; `own_headers` (what the user's hosts.toml adds) only to the scheme, host
    and port of `url`; of `authorizations` each place gets its own. `shows_client`: with client certificates, where
    `own_headers` go."""

    endpoint: Endpoint
    method: str
    url: URL
    headers: Mapping[str, str]
    own_headers: Mapping[str, str] = field(repr=False)
    authorizations: Mapping[Place, str] = field(repr=False)
    shows_client: bool
    form: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Arrival:
    """`place` gave the response. `is_at_home`: no redirect led away from the place that was asked."""

    response: aiohttp.ClientResponse
    place: Place
    is_at_home: bool

    @property
    def where(self) -> str:
        return str(self.response.url.origin())


@contextlib.asynccontextmanager
async def follow(connections: Connections, call: Call) -> AsyncIterator[Arrival]:
    """The answer that is no redirect. Raises: OriginFailing, OriginNonsense, OriginForbidden."""
    url = call.url
    trail = Trail(place_of(url))
    while True:
        here = place_of(url)
        headers = dict(call.headers)
        if trail.is_at_home:
            headers |= call.own_headers
        # The endpoint's secrets are not for a request that came to it by way of a stranger.
        authorization = call.authorizations.get(here) if trail.is_at_home or here != trail.endpoint else None
        if authorization:
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = authorization
        async with connections.request(
            call.endpoint,
            call.method,
            url,
            headers,
            shows_client=call.shows_client and trail.is_at_home,
            form=call.form,
        ) as response:
            # What a form was sent to must answer itself: the form holds a secret.
            if response.status not in REDIRECT_STATUSES or call.form is not None:
                yield Arrival(response, here, trail.is_at_home)
                return
            url, trail = _next(url, trail, response.headers.get("Location", ""))
            # Read to its end the connection may be used again.
            await error_text(response)


def place_of(url: URL) -> Place:
    """Raises: OriginNonsense."""
    place = Place.of(url.scheme, url.raw_host, url.port)
    if place is None:
        raise OriginNonsense(str(url)[:140], "is no place on the web")
    return place


def parse_address(text: str, where: str, base: URL | None = None) -> URL:
    """An address that an origin gives, kept as it is written: signatures cover the spelling. Raises: OriginNonsense."""
    fault = location_fault(text)
    if fault is not None:
        raise OriginNonsense(where, fault)
    try:
        url = URL(text, encoded=True)
        url = url if base is None else base.join(url)
        if url.user is not None or url.password is not None:
            raise OriginNonsense(where, "redirects to an address with a user name")
        if Place.of(url.scheme, url.host, url.port) is None:
            raise OriginNonsense(where, f"redirects to {text[:140]!r}, which is no place on the web")
    except ValueError as exc:
        raise OriginNonsense(where, f"redirects to {text[:140]!r}, which is no address: {exc}") from exc
    return url


async def error_text(response: aiohttp.ClientResponse) -> str:
    """What an answer that is an error says for itself, as far as it is worth reading."""
    data = bytearray()
    # Without a reason, the status says enough.
    with contextlib.suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
            while len(data) < ERROR_BODY_MAX_BYTES:
                chunk = await response.content.read(ERROR_BODY_MAX_BYTES - len(data))
                if not chunk:
                    break
                data += chunk
    return data.decode("utf-8", "replace")


async def whole(arrival: Arrival, max_bytes: int, within_s: float) -> bytes:
    """A body that has a bound in size and time. Raises: OriginNonsense, OriginBroke, OriginStalled."""
    data = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in arrival.response.content.iter_any():
                data += chunk
                if len(data) > max_bytes:
                    raise OriginNonsense(arrival.where, f"sent more than {max_bytes} bytes")
    except TimeoutError as exc:
        raise OriginStalled(arrival.where, f"did not finish its answer within {within_s:g} s") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise OriginBroke(arrival.where, f"ended its answer early: {reason(exc)}") from exc
    return bytes(data)


def _next(here: URL, trail: Trail, location: str) -> tuple[URL, Trail]:
    where = str(here.origin())
    there = parse_address(location, where, here)
    ahead = step(trail, place_of(there))
    if isinstance(ahead, str):
        raise OriginNonsense(where, ahead)
    return there, ahead
