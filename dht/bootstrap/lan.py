"""Finds the nodes of the same network by beacons: sealed multicast datagrams that say which UDP port we listen on.

A beacon is a hint to ask its sender; nothing is learned from it but where to ask. It never leaves the link (TTL 1).
When beacons are sent is `beacon_timer`'s, over which interfaces `interfaces`', and how `multicast`'s. Linux only.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dht.bootstrap.beacon_timer import BeaconTimer
from dht.bootstrap.interfaces import WILDCARDS, Interface, multicast_interfaces
from dht.bootstrap.multicast import GroupSocket, Way
from dht.endpoints import Endpoint, EndpointInvalid
from dht.errors import FrameInvalid
from dht.params import Params
from dht.sockets import KernelAddress, source_of
from dht.wire.codec import MESSAGE_ID_BYTES, Beacon, FrameType, decode_beacon, encode_beacon
from dht.wire.guard import Challenged, Guard, Refused

log = logging.getLogger(__name__)

# One port for all nodes of a host: multicast reaches every socket that shares it.
PORT: Final = 29024
# A network that comes is found so soon. One look costs some ten microseconds an interface.
INTERFACES_EVERY_S: Final = 5.0
# The kernel lets one socket join 20 IPv4 groups (net.ipv4.igmp_max_memberships).
INTERFACES_MAX_COUNT: Final = 16
# What one wake-up of the event loop reads at most, so that a flood leaves time for others.
READS_MAX_COUNT: Final = 32
_READ_BYTES: Final = 2048


@dataclass(frozen=True, slots=True)
class Heard:
    """A node of the cluster, and where to ask it."""

    node: bytes
    endpoint: Endpoint


def hear(guard: Guard, datagram: bytes, source: Endpoint, now: float, wall_s: float) -> Heard | str:
    """What a datagram from the group says, or the reason why nothing."""
    admitted = guard.admit(datagram, source, now, wall_s)
    if isinstance(admitted, Refused):
        return admitted.reason
    if isinstance(admitted, Challenged) or admitted.frame_type is not FrameType.BEACON:
        return "no_beacon"
    try:
        beacon = decode_beacon(admitted.body)
    except FrameInvalid as exc:
        return str(exc)
    if admitted.endpoint != source:
        return Heard(admitted.sender, admitted.endpoint)  # advertised, with its own port
    return Heard(admitted.sender, Endpoint(source.address, beacon.port))


class Lan:
    """`listens`: the bound endpoints of this node, at most one a family; only these families are spoken. `found` is
    told of every beacon by another node, known or not. `dropped` is told the reason (and the source) of what was no
    beacon of another node of the cluster. `wall` is seconds since 1970."""

    def __init__(
        self,
        guard: Guard,
        listens: Sequence[Endpoint],
        found: Callable[[bytes, Endpoint], None],
        params: Params,
        rng: random.Random,
        wall: Callable[[], float],
        *,
        dropped: Callable[[str, Endpoint | None], None] = lambda reason, source: None,
        port: int = PORT,
    ) -> None:
        self._guard = guard
        self._listens = tuple(listens)
        self._found = found
        self._dropped = dropped
        self._params = params
        self._rng = rng
        self._wall = wall
        self._port = port
        self._families = [GroupSocket(is_v6, port) for is_v6 in sorted({one.is_v6 for one in self._listens})]
        self._ways: list[Way] = []
        self._wake = asyncio.Event()
        self._trouble: str | None = None
        # The last beacon of the cluster was from another time.
        self._has_stale = False

    @property
    def trouble(self) -> str | None:
        """In words for an operator."""
        return self._trouble

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = timer = BeaconTimer(self._params, self._rng, loop.time())
        looked_at = -INTERFACES_EVERY_S
        with contextlib.ExitStack() as stack:
            for family in self._families:
                stack.callback(self._close, family)
            while True:
                now = loop.time()
                if now - looked_at >= INTERFACES_EVERY_S or timer.due_at() <= now:
                    looked_at = now
                    if self._look():
                        timer.network_came(now)
                if timer.due_at() <= now:
                    self._send(now)
                    timer.sent(now)
                self._wake.clear()
                pause_s = max(0.0, min(timer.due_at(), looked_at + INTERFACES_EVERY_S) - loop.time())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._wake.wait()

    def _close(self, family: GroupSocket) -> None:
        if family.is_open:
            asyncio.get_running_loop().remove_reader(family.socket)
            family.close()

    def _look(self) -> bool:
        """Joins the group on interfaces that came; whether any did."""
        interfaces = multicast_interfaces()[:INTERFACES_MAX_COUNT]
        before = {(way.interface.index, way.address) for way in self._ways}
        self._ways = []
        complaints = []
        for family in self._families:
            try:
                if family.open():
                    asyncio.get_running_loop().add_reader(family.socket, self._readable, family)
            except OSError as exc:
                complaints.append(f"UDP port {self._port} for beacons cannot be bound: {exc.strerror or exc}")
                continue
            ways = self._usable(interfaces, is_v6=family.is_v6)
            joined = family.join({way.interface.index for way in ways})
            self._ways += [way for way in ways if way.interface.index in joined]
        if not self._ways and not complaints:
            complaints.append(
                "no network interface of this host carries multicast for beacons; name another node"
            )
        if self._has_stale:
            complaints.append(
                f"beacons of this cluster are {self._params.freshness_s:g} s or more old or early; check the clocks of "
                f"the hosts"
            )
        self._tell("; ".join(complaints) or None)
        return bool({(way.interface.index, way.address) for way in self._ways} - before)

    def _usable(self, interfaces: Sequence[Interface], *, is_v6: bool) -> list[Way]:
        """Others are to reach us at the address that a beacon came from."""
        (listen,) = (one for one in self._listens if one.is_v6 is is_v6)
        wanted = listen.address.partition("%")[0]
        ways = []
        for interface in interfaces:
            addresses = interface.v6 if is_v6 else interface.v4
            if wanted in WILDCARDS:
                ways += [Way(interface, address) for address in addresses[:1]]
            elif wanted in addresses:
                ways.append(Way(interface, wanted))
        return ways

    def _send(self, now: float) -> None:
        ports = {one.is_v6: one.port for one in self._listens}
        for way in self._ways:
            family = next(one for one in self._families if one.is_v6 is (":" in way.address))
            frame = encode_beacon(bytes(MESSAGE_ID_BYTES), Beacon(ports[family.is_v6]))
            datagram = self._guard.seal(
                frame,
                destination=None,
                to=Endpoint(family.group, self._port),
                now=now,
                wall_s=self._wall(),
            )
            try:
                family.send(datagram, way)
            except OSError as exc:
                # A full queue or an interface just gone: the next beacon is soon.
                log.debug("no beacon on %s: %s", way.interface.name, exc)

    def _readable(self, family: GroupSocket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(READS_MAX_COUNT):
            try:
                datagram, address = family.socket.recvfrom(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                log.debug("a beacon was not read: %s", exc)
                return
            self._received(datagram, address, loop.time())

    def _received(self, datagram: bytes, address: KernelAddress, now: float) -> None:
        try:
            source = source_of(address)
        except EndpointInvalid:  # the interface went away meanwhile
            self._dropped("source", None)
            return
        heard = hear(self._guard, datagram, source, now, self._wall())
        if isinstance(heard, Heard):
            self._has_stale = False
            self._timer.heard(heard.node, now)
            self._found(heard.node, heard.endpoint)
            self._wake.set()
        else:
            self._has_stale |= heard == "stale"
            self._dropped(heard, source)

    def _tell(self, trouble: str | None) -> None:
        """Once a change."""
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.warning("%s", trouble)
