"""Datagrams between hosts that exist only in memory, on a VirtualLoop.

Answers which datagram arrives where, when and how often: round trips, loss, copies, reordering, splits, dead hosts;
and counts them. Refuses everything above UDP. Not modelled: bandwidth, queues, socket buffers, MTU, NAT.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from dht.endpoints import Endpoint
from dht.errors import BindFailed
from tests.support.virtual_time import VirtualLoop

UDP_IP4_HEADER_BYTES: Final = 28
UDP_IP6_HEADER_BYTES: Final = 48
# Of every daemon: hosts have addresses of their own.
PORT: Final = 29_021
# Linux: net.ipv4.ip_local_port_range.
_EPHEMERAL_FIRST: Final = 32_768
_EPHEMERAL_LAST: Final = 60_999
# A datagram that is held up comes this much later at most: longer than any hedge.
REORDER_MAX_S: Final = 0.2
_UDP_MAX_BYTES: Final = 65_507

# The round trip in seconds between two addresses, without jitter.
RoundTrip = Callable[[str, str], float]
# The shape of an address as asyncio gives it to a protocol.
_Source = tuple[str, int] | tuple[str, int, int, int]


@dataclass(slots=True)
class Traffic:
    """What one host sent and what reached its sockets. Headers of UDP and IP are counted apart."""

    sent_count: int = 0
    sent_bytes: int = 0
    sent_header_bytes: int = 0
    received_count: int = 0
    received_bytes: int = 0
    largest_bytes: int = 0

    def minus(self, earlier: Traffic) -> Traffic:
        """What was added since. The largest datagram is the whole run's."""
        return Traffic(
            self.sent_count - earlier.sent_count,
            self.sent_bytes - earlier.sent_bytes,
            self.sent_header_bytes - earlier.sent_header_bytes,
            self.received_count - earlier.received_count,
            self.received_bytes - earlier.received_bytes,
            self.largest_bytes,
        )

    def copy(self) -> Traffic:
        return self.minus(Traffic())


def flat(rtt_s: float) -> RoundTrip:
    return lambda _source, _target: rtt_s


def zoned(near_s: float, far_s: float, zones_count: int = 3) -> RoundTrip:
    """Hosts of one zone are near. A zone is the last byte of the address, modulo."""
    zones: dict[str, int] = {}

    def zone(address: str) -> int:
        found = zones.get(address)
        if found is None:
            text = address.replace(":", ".").rpartition(".")[2] or "0"
            found = zones[address] = int(text, 16 if ":" in address else 10) % zones_count
        return found

    return lambda source, target: near_s if zone(source) == zone(target) else far_s


class VirtualNet:
    """`loss`, `copies` and `reordered` are probabilities a datagram and may be changed at any time; `jitter` is the
    part of a way's time that varies."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        rtt: RoundTrip,
        loss: float = 0.0,
        *,
        copies: float = 0.0,
        reordered: float = 0.0,
        jitter: float = 0.2,
    ) -> None:
        self.loop = loop
        self.rtt = rtt
        self.loss = loss
        self.copies = copies
        self.reordered = reordered
        self.jitter = jitter
        # At most so much later comes a copy than its datagram, and a reordered datagram than its time.
        self.copy_late_s = REORDER_MAX_S
        self.held_up_s = REORDER_MAX_S
        # Called with source, target and data of each datagram that a living host sends, lost ones included.
        self.tap: Callable[[Endpoint, Endpoint, bytes], None] | None = None
        self.hosts: dict[str, VirtualHost] = {}
        self.lost_count = 0
        self.split_count = 0
        self.unheard_count = 0
        self._random = rng.random
        self._sides: Mapping[str, object] | None = None
        self._sockets: dict[tuple[str, int], _Socket] = {}
        self._ephemeral = itertools.cycle(range(_EPHEMERAL_FIRST, _EPHEMERAL_LAST + 1))

    def host(self, *addresses: str) -> VirtualHost:
        """A new host. At most one address a family, each new to the net."""
        made = VirtualHost(self, addresses)
        for address in addresses:
            assert address not in self.hosts, f"{address} is taken"
            self.hosts[address] = made
        return made

    def split(self, sides: Mapping[str, object]) -> None:
        """From now on only hosts of one side hear each other; those that are not named are a side of their own."""
        self._sides = dict(sides)

    def heal(self) -> None:
        self._sides = None

    def total(self) -> Traffic:
        """Of all hosts."""
        sum_ = Traffic()
        for one in {id(host): host.traffic for host in self.hosts.values()}.values():
            sum_.sent_count += one.sent_count
            sum_.sent_bytes += one.sent_bytes
            sum_.sent_header_bytes += one.sent_header_bytes
            sum_.received_count += one.received_count
            sum_.received_bytes += one.received_bytes
            sum_.largest_bytes = max(sum_.largest_bytes, one.largest_bytes)
        return sum_

    # -- for sockets

    def bind(self, socket: _Socket, address: str, port: int) -> int:
        if port == 0:
            # Not the one just closed: what is still under way to it must not find somebody else.
            port = next(one for one in self._ephemeral if (address, one) not in self._sockets)
        if (address, port) in self._sockets:
            raise BindFailed(f"UDP {Endpoint(address, port)} is taken on the virtual net")
        self._sockets[address, port] = socket
        return port

    def release(self, address: str, port: int) -> None:
        del self._sockets[address, port]

    def carry(self, socket: _Socket, data: bytes, target: tuple[str, int]) -> None:
        source = socket.local
        if self.tap is not None:
            self.tap(source, Endpoint(*target), data)
        draw = self._random
        if self.loss and draw() < self.loss:
            self.lost_count += 1
            return
        if self._sides is not None and not self._same_side(source.address, target[0]):
            self.split_count += 1
            return
        way_s = self.rtt(source.address, target[0]) / 2
        delay_s = way_s * (1 + self.jitter * draw())
        if self.reordered and draw() < self.reordered:
            delay_s += self.held_up_s * draw()
        self.loop.post(delay_s, self._arrive, socket.as_source, target, data)
        if self.copies and draw() < self.copies:
            self.loop.post(delay_s + self.copy_late_s * draw(), self._arrive, socket.as_source, target, data)

    def _same_side(self, source: str, target: str) -> bool:
        assert self._sides is not None
        return self._sides.get(source) == self._sides.get(target)

    def _arrive(self, source: _Source, target: tuple[str, int], data: bytes) -> None:
        socket = self._sockets.get(target)
        if socket is None or not socket.host.is_alive:
            self.unheard_count += 1
            return
        traffic = socket.host.traffic
        traffic.received_count += 1
        traffic.received_bytes += len(data)
        socket.protocol.datagram_received(data, source)


class VirtualHost:
    def __init__(self, net: VirtualNet, addresses: tuple[str, ...]) -> None:
        assert 1 <= len({":" in address for address in addresses}) == len(addresses), addresses
        self.net = net
        self.addresses = addresses
        self.traffic = Traffic()
        self.is_alive = True

    @property
    def address(self) -> str:
        return self.addresses[0]

    @property
    def listen(self) -> tuple[Endpoint, ...]:
        """Where its daemon listens: IPv4 first."""
        return tuple(Endpoint(one, PORT) for one in sorted(self.addresses, key=lambda one: ":" in one))

    def kill(self) -> None:
        """Nothing of it leaves or arrives from now on. Its program does not notice: who kills a host ends that."""
        self.is_alive = False

    def revive(self) -> None:
        self.is_alive = True

    async def open_udp(
        self, factory: Callable[[], asyncio.DatagramProtocol], local: Endpoint
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramProtocol]:
        """In place of dht.sockets.open_udp. A wildcard address is this host's of that family. Raises:
        BindFailed."""
        address = local.address
        if address in ("0.0.0.0", "::"):
            found = [one for one in self.addresses if (":" in one) == local.is_v6]
            address = found[0] if found else address
        if address not in self.addresses:
            raise BindFailed(f"UDP {local} cannot be bound: the virtual host has {self.addresses}")
        protocol = factory()
        transport = _Socket(self, protocol, address, local.port)
        protocol.connection_made(transport)
        return transport, protocol


class _Socket(asyncio.DatagramTransport):
    def __init__(
        self, host: VirtualHost, protocol: asyncio.DatagramProtocol, address: str, port: int
    ) -> None:
        port = host.net.bind(self, address, port)
        self.host = host
        self.protocol = protocol
        self.local = Endpoint(address, port)
        self.as_source: _Source = (address, port, 0, 0) if self.local.is_v6 else (address, port)
        super().__init__({"sockname": self.as_source})
        self._header_bytes = UDP_IP6_HEADER_BYTES if self.local.is_v6 else UDP_IP4_HEADER_BYTES
        self._is_closing = False

    def sendto(self, data: bytes | bytearray | memoryview, addr: object = None) -> None:
        if self._is_closing or not data:
            return
        if not isinstance(addr, tuple):
            raise ValueError("a datagram needs an address: the socket is not connected")
        size_bytes = len(data)
        if size_bytes > _UDP_MAX_BYTES:
            self.protocol.error_received(OSError(errno.EMSGSIZE, "Message too long"))
            return
        if not self.host.is_alive:
            return
        traffic = self.host.traffic
        traffic.sent_count += 1
        traffic.sent_bytes += size_bytes
        traffic.sent_header_bytes += self._header_bytes
        if size_bytes > traffic.largest_bytes:
            traffic.largest_bytes = size_bytes
        self.host.net.carry(self, bytes(data), (addr[0], addr[1]))

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self.host.net.release(*self.local)
        self.host.net.loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()
