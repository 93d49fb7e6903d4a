"""Bootstrap by DNS against a real dnsmasq, with whole nodes in network namespaces: truncated answers, addresses that
come and go, no server at all, and islands that merge without a restart.
"""

import asyncio
import ipaddress
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from dht.bootstrap.loop import TROUBLE_AFTER_COUNT
from tests.support.bed_process import BedProcess
from tests.support.dht_node import ROOT, DhtNode, Plan, all_know, eventually, in_resolver
from tests.support.dnsmasq import Dnsmasq
from tests.support.netns import HostLink, Network
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.netns, pytest.mark.slow]

NAME = "members.test"
PORT = 29021
# Rounds that a test can wait for.
QUICK = {"bootstrap_alone_s": 1.0, "bootstrap_joined_s": 1.0}
# More than fit a DNS answer over UDP without EDNS (RFC 1035 §4.2.1: 512 bytes, 16 an address).
TRUNCATED_COUNT = 200

_RESOLVE = """
import asyncio, json, random, sys, time
from dht.bootstrap.sources import DnsSource, SourceFailed
from dht.params import Params

async def main():
    params = Params(dns_lowest_count=100_000, resolve_timeout_s=float(sys.argv[2]))
    started = time.monotonic()
    try:
        found = await DnsSource(sys.argv[1], 29021, random.Random(1), params).endpoints()
        print("found", json.dumps([one.address for one in found]))
    except SourceFailed as exc:
        print("failed", exc)
    print("after", time.monotonic() - started)

asyncio.run(main())
print("ended", flush=True)
"""


@asynccontextmanager
async def _dns(network: Network, folder: Path) -> AsyncIterator[Dnsmasq]:
    """On the last host of the network."""
    host = network.hosts[-1]
    async with Dnsmasq(tool_bin("dnsmasq"), folder, host.netns, host.address) as dns:
        yield dns


async def _resolve(
    name: str, nameserver: str, folder: Path, netns: str, *, timeout_s: float = 5.0
) -> tuple[str, float]:
    """What `DnsSource` said in a process of its own, and how long the process took from first word to exit."""
    command = [sys.executable, "-c", _RESOLVE, name, str(timeout_s)]
    command = in_resolver(nameserver, folder / "resolve.resolv", command)
    async with BedProcess(
        command, folder / "resolve.log", netns=netns, environment={"PYTHONPATH": str(ROOT)}
    ) as process:
        said = (await process.said(r"((?:found|failed) .*)"))[1]
        started = time.monotonic()
        await process.said("ended")
        while process.running:
            await asyncio.sleep(0.01)
        return said, time.monotonic() - started


def _dead(host: HostLink, count: int) -> list[str]:
    """Addresses of the network that no host has; above those of the hosts."""
    net = ipaddress.ip_network(f"{host.address}/24", strict=False)
    return [str(address) for address in list(net.hosts())[50 : 50 + count]]


def _nodes(
    hosts: Iterable[HostLink], dns: Dnsmasq, folder: Path, *, name: str = NAME, **params: float
) -> list[DhtNode]:
    return [
        DhtNode(
            Plan(host.netns.rpartition("-")[2], PORT, bootstrap=[f"dns:{name}"], params=QUICK | params),
            folder,
            host.netns,
            nameserver=dns.address,
        )
        for host in hosts
    ]


async def test_an_answer_that_does_not_fit_a_datagram_comes_over_tcp(tmp_path: Path) -> None:
    async with Network(2) as network, _dns(network, tmp_path) as dns:
        netns = network.hosts[0].netns
        for count, is_tcp in ((20, False), (TRUNCATED_COUNT, True), (3000, True)):
            addresses = [str(ipaddress.ip_address("10.64.0.0") + number) for number in range(1, 1 + count)]
            addresses += [str(ipaddress.ip_address("fd00::") + number) for number in range(1, 11)]
            await dns.publish(NAME, addresses)
            before = dns.tcp_connections_count()
            said, _ = await _resolve(NAME, dns.address, tmp_path, netns)
            assert said.startswith("found ["), said
            assert sorted(part.strip(' "') for part in said[7:-1].split(",")) == sorted(addresses)
            assert (dns.tcp_connections_count() > before) == is_tcp


async def test_nodes_meet_through_a_truncated_answer_of_mostly_dead_addresses(tmp_path: Path) -> None:
    async with Network(4) as network, _dns(network, tmp_path) as dns:
        hosts = network.hosts[:3]
        await dns.publish(NAME, [*_dead(hosts[0], TRUNCATED_COUNT), *(host.address for host in hosts)])
        nodes = _nodes(hosts, dns, tmp_path)
        async with AsyncExitStack() as stack:
            for node in nodes:
                await stack.enter_async_context(node)
            await eventually(partial(all_know, nodes), nodes)
            assert dns.tcp_connections_count() >= len(nodes)
            assert all(node.state is not None and node.state.trouble is None for node in nodes)


async def test_addresses_come_and_go(tmp_path: Path) -> None:
    """Each newcomer knows only the name; the hosts it was made of first are long gone at the end."""
    async with Network(7) as network, _dns(network, tmp_path) as dns, AsyncExitStack() as stack:
        hosts = network.hosts[:6]
        nodes = _nodes(hosts, dns, tmp_path)
        await stack.enter_async_context(nodes[0])
        for older, newer in pairwise(range(6)):
            await dns.publish(NAME, [hosts[older].address, hosts[newer].address])
            await stack.enter_async_context(nodes[newer])
            alive = [nodes[older], nodes[newer]]
            await eventually(partial(all_know, alive), alive)
            await nodes[older].process.stop()


async def test_islands_merge_without_restart(tmp_path: Path) -> None:
    """Two groups that each know a name of their own, until one name lists everybody."""
    async with Network(5) as network, _dns(network, tmp_path) as dns, AsyncExitStack() as stack:
        hosts = network.hosts[:4]
        west, east = (
            _nodes(hosts[:2], dns, tmp_path, name="west.test"),
            _nodes(hosts[2:], dns, tmp_path, name="east.test"),
        )
        await dns.publish("west.test", [host.address for host in hosts[:2]])
        await dns.publish("east.test", [host.address for host in hosts[2:]])
        for node in (*west, *east):
            await stack.enter_async_context(node)
        await eventually(lambda: all_know(west) and all_know(east), [*west, *east])
        # Rounds go by, and they stay apart.
        asked_count = dns.queries_count("east.test")
        await eventually(lambda: dns.queries_count("east.test") >= asked_count + 4, [*west, *east])
        assert all_know(west)
        assert all_know(east)
        pids = [node.process.pid for node in (*west, *east)]
        await dns.publish("east.test", [host.address for host in hosts])
        await eventually(lambda: all_know([*west, *east]), [*west, *east])
        assert [node.process.pid for node in (*west, *east)] == pids


def _cut(netns: str, others: Iterable[HostLink], verb: str) -> None:
    for other in others:
        subprocess.run(["ip", "-n", netns, "route", verb, "blackhole", f"{other.address}/32"], check=True)


async def test_a_network_that_was_cut_in_two_is_one_again(tmp_path: Path) -> None:
    async with Network(5) as network, _dns(network, tmp_path) as dns, AsyncExitStack() as stack:
        hosts = network.hosts[:4]
        await dns.publish(NAME, [host.address for host in hosts])
        # Silence is noticed by whoever asks: often enough for a test.
        nodes = _nodes(hosts, dns, tmp_path, sync_interval_s=0.5)
        for node in nodes:
            await stack.enter_async_context(node)
        await eventually(partial(all_know, nodes), nodes)
        islands = (hosts[:2], hosts[2:])
        for here, there in (islands, islands[::-1]):
            for host in here:
                _cut(host.netns, there, "add")
        await eventually(lambda: all_know(nodes[:2]) and all_know(nodes[2:]), nodes, 60)
        for here, there in (islands, islands[::-1]):
            for host in here:
                _cut(host.netns, there, "del")
        await eventually(partial(all_know, nodes), nodes)


async def test_nodes_of_one_family_and_of_both_are_one_cluster(tmp_path: Path) -> None:
    """Who speaks only IPv4 cannot reach who speaks only IPv6; both find what the others hold."""
    async with Network(4) as network, AsyncExitStack() as stack:
        hosts = network.hosts
        v6 = [f"fd77::{number}" for number in range(1, 5)]
        for host, address in zip(hosts, v6, strict=True):
            command = ["ip", "-n", host.netns, "addr", "add", f"{address}/64", "dev", "eth0", "nodad"]
            subprocess.run(command, check=True)
        wanted = ["both0", "both1", "v4", "v6"]

        def plan(name: str, v4: str = "0.0.0.0", v6_listen: str = "::") -> Plan:
            # The first dual-stack node is everybody's bootstrap address, each in his family.
            first = f"static:[{v6[0]}]:{PORT}" if not v4 else f"static:{hosts[0].address}:{PORT}"
            bootstrap = [] if name == "both0" else [first]
            find = [other for other in wanted if other != name and {name, other} != {"v4", "v6"}]
            params = QUICK | {"lookup_miss_cache_s": 0.01, "sync_interval_s": 0.5}
            return Plan(
                name, PORT, bootstrap=bootstrap, provide=[name], find=find, params=params, v4=v4, v6=v6_listen
            )

        plans = [plan("both0"), plan("both1"), plan("v4", v6_listen=""), plan("v6", v4="")]
        nodes = [DhtNode(one, tmp_path, host.netns) for one, host in zip(plans, hosts, strict=True)]
        by_name = {node.plan.node: node for node in nodes}
        for node in nodes:
            await stack.enter_async_context(node)

        def found() -> bool:
            return all(
                (state := node.state) is not None
                and state.found == {other: [by_name[other].id] for other in node.plan.find}
                for node in nodes
            )

        await eventually(found, nodes)
        # Each knows the dual-stack ones by the addresses that he can use.
        await eventually(
            lambda: all(
                {by_name["both0"].id, by_name["both1"].id} - {node.id} <= node.members for node in nodes
            ),
            nodes,
        )
        for name, is_v6 in (("v4", False), ("v6", True)):
            state = by_name[name].state
            assert state is not None
            for other in ("both0", "both1"):
                assert any(where.startswith("[") is is_v6 for where in state.members[by_name[other].id]), (
                    state
                )
            assert state.trouble is None


async def test_a_name_that_lists_only_this_host_is_a_healthy_cluster_of_one(tmp_path: Path) -> None:
    async with Network(2) as network, _dns(network, tmp_path) as dns:
        await dns.publish(NAME, [network.hosts[0].address])
        (node,) = _nodes(
            network.hosts[:1],
            dns,
            tmp_path,
            bootstrap_alone_s=0.2,
            bootstrap_backoff_start_s=0.1,
            rpc_timeout_s=0.2,
        )
        async with node:
            # Each round asks for both families; a name that lists a stranger, too, is no cluster of one.
            await eventually(lambda: dns.queries_count(NAME) >= 2 * (TROUBLE_AFTER_COUNT + 1), [node])
            assert node.state is not None
            assert (node.state.unready, node.state.trouble) == (None, None)
            await dns.publish(NAME, [network.hosts[0].address, *_dead(network.hosts[0], 1)])
            await eventually(
                lambda: (state := node.state) is not None and "nobody answers" in str(state.trouble), [node]
            )


async def test_without_an_answer_an_operator_is_told_why(tmp_path: Path) -> None:
    async with Network(2) as network, _dns(network, tmp_path) as dns:
        netns = network.hosts[0].netns
        said, _ = await _resolve("nobody.test", dns.address, tmp_path, netns)
        assert said.startswith("failed cannot resolve nobody.test: there is no such name; check"), said
        await dns.stop()
        # Refused at once by a host that is up.
        said, _ = await _resolve(NAME, dns.address, tmp_path, netns)
        assert said.startswith(f"failed cannot resolve {NAME}: "), said
        assert "check that the name servers" in said
        # A server that does not answer at all: neither the answer nor the exit waits for the C library.
        (silent,) = _dead(network.hosts[0], 1)
        said, exit_s = await _resolve(NAME, silent, tmp_path, netns, timeout_s=0.2)
        assert said.startswith(f"failed cannot resolve {NAME}: no answer in 0.2 s; check"), said
        assert exit_s < 0.7


async def test_a_name_server_that_comes_later_is_enough(tmp_path: Path) -> None:
    async with Network(3) as network, AsyncExitStack() as stack:
        hosts = network.hosts[:2]
        async with _dns(network, tmp_path) as dns:
            pass
        nodes = _nodes(hosts, dns, tmp_path)
        for node in nodes:
            await stack.enter_async_context(node)
        await eventually(
            lambda: all(
                node.state is not None and "cannot resolve" in str(node.state.trouble) for node in nodes
            ),
            nodes,
        )
        await stack.enter_async_context(dns)
        await dns.publish(NAME, [host.address for host in hosts])
        await eventually(partial(all_know, nodes), nodes)
        await eventually(
            lambda: all(node.state is not None and node.state.trouble is None for node in nodes), nodes
        )
