"""Whether the peer ports of other hosts can be reached from here, over TCP. Connects, says nothing, and hangs up.

Of those that the daemon knows some are tried, chosen at random: in a large cluster every host may run doctor at once.
What the daemon itself hears over UDP is in its status; doctor has no secret, and sends no datagram.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import msgspec

from mirror.admin.answers import PEERS_PATH
from mirror.doctor.facts import PeerReach, Reach
from mirror.doctor.look_daemon import NotHttp, get
from mirror.settings.model import Address, DoctorSettings

# One lost packet is sent again after a second.
CONNECT_LIMIT_S: Final = 3.0
RESOLVE_LIMIT_S: Final = 3.0
MEMBERS_MAX_COUNT: Final = 16
FIRST_PEERS_MAX_COUNT: Final = 8


class _Peer(msgspec.Struct):
    address: str | None = None


class _Peers(msgspec.Struct):
    peers: list[_Peer] = []


async def look_peers(
    settings: DoctorSettings, bootstrap: tuple[str, ...], chance: random.Random
) -> tuple[PeerReach, ...]:
    """`bootstrap`: as the daemon's status has it. This host itself is left out."""
    members = await _members(settings.admin_addr)
    known = chance.sample(members, min(len(members), MEMBERS_MAX_COUNT))
    first = [one for entry in bootstrap for one in await _addresses(entry) if one not in members]
    tried = [(one, True) for one in known]
    tried += [(one, False) for one in dict.fromkeys(first[:FIRST_PEERS_MAX_COUNT])]
    own_port = settings.peer_addr.port
    async with asyncio.TaskGroup() as tasks:
        reached = [tasks.create_task(_reach(address, own_port)) for address, _ in tried]
    return tuple(
        PeerReach(str(address), is_member, found)
        for (address, is_member), task in zip(tried, reached, strict=True)
        if (found := task.result()) is not None
    )


async def _members(admin: Address) -> list[Address]:
    try:
        status, body = await get(admin, PEERS_PATH)
        told = msgspec.json.decode(body, type=_Peers) if status == HTTPStatus.OK else _Peers()
    except (OSError, NotHttp, msgspec.MsgspecError):
        return []
    return list(_parsed(one.address for one in told.peers if one.address))


def _parsed(texts: Iterable[str]) -> Iterable[Address]:
    for text in texts:
        host, _, port = text.rpartition(":")
        if host and port.isdecimal():
            yield Address(host.strip("[]"), int(port))


async def _addresses(entry: str) -> list[Address]:
    """Of static:HOST:PORT and dns:NAME:PORT."""
    kind, _, text = entry.partition(":")
    if kind not in ("static", "dns"):
        return []
    found = []
    for named in _parsed([text]):
        try:
            async with asyncio.timeout(RESOLVE_LIMIT_S):
                answers = await asyncio.get_running_loop().getaddrinfo(
                    named.host, named.port, type=socket.SOCK_STREAM
                )
        except OSError:
            # A TimeoutError, too. The daemon's own trouble says that a name is not found.
            continue
        found += [Address(str(where[0]), named.port) for *_, where in answers]
    return found


async def _reach(address: Address, own_port: int) -> Reach | None:
    """None: it is this host's own daemon."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except ConnectionRefusedError:
        return Reach.REFUSED
    except OSError:
        # Nothing comes back, or a router or firewall says that it is forbidden.
        return Reach.DROPPED
    here, there = (writer.get_extra_info(name)[0] for name in ("sockname", "peername"))
    writer.close()
    return None if here == there and address.port == own_port else Reach.REACHED
