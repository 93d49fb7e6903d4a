"""Beacons between real hosts (network namespaces): over IPv4, routable IPv6 and link-local IPv6, as networks come and
go, and never across clusters.
"""

import asyncio
import ctypes
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from dht.bootstrap.interfaces import multicast_interfaces
from dht.bootstrap.lan import PORT as BEACON_PORT
from dht.bootstrap.lan import Heard, hear
from dht.bootstrap.multicast import GROUP_V4, GROUP_V6, GroupSocket, Way
from dht.endpoints import Endpoint
from dht.wire.codec import Beacon, encode_beacon
from dht.wire.envelope import Envelope
from dht.wire.guard import Guard
from tests.support.dht_node import DhtNode, Plan, State, all_know, eventually, settings_of
from tests.support.netns import HostLink, Network

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PORT = 29021
# linux/in.h; not in the socket module.
_IP_RECVTTL = 12
# Only the first beacons of a node, and those that answer a newcomer, are within a test.
LAN = {"beacon_first_s": 0.5}
# One beacon at the start, and none of its own accord within the test.
ONCE = {"beacon_first_count": 1, "beacon_interval_s": 3600.0}


def _plan(name: str, **settings: object) -> Plan:
    fields: dict[str, object] = {"node": name, "port": PORT, "bootstrap": ["lan"], "params": LAN} | settings
    return Plan(**fields)  # type: ignore[arg-type]


def _ip(host: HostLink, *words: str) -> None:
    subprocess.run(["ip", "-n", host.netns, *words], check=True)


def _routable(hosts: Sequence[HostLink]) -> list[str]:
    """An IPv6 address of the private range for each host, usable at once."""
    addresses = [f"fd77::{number}" for number in range(1, 1 + len(hosts))]
    for host, address in zip(hosts, addresses, strict=True):
        _ip(host, "addr", "add", f"{address}/64", "dev", "eth0", "nodad")
    return addresses


async def _addresses_usable(hosts: Sequence[HostLink]) -> None:
    """Until the kernel has found out that nobody else has them (RFC 4862 §5.4)."""
    for host in hosts:
        command = ["ip", "-n", host.netns, "-6", "-o", "addr", "show", "dev", "eth0", "tentative"]
        async with asyncio.timeout(20):
            while subprocess.run(command, capture_output=True, check=True).stdout:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _running(
    plans: Sequence[Plan], hosts: Sequence[HostLink], folder: Path
) -> AsyncIterator[list[DhtNode]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(DhtNode(plan, folder, host.netns))
            for plan, host in zip(plans, hosts, strict=True)
        ]


def _dropped(node: DhtNode, *reasons: str) -> bool:
    state = node.state
    return state is not None and all(state.drops.get(f"beacon_{reason}", 0) for reason in reasons)


async def test_hosts_of_one_network_meet_over_ipv4(tmp_path: Path) -> None:
    async with Network(3) as network:
        plans = [_plan(f"n{number}", v6="") for number in range(3)]
        async with _running(plans, network.hosts, tmp_path) as nodes:
            await eventually(partial(all_know, nodes), nodes)
            state = nodes[0].state
            assert state is not None
            wanted = [[f"{host.address}:{PORT}"] for host in network.hosts[1:]]
            assert sorted(state.members.values()) == sorted(wanted)


async def test_hosts_of_one_network_meet_over_ipv6_at_addresses_that_can_be_told(tmp_path: Path) -> None:
    async with Network(3) as network:
        addresses = _routable(network.hosts)
        await _addresses_usable(network.hosts)  # the kernel would rather send from the link-local ones
        plans = [_plan(f"n{number}", v4="") for number in range(3)]
        async with _running(plans, network.hosts, tmp_path) as nodes:
            await eventually(partial(all_know, nodes), nodes)
            state = nodes[0].state
            assert state is not None
            assert sorted(state.members.values()) == [[f"[{one}]:{PORT}"] for one in addresses[1:]]


async def test_hosts_meet_over_ipv6_without_a_router(tmp_path: Path) -> None:
    """Link-local addresses mean something on one interface only: each keeps the zone in which it was heard."""
    async with Network(3) as network:
        for host in network.hosts:
            # Whatever is sent without a zone goes there, where nobody is.
            _ip(host, "route", "add", "fe80::/64", "dev", "lo", "metric", "1")
        names = ["n0", "n1", "n2"]
        plans = [
            _plan(name, v4="", provide=[name], find=[other for other in names if other != name])
            for name in names
        ]
        async with _running(plans, network.hosts, tmp_path) as nodes:
            await eventually(partial(all_know, nodes), nodes)
            await eventually(
                lambda: all(
                    (state := node.state) is not None and all(state.found.values()) for node in nodes
                ),
                nodes,
            )
            state = nodes[0].state
            assert state is not None
            assert state.found == {node.plan.node: [node.id] for node in nodes[1:]}
            assert all(where.endswith(f"%eth0]:{PORT}") for (where,) in state.members.values()), state


async def test_clusters_on_one_network_never_mix(tmp_path: Path) -> None:
    clusters = [
        {"cluster": "home", "secret": "s1"},
        {"cluster": "home", "secret": "s2"},
        {"cluster": "work", "secret": "s1"},
        {"cluster": "home", "secret": ""},
        {"cluster": "work", "secret": ""},
    ]
    async with Network(2 * len(clusters)) as network:
        _routable(network.hosts)
        plans = [_plan(f"c{n}h{h}", **settings) for n, settings in enumerate(clusters) for h in range(2)]
        async with _running(plans, network.hosts, tmp_path) as nodes:
            pairs = [nodes[first : first + 2] for first in range(0, len(nodes), 2)]
            await eventually(lambda: all(all_know(pair) for pair in pairs), nodes)
            # Everybody heard the others, and knew them for strangers.
            sealed, open_ones = nodes[:6], nodes[6:]
            await eventually(
                lambda: (
                    all(_dropped(node, "mac", "foreign") for node in sealed)
                    and all(_dropped(node, "foreign") for node in open_ones)
                ),
                nodes,
            )
            assert all(all_know(pair) for pair in pairs)


async def test_a_network_that_comes_later_is_used(tmp_path: Path) -> None:
    """Both have sent all their beacons by then."""
    async with Network(2) as network:
        late = network.hosts[1]
        _ip(late, "link", "set", "eth0", "down")
        async with _running(
            [_plan("n0", params=ONCE), _plan("n1", params=ONCE)], network.hosts, tmp_path
        ) as nodes:
            await eventually(_says(nodes[1], "no network interface"), nodes)
            _ip(late, "link", "set", "eth0", "up")
            await eventually(partial(all_know, nodes), nodes)
            await eventually(lambda: (state := nodes[1].state) is not None and state.trouble is None, nodes)


async def test_a_settled_node_shows_itself_to_a_newcomer(tmp_path: Path) -> None:
    """Its next beacon is an hour away. The newcomer is the test, which hears beacons and answers nothing else."""
    async with Network(1) as network, AsyncExitStack() as stack:
        ours = GroupSocket(False, BEACON_PORT)
        assert ours.open()
        stack.callback(ours.close)
        interface = next(one for one in multicast_interfaces() if network.address in one.v4)
        assert ours.join({interface.index})
        settings = settings_of(_plan("newcomer"))
        guard = Guard(
            Envelope(settings.node, 1, settings.cluster, settings.keys), settings.params, os.urandom
        )

        async def next_beacon() -> Heard:
            async with asyncio.timeout(20):
                while True:
                    datagram, address = await asyncio.get_running_loop().sock_recvfrom(ours.socket, 2048)
                    heard = hear(
                        guard, datagram, Endpoint(address[0], address[1]), time.monotonic(), time.time()
                    )
                    if isinstance(heard, Heard):
                        return heard

        async with _running([_plan("settled", v6="", params=ONCE)], network.hosts, tmp_path) as (settled,):
            wanted = Heard(bytes.fromhex(settled.id), Endpoint(network.hosts[0].address, PORT))
            assert await next_beacon() == wanted
            frame = encode_beacon(bytes(20), Beacon(PORT))
            to = Endpoint(GROUP_V4, BEACON_PORT)
            beacon = guard.seal(frame, destination=None, to=to, now=time.monotonic(), wall_s=time.time())
            ours.send(beacon, Way(interface, network.address))
            assert await next_beacon() == wanted


async def test_two_nodes_of_one_host_share_the_port(tmp_path: Path) -> None:
    async with Network(1) as network:
        plans = [_plan("n0"), Plan("n1", PORT + 1, bootstrap=["lan"], params=LAN)]
        async with _running(plans, [network.hosts[0]] * 2, tmp_path) as nodes:
            await eventually(partial(all_know, nodes), nodes)


async def test_a_port_that_is_taken_is_told_and_found_free_later(tmp_path: Path) -> None:
    async with Network(2) as network, AsyncExitStack() as stack:
        taken = stack.enter_context(_socket_in(network.hosts[1].netns))
        taken.bind(("", BEACON_PORT))
        async with _running([_plan("n0", v6=""), _plan("n1", v6="")], network.hosts, tmp_path) as nodes:
            await eventually(_says(nodes[1], f"UDP port {BEACON_PORT} for beacons cannot be bound"), nodes)
            taken.close()
            await eventually(partial(all_know, nodes), nodes)


async def test_two_hosts_that_are_copies_of_each_other_are_noticed(tmp_path: Path) -> None:
    """They never hear each other's requests: each takes the other for itself."""
    async with Network(2) as network:
        folders = [tmp_path / "first", tmp_path / "copy"]
        async with AsyncExitStack() as stack:
            nodes = []
            for folder, host in zip(folders, network.hosts, strict=True):
                folder.mkdir()
                node = DhtNode(_plan("same", v6=""), folder, host.netns)
                nodes.append(await stack.enter_async_context(node))
            await eventually(
                lambda: all("has the node id of this one" in node.process.log() for node in nodes), nodes
            )


@pytest.mark.parametrize("is_v6", [False, True], ids=["IPv4", "IPv6"])
async def test_a_beacon_never_leaves_its_network_and_holds_no_secret(tmp_path: Path, is_v6: bool) -> None:
    async with Network(1) as network:
        with socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM) as listener:
            _listen(listener, network, is_v6=is_v6)
            async with _running([_plan("n0")], network.hosts, tmp_path):
                data, ancillary, _, _ = await asyncio.to_thread(listener.recvmsg, 2048, 256)
        ((_, _, value),) = ancillary
        assert struct.unpack("@i", value) == (1,)
        assert len(data) < 128
        assert b"secret" not in data


def _socket_in(netns: str) -> socket.socket:
    """A UDP socket belongs to the network namespace of the thread that made it."""
    made: list[socket.socket] = []

    def make() -> None:
        with (Path("/run/netns") / netns).open() as file:
            enter = ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0)
            assert enter == 0, os.strerror(ctypes.get_errno())
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    # A thread of its own, which ends in there.
    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return made[0]


def _says(node: DhtNode, text: str) -> Callable[[], bool]:
    def holds() -> bool:
        state: State | None = node.state
        return state is not None and text in str(state.trouble)

    return holds


def _listen(listener: socket.socket, network: Network, *, is_v6: bool) -> None:
    """The test process is on the network itself, through an interface that has the network's address."""
    words = subprocess.run(["ip", "-o", "-4", "addr"], capture_output=True, text=True, check=True).stdout
    name = next(line.split()[1] for line in words.splitlines() if f" {network.address}/" in line)
    index = socket.if_nametoindex(name)
    listener.settimeout(20)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if is_v6:
        group = socket.inet_pton(socket.AF_INET6, GROUP_V6) + struct.pack("@I", index)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        listener.bind(("::", BEACON_PORT))
    else:
        group = socket.inet_aton(GROUP_V4) + bytes(4) + struct.pack("@i", index)
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
        listener.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        listener.bind((GROUP_V4, BEACON_PORT))
