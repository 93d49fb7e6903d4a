"""Keeps the origin client from addresses that only this host can reach, at the two moments that count: when a URL is
about to be asked for, and when its name has become addresses.

It opens no connection, and what it allows is decided in `mirror.origin.addresses`.

Rules
1. The addresses that were judged are the ones connected to: the connector has no other resolver.
2. What the user's own files name is exempt, by exact host and port, and only for requests that belong to an endpoint
   that he named: an image of another registry cannot borrow the permission.
3. This daemon's own listeners are no registry, whoever names them: a relay that asks itself has no end.
4. Through a proxy, names are resolved there: then only what is written in the URL can be judged here.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from mirror.origin.addresses import (
    IPAddress,
    Place,
    literal,
    meanings,
    spelled,
    why_not_address,
    why_not_name,
)
from mirror.origin.base import Endpoint
from mirror.origin.errors import OriginForbidden

DISCARD_PORT = 9
"""For a question to the routing table; no datagram is sent."""

NAMED_NOWHERE = "nobody on this host named it (name it in hosts.toml if it is meant)"


def place_of(url: URL) -> Place | None:
    """None where the host is no plain name or address, or the scheme has no default port and none is written."""
    host = None if url.raw_host is None else spelled(url.raw_host)
    return None if host is None or not url.port else Place(host, url.port)


def no_places(_endpoint: Endpoint) -> Collection[Place]:
    return ()


def no_ports() -> Collection[int]:
    return ()


class AddressGuard:
    """Implements Guard. `named_with` gives what the user's files name for the registry of an endpoint that he named:
    its redirects and token realms may go there. `own_ports` are those that this daemon listens on (TCP).
    `own_addresses` are this host's where the routing table does not know them: in a container with a network of its
    own. `names` makes what resolves names."""

    def __init__(
        self,
        *,
        named_with: Callable[[Endpoint], Collection[Place]] = no_places,
        own_ports: Callable[[], Collection[int]] = no_ports,
        own_addresses: Collection[IPAddress] = (),
        names: Callable[[], AbstractResolver] = ThreadedResolver,
    ) -> None:
        self._named_with = named_with
        self._own_ports = own_ports
        self._own_addresses = frozenset(own_addresses)
        self._names = names

    def check(self, url: URL, endpoint: Endpoint) -> None:
        where = _shown(url)
        if url.scheme not in ("http", "https"):
            raise OriginForbidden(where, "is neither http nor https")
        if url.raw_user is not None or url.raw_password is not None:
            raise OriginForbidden(where, "has a user name in its address, which hides where it leads")
        place = place_of(url)
        if place is None:
            raise OriginForbidden(where, "is not a plain host name or address")
        address = literal(place.host)
        is_named = self.is_named(place, endpoint)
        if address is not None:
            self.judge(where, address, place.port, is_named=is_named)
        elif not is_named and (reason := why_not_name(place.host)) is not None:
            raise OriginForbidden(where, f"is {reason}, and {NAMED_NOWHERE}")

    def resolver(self, endpoint: Endpoint, proxy: URL | None = None) -> AbstractResolver:
        return GuardedResolver(self, endpoint, None if proxy is None else place_of(proxy), self._names())

    def is_named(self, place: Place, endpoint: Endpoint) -> bool:
        if not endpoint.named_by_user:
            return False
        return place == place_of(URL(endpoint.base)) or place in self._named_with(endpoint)

    def judge(self, where: str, address: IPAddress, port: int, *, is_named: bool) -> None:
        """Raises: OriginForbidden."""
        is_own = any(self._is_own(meant) for meant in meanings(address))
        if is_own and port in self._own_ports():
            raise OriginForbidden(where, f"is this daemon itself ({address}, port {port})")
        reason = "an address of this host" if is_own else None
        # The more telling word first: loopback is an address of this host too.
        reason = why_not_address(address) or reason
        if reason is not None and not is_named:
            raise OriginForbidden(where, f"leads to {address}, {reason}; {NAMED_NOWHERE}")

    def _is_own(self, address: IPAddress) -> bool:
        return (
            address in self._own_addresses
            or address.is_loopback
            or address.is_unspecified
            or is_local(address)
        )


class GuardedResolver(AbstractResolver):
    """Gives what `names` gives, without the addresses that may not be connected to."""

    def __init__(
        self, guard: AddressGuard, endpoint: Endpoint, proxy: Place | None, names: AbstractResolver
    ) -> None:
        self._guard = guard
        self._endpoint = endpoint
        self._proxy = proxy
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises: OriginForbidden when nothing is left, OSError when the name has no address."""
        name = spelled(host)
        if name is None:
            raise OriginForbidden(host[:255], "is not a plain host name or address")
        found = await self._names.resolve(host, port, family)
        place = Place(name, port)
        if place == self._proxy:
            return found
        is_named = self._guard.is_named(place, self._endpoint)
        allowed = []
        refusal: OriginForbidden | None = None
        for result in found:
            try:
                address = ip_address(result["host"])
                self._guard.judge(name, address, port, is_named=is_named)
            except OriginForbidden as error:
                refusal = error
            except ValueError:
                refusal = OriginForbidden(name, "has an address that is none")
            else:
                allowed.append(result)
        if refusal is not None and not allowed:
            raise refusal
        return allowed

    async def close(self) -> None:
        await self._names.close()


def is_local(address: IPAddress) -> bool:
    """Whether the kernel has this address on one of its interfaces: only then it would speak to it from itself."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), DISCARD_PORT))
            return ip_address(probe.getsockname()[0]) == address
    except (OSError, ValueError):
        # No route, or no such family: nothing can be connected to either.
        return False


def _shown(url: URL) -> str:
    """Without what may be secret, and not longer than a log line bears."""
    host = url.raw_host or ""
    return f"{url.scheme}://{host[:255]}{f':{url.explicit_port}' if url.explicit_port else ''}"
