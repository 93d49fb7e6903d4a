"""Which addresses and names no image may lead this daemon to. Pure: it resolves nothing and knows no exceptions.

It judges what stands in a URL and what a name resolved to. Private addresses are fine: registries live there. An
address that an IPv6 one stands for is judged in its place, and spellings that some resolver reads as an address
although they do not look like one are refused whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address

NAME_MAX_CHARS = 253
"""Source: RFC 1035, in the form without the root's dot."""

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# The last label of a name of the public or any private DNS is no number: what ends in one is an address, perhaps in
# decimal, octal or hex, or short. Source: WHATWG URL, "ends in a number"; inet_aton.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# Names that mean this host or a cloud's metadata service. They resolve to addresses that are refused as well; behind a
# proxy nobody here sees those.
_LOCAL_NAMES = frozenset(
    {
        "localhost",
        "localhost.localdomain",
        "localhost6",
        "localhost6.localdomain6",
        "ip6-localhost",
        "ip6-loopback",
    }
)
_METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)

# What clouds put their metadata or agent services at, beside 169.254.0.0/16.
_METADATA = frozenset(
    map(
        ip_address,
        (
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:42::42",
        ),
    )
)
# 0.0.0.0/8 is "this network": Linux takes 0.0.0.0 for loopback.
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_PROTOCOL_ASSIGNMENTS = IPv4Network("192.0.0.0/24")

# IPv6 networks whose last 32 bits are the IPv4 address that is meant: v4-compatible, v4-mapped, v4-translated (SIIT),
# NAT64 with the well-known prefix and with the local-use one.
_ENDS_IN_V4 = tuple(
    map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"))
)
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
# Interface identifiers of ISATAP, for private and global IPv4 addresses. Source: RFC 5214 §6.1.
_ISATAP = (0x00005EFE, 0x02005EFE)


@dataclass(frozen=True, slots=True)
class Place:
    """A host and port as the user wrote them or a request names them; `host` as `spelled` gives it."""

    host: str
    port: int


def spelled(raw_host: str) -> str | None:
    """The one spelling of a host in a URL: lower-case, without the root's dot; addresses as `ipaddress` writes them.
    None for what is neither a plain address nor a name: numbers that are read as addresses, zones, escapes.
    `raw_host` is without brackets, and IDNA-encoded already."""
    host = raw_host.lower().removesuffix(".")
    if ":" in host:
        try:
            return str(IPv6Address(host)) if "%" not in host else None
        except ValueError:
            return None
    try:
        return str(IPv4Address(host))
    except ValueError:
        pass
    labels = host.split(".")
    if len(host) > NAME_MAX_CHARS or _NUMBER.fullmatch(labels[-1]):
        return None
    return host if all(map(_LABEL.fullmatch, labels)) else None


def literal(host: str) -> IPAddress | None:
    """The address that a host is; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def why_not_name(name: str) -> str | None:
    """For a name as `spelled` gives it; in words that follow "it is"."""
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return "a name of this host"
    if name in _METADATA_NAMES:
        return "the name of a metadata service"
    if name.endswith(".invalid"):
        # Never resolves (RFC 2606); what has no place is given such a name.
        return "a name that leads nowhere"
    return None


def why_not_address(address: IPAddress) -> str | None:
    """In words that follow "it is"; None for an address that a registry may have."""
    for meant in meanings(address):
        reason = _why_not(meant)
        if reason is not None:
            return reason if meant.version == address.version else f"{meant} in another form, {reason}"
    return None


def meanings(address: IPAddress) -> tuple[IPAddress, ...]:
    """The address itself and what it stands for, as far as its form tells. A form that only carries an IPv4 address
    is judged by that alone."""
    if isinstance(address, IPv4Address):
        return (address,)
    value = int(address)
    # Without the zone, which would make it unequal to itself.
    address = IPv6Address(value)
    last = IPv4Address(value & 0xFFFFFFFF)
    # `::` and `::1` are addresses of their own.
    if value > 1 and any(address in network for network in _ENDS_IN_V4):
        return (last,)
    if address in _SIX_TO_FOUR:
        return (address, IPv4Address(value >> 80 & 0xFFFFFFFF))
    if address in _TEREDO:
        return (address, IPv4Address(value >> 64 & 0xFFFFFFFF), IPv4Address(~value & 0xFFFFFFFF))
    if value >> 32 & 0xFFFFFFFF in _ISATAP:
        return (address, last)
    return (address,)


def _why_not(address: IPAddress) -> str | None:
    if address in _METADATA:
        return "the address of a metadata service"
    # Each question is asked of the class itself: `is_reserved` of an IPv6 address includes loopback.
    if address.is_unspecified or (isinstance(address, IPv4Address) and address in _THIS_NETWORK):
        return "an unspecified address"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_reserved or (isinstance(address, IPv4Address) and address in _PROTOCOL_ASSIGNMENTS):
        return "a reserved address"
    return None
