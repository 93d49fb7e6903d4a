"""Sends to and receives from one multicast group, on the interfaces it is told. Linux only. Decides nothing."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
from dataclasses import dataclass
from typing import Final

from dht.bootstrap.interfaces import Interface

log = logging.getLogger(__name__)

# RFC 2365 §6.1: the local scope's own block.
GROUP_V4: Final = "239.255.174.86"
# RFC 4291 §2.7, RFC 3307 §4.3: transient, link-local scope, a group id from the dynamic range.
GROUP_V6: Final = "ff12::d1a7:ae56"
# linux/in6.h, linux/in.h; not in the socket module.
_IPV6_MULTICAST_ALL: Final = 29
_IP_PKTINFO: Final = 8
_ANY_V4: Final = bytes(4)


@dataclass(frozen=True, slots=True)
class Way:
    """One address of an interface to send from."""

    interface: Interface
    address: str


class GroupSocket:
    """The socket of one family and the interfaces on which it is in the group."""

    def __init__(self, is_v6: bool, port: int) -> None:
        self.is_v6 = is_v6
        self.group = GROUP_V6 if is_v6 else GROUP_V4
        self._port = port
        self._socket: socket.socket | None = None
        self._joined: set[int] = set()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    @property
    def socket(self) -> socket.socket:
        assert self._socket is not None, "not open"
        return self._socket

    def open(self) -> bool:
        """Whether it was opened now. Raises: OSError."""
        if self._socket is not None:
            return False
        made = socket.socket(socket.AF_INET6 if self.is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            # Both, so that it is shared with nodes of other users, and with whoever sets one of them only.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self.is_v6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
                with contextlib.suppress(OSError):  # Linux before 4.20: hears other programs' groups, too
                    made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
                made.bind(("::", self._port))
            else:
                made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
                # Bound to the group: unicast to this port is not ours.
                made.bind((self.group, self._port))
        except BaseException:
            made.close()
            raise
        self._socket = made
        return True

    def join(self, wanted: set[int]) -> frozenset[int]:
        """On exactly these interfaces; gives those where it worked."""
        for index in self._joined - wanted:
            # Also of an interface that is gone: it counts for the kernel's limit until then.
            with contextlib.suppress(OSError):
                self._membership(index, join=False)
        self._joined &= wanted
        for index in sorted(wanted - self._joined):
            try:
                self._membership(index, join=True)
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:  # in it already
                    log.debug("interface %d does not join the group: %s", index, exc)
                    continue
            self._joined.add(index)
        return frozenset(self._joined)

    def _membership(self, index: int, *, join: bool) -> None:
        if self.is_v6:
            request = socket.inet_pton(socket.AF_INET6, self.group) + struct.pack("@I", index)
            option = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
            self.socket.setsockopt(socket.IPPROTO_IPV6, option, request)
        else:
            request = socket.inet_aton(self.group) + _ANY_V4 + struct.pack("@i", index)
            option = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
            self.socket.setsockopt(socket.IPPROTO_IP, option, request)

    def send(self, datagram: bytes, way: Way) -> None:
        """Raises: OSError."""
        index = way.interface.index
        if self.is_v6:
            info = socket.inet_pton(socket.AF_INET6, way.address) + struct.pack("@I", index)
            ancillary = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]
            self.socket.sendmsg([datagram], ancillary, 0, (self.group, self._port, 0, index))
        else:
            info = struct.pack("@i", index) + socket.inet_aton(way.address) + _ANY_V4
            self.socket.sendmsg(
                [datagram], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, (self.group, self._port)
            )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
