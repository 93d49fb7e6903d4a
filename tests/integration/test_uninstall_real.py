"""The uninstall of a small cluster: `peili cleanup` on each host, `peili cleanup-wait`, and a real DNS server.

The server's list grows while hosts are cleaned. The times are those that users have.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mirror.cleanup.rounds import SETTLED_S
from tests.support.bed_process import BedProcess
from tests.support.dht_node import ROOT, in_resolver
from tests.support.dnsmasq import Dnsmasq
from tests.support.netns import HostLink, Network
from tests.support.skips import tool_bin

# The least that is waited for is longer than all else.
pytestmark = [pytest.mark.netns, pytest.mark.slow, pytest.mark.matrix]

NAME = "peili-cleanup.test"
PORT = 29021
HOSTS_COUNT = 3
# As the chart's own is, by far.
GIVE_UP_AFTER_S = 60


def peili(host: HostLink, log: Path, *arguments: str, nameserver: str = "") -> BedProcess:
    command = [sys.executable, "-m", "mirror", *arguments]
    if nameserver:
        command = in_resolver(nameserver, log.with_suffix(".resolv"), command)
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return BedProcess(command, log, netns=host.netns, environment=environment)


def cleanup(host: HostLink, folder: Path) -> BedProcess:
    name = host.address
    flags = ["--hosts-dir", str(folder / name / "certs.d"), "--stay-addr", f":{PORT}"]
    return peili(host, folder / f"{name}.log", "cleanup", *flags)


def cleanup_wait(host: HostLink, folder: Path, dns: Dnsmasq) -> BedProcess:
    flags = ["--wait-for", f"{NAME}:{PORT}", "--give-up-after", str(GIVE_UP_AFTER_S)]
    return peili(host, folder / "wait.log", "cleanup-wait", *flags, nameserver=dns.address)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[tuple[list[HostLink], HostLink, Dnsmasq]]:
    """Hosts, the one of the pod that waits, and the DNS server on a host of its own."""
    async with Network(HOSTS_COUNT + 2) as network:
        *hosts, waiting, naming = network.hosts
        async with Dnsmasq(tool_bin("dnsmasq"), folder, naming.netns, naming.address) as dns:
            yield hosts, waiting, dns


async def ended(process: BedProcess) -> None:
    while process.running:
        await asyncio.sleep(0.05)


async def test_an_uninstall_ends_when_the_last_host_is_clean(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (hosts, waiting, dns), AsyncExitStack() as stack:
        wait = await stack.enter_async_context(cleanup_wait(waiting, tmp_path, dns))
        # Before any pod has an address.
        await wait.said(f"{NAME} leads to no host yet: Name or service not known")
        *first, last = hosts
        await dns.publish(NAME, [it.address for it in first])
        await wait.said("0 of 2 hosts are clean")
        for host in first:
            process = await stack.enter_async_context(cleanup(host, tmp_path))
            await process.said("this host is clean")
        await wait.said("2 of 2 hosts are clean")
        # One more pod gets its address; it is waited for, though all others are clean.
        await dns.publish(NAME, [it.address for it in hosts])
        await wait.said("2 of 3 hosts are clean")
        async with cleanup(last, tmp_path) as process:
            await process.said("this host is clean")
            begun_s = time.monotonic()
            async with asyncio.timeout(SETTLED_S + 20):
                await ended(wait)
            assert time.monotonic() - begun_s > SETTLED_S - 5
            assert "all 3 hosts are clean" in wait.log()
            assert await wait.stop() == 0


async def test_an_uninstall_names_the_hosts_that_are_not_clean(tmp_path: Path) -> None:
    async with cluster(tmp_path) as (hosts, waiting, dns), cleanup(hosts[0], tmp_path) as first:
        await first.said("this host is clean")
        nobody = hosts[0].address.rpartition(".")[0] + ".200"
        await dns.publish(NAME, [hosts[0].address, hosts[1].address, nobody])
        async with cleanup_wait(waiting, tmp_path, dns) as wait:
            async with asyncio.timeout(GIVE_UP_AFTER_S + 20):
                await ended(wait)
            assert await wait.stop() == 1
            said = wait.log()
        assert f"peili: gave up after {GIVE_UP_AFTER_S} s: 1 of 3 hosts are clean" in said
        assert f"  {hosts[1].address}: port {PORT} is not open: Connection refused" in said
        assert f"  {nobody}: " in said and hosts[0].address + ":" not in said
        assert "docs/kubernetes.md, Hosts that were down" in said
