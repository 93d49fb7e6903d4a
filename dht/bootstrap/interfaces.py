"""Which network interfaces of this host carry multicast, and with which of our addresses. Linux only.

Looks; changes nothing that stays. Reads the kernel's tables of the caller's own network namespace (``/sys`` may show
another's).
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dht.endpoints import Endpoint, EndpointInvalid
from dht.sockets import address_of

_IF_INET6 = Path("/proc/self/net/if_inet6")
# linux/sockios.h
_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
# linux/if.h
_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
_IFF_MULTICAST = 0x1000
# linux/if_addr.h: an address that may not be used (yet, any more), or soon will not be.
_UNUSABLE = 0x08 | 0x40
_TEMPORARY_OR_DEPRECATED = 0x01 | 0x20
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 compared with, never bound here
_IFNAMSIZ = 16
_IFREQ_BYTES = 40


@dataclass(frozen=True, slots=True)
class Interface:
    """`v4` and `v6` are its addresses, those that others reach best first; of IPv4 the kernel names one."""

    index: int
    name: str
    v4: tuple[str, ...]
    v6: tuple[str, ...]


def multicast_interfaces() -> list[Interface]:
    """Those that are up and multicast-capable, in index order; loopback is none."""
    v6 = v6_addresses(_if_inet6())
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for index, name in sorted(socket.if_nameindex()):
            flags = _flags(asking, name)
            wanted = _IFF_UP | _IFF_RUNNING | _IFF_MULTICAST
            if flags & wanted == wanted and not flags & _IFF_LOOPBACK:
                found.append(Interface(index, name, _v4(asking, name), v6.get(index, ())))
    return [one for one in found if one.v4 or one.v6]


def is_here(found: Endpoint, listens: Iterable[Endpoint]) -> bool:
    """Whether a datagram to `found` reaches a socket of this host that is bound as `listens` says."""
    for listen in listens:
        if listen == found:
            return True
        if listen.port == found.port and listen.address in WILDCARDS and listen.is_v6 is found.is_v6:
            return _is_own_address(found)
    return False


def _is_own_address(found: Endpoint) -> bool:
    """Only an own address can be bound."""
    with socket.socket(socket.AF_INET6 if found.is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as trying:
        try:
            trying.bind(address_of(Endpoint(found.address, 0)))
        except (OSError, EndpointInvalid):
            return False
    return True


def v6_addresses(lines: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """By interface index, routable ones first, since a link-local address means nothing to those whom it is told; then
    those that stay (source: Linux, net/ipv6/addrconf.c, if6_seq_show)."""
    ranked: dict[int, list[tuple[bool, bool, str]]] = {}
    for line in lines:
        address, index, _, _, flags, _ = line.split()
        if int(flags, 16) & _UNUSABLE:
            continue
        parsed = ipaddress.IPv6Address(bytes.fromhex(address))
        if not parsed.is_loopback:
            passing = bool(int(flags, 16) & _TEMPORARY_OR_DEPRECATED)
            ranked.setdefault(int(index, 16), []).append((parsed.is_link_local, passing, str(parsed)))
    return {index: tuple(text for _, _, text in sorted(found)) for index, found in ranked.items()}


def _if_inet6() -> list[str]:
    try:
        return _IF_INET6.read_text().splitlines()
    except OSError:
        return []  # a kernel without IPv6


def _request(name: str) -> bytes:
    return name.encode()[: _IFNAMSIZ - 1].ljust(_IFREQ_BYTES, b"\0")


def _flags(asking: socket.socket, name: str) -> int:
    try:
        answer = fcntl.ioctl(asking, _SIOCGIFFLAGS, _request(name))
    except OSError:
        return 0  # gone since it was listed
    return int(struct.unpack_from("H", answer, _IFNAMSIZ)[0])


def _v4(asking: socket.socket, name: str) -> tuple[str, ...]:
    try:
        answer = fcntl.ioctl(asking, _SIOCGIFADDR, _request(name))
    except OSError:
        return ()
    return (socket.inet_ntoa(answer[_IFNAMSIZ + 4 : _IFNAMSIZ + 8]),)
