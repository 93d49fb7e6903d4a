"""Who listens where, from the text of /proc/net/tcp and tcp6. Pure."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Listening:
    """`inode`: of the socket, as /proc/PID/fd names it."""

    address: str
    port: int
    inode: str


def listening(text: str) -> Iterator[Listening]:
    """In the table's order. Lines that are not understood are left out."""
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        try:
            yield Listening(_address(address), int(port, 16), fields[9])
        except (ValueError, struct.error):
            continue


def _address(text: str) -> str:
    """Words of 32 bits, each in the order of this machine; ours are little-endian (amd64, arm64)."""
    raw = bytes.fromhex(text)
    words = struct.unpack(f"<{len(raw) // 4}I", raw)
    found = ipaddress.ip_address(struct.pack(f">{len(words)}I", *words))
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
