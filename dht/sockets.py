"""Opens UDP sockets. Decides nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from dht.endpoints import Endpoint, EndpointInvalid, canonical
from dht.errors import BindFailed

# A herd's datagrams arrive faster than one turn of the event loop; the kernel caps this at net.core.rmem_max.
RECEIVE_BUFFER_BYTES = 2 * 1024 * 1024
# More than any of our datagrams: a longer one is cut, and refused for its length.
READ_BYTES = 2048


# IPv6: address, port, flow and the index of the interface whose link-local address it is.
KernelAddress = tuple[str, int] | tuple[str, int, int, int]


class OpenUdp(Protocol):
    """Raises: BindFailed."""

    async def __call__(
        self, factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]: ...


async def open_udp(
    factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
    """One socket of one family: an IPv6 one takes no IPv4. Raises: BindFailed."""
    sock = socket.socket(socket.AF_INET6 if local.is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if local.is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address_of(local))
        sock.setblocking(False)
    except (OSError, EndpointInvalid) as exc:
        sock.close()
        reason = exc.strerror or exc if isinstance(exc, OSError) else exc
        raise BindFailed(
            f"UDP {local} cannot be bound: {reason}; stop what listens there or choose another address"
        ) from exc
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(factory, sock=sock)
    # asyncio reads into 256 KiB, which the C library maps and unmaps for each datagram (measured: 20 us).
    transport.max_size = READ_BYTES  # type: ignore[attr-defined]
    return transport, protocol


def source_of(address: KernelAddress) -> Endpoint:
    """Of what the kernel says of a datagram: a link-local IPv6 address with its zone. Raises: EndpointInvalid."""
    if len(address) == 4 and address[3]:
        return Endpoint(f"{canonical(address[0])}%{_zone_name(address[3])}", address[1])
    return Endpoint(canonical(address[0]), address[1])


def address_of(found: Endpoint) -> KernelAddress:
    """As the kernel wants it: Python drops the zone of an address that is text. Raises: EndpointInvalid."""
    address, _, zone = found.address.partition("%")
    if not zone:
        return found
    try:
        return (address, found.port, 0, socket.if_nametoindex(zone))
    except OSError as exc:
        raise EndpointInvalid(f"there is no interface {zone!r}") from exc


def _zone_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError as exc:
        raise EndpointInvalid(f"interface {index} is gone") from exc
