"""Where a node is reached: an address and a UDP port, in one spelling, and which of them may be believed.

Rules
1. An IPv4 address inside IPv6 (``::ffff:a.b.c.d``) is written as IPv4.
2. From another host's word nobody learns a loopback, link-local, multicast, unspecified or broadcast address: it
   would mean something else here. A teller that speaks from loopback means the same loopback as we do.
3. Without a secret only private, link-local and loopback addresses exist at all.
"""

from __future__ import annotations

import ipaddress
import struct
from functools import lru_cache
from typing import NamedTuple

_V4_BYTES = 6
_V6_BYTES = 18
PACKED_MAX_BYTES = _V4_BYTES + _V6_BYTES
_PORT = struct.Struct("!H")


class Endpoint(NamedTuple):
    """`address` is an IP literal in canonical spelling; a link-local IPv6 one has its zone (``fe80::1%eth0``)."""

    address: str
    port: int

    @property
    def is_v6(self) -> bool:
        return ":" in self.address

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.is_v6 else f"{self.address}:{self.port}"


class EndpointInvalid(ValueError):
    """The text or bytes are no endpoint."""


@lru_cache(maxsize=32_768)
def canonical(address: str) -> str:
    """One spelling for an IP literal. Raises: EndpointInvalid."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as exc:
        raise EndpointInvalid(f"{address[:60]!r} is not an IP address") from exc
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(parsed)


def endpoint(address: str, port: int) -> Endpoint:
    """Raises: EndpointInvalid."""
    if not 0 < port < 65536:
        raise EndpointInvalid(f"{port} is not a port")
    return Endpoint(canonical(address), port)


def _scope(address: str) -> str:
    """``loopback``, ``link``, ``private``, ``global`` or, for what is no unicast address, ``none``."""
    parsed = ipaddress.ip_address(address)
    if parsed.is_multicast or parsed.is_unspecified or address == "255.255.255.255":
        return "none"
    if parsed.is_loopback:
        return "loopback"
    if parsed.is_link_local:
        return "link"
    if parsed.is_reserved and parsed.version == 4:
        return "none"
    return "private" if parsed.is_private else "global"


scope = lru_cache(maxsize=32_768)(_scope)


def is_local(address: str) -> bool:
    """Private, link-local or loopback (RFC 1918, 4193, 3927, 4291; also 100.64/10 of RFC 6598)."""
    return scope(address) in ("private", "link", "loopback") or (
        ":" not in address and ipaddress.ip_address(address) in _SHARED
    )


_SHARED = ipaddress.ip_network("100.64.0.0/10")


def is_source(found: Endpoint) -> bool:
    """Whether a datagram may have come from there."""
    return found.port != 0 and scope(found.address) != "none"


def may_be_told(found: Endpoint, teller: Endpoint) -> bool:
    """Rule 2."""
    told = scope(found.address)
    if told in ("private", "global"):
        return found.port != 0
    return told == "loopback" and scope(teller.address) == "loopback" and found.port != 0


@lru_cache(maxsize=32_768)
def pack(endpoints: tuple[Endpoint, ...]) -> bytes:
    """At most one a family, IPv4 first: 6, 18 or 24 bytes, big endian. Zones are left out: they mean nothing
    elsewhere."""
    packed = b""
    for found in sorted(endpoints, key=lambda one: one.is_v6):
        packed += ipaddress.ip_address(found.address.partition("%")[0]).packed + _PORT.pack(found.port)
    return packed


@lru_cache(maxsize=32_768)
def unpack(packed: bytes) -> tuple[Endpoint, ...]:
    """Raises: EndpointInvalid."""
    if len(packed) == _V4_BYTES:
        return (_unpack_one(packed),)
    if len(packed) == _V6_BYTES:
        return (_unpack_one(packed),)
    if len(packed) == PACKED_MAX_BYTES:
        return (_unpack_one(packed[:_V4_BYTES]), _unpack_one(packed[_V4_BYTES:]))
    raise EndpointInvalid(f"{len(packed)} bytes are no packed endpoints")


def _unpack_one(packed: bytes) -> Endpoint:
    parsed = ipaddress.ip_address(packed[:-2])
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        raise EndpointInvalid("an IPv4 address is written in 4 bytes")
    return endpoint(str(parsed), _PORT.unpack(packed[-2:])[0])
