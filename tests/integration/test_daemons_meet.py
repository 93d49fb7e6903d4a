"""How daemons on hosts of their own come to know each other, and at which address."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.peer.client import PeerClient
from mirror.peer.strangers import Strangers
from mirror.settings.model import Address, StaticBootstrap
from tests.support.bed_process import BedProcess
from tests.support.dht_hosts import SECRET, dht_host, until
from tests.support.netns import HostLink, Network
from tests.support.skips import netns_or_missing, require

pytestmark = [pytest.mark.netns, pytest.mark.slow]

PEER_PORT = 29021
BLOB = b"held by the host behind the forward"


class Home:
    """A daemon with a store of its own in a host's namespace, and one blob in it."""

    def __init__(self, folder: Path, host: HostLink, *arguments: str, **environment: str) -> None:
        blob = folder / "store" / "blobs" / "sha256" / hashlib.sha256(BLOB).hexdigest()
        blob.parent.mkdir(parents=True)
        blob.write_bytes(BLOB)
        (folder / "store" / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        (folder / "secret").write_bytes(base64.b64encode(SECRET.secrets[0]))
        self.daemon = BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", f"--store-dir={folder / 'store'}"),
                *(f"--data-dir={folder / 'data'}", "--cluster=lab"),
                *(f"--cluster-secret-file={folder / 'secret'}", *arguments),
            ],
            folder / "daemon.log",
            netns=host.netns,
            environment=environment,
        )


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    missing = netns_or_missing()
    if missing is not None:
        require(missing)
    async with Network(2) as made:
        yield made


@pytest.mark.parametrize("how", ["flag", "variable"])
async def test_others_find_a_host_at_the_address_that_it_advertises(
    short_folder: Path, network: Network, how: str
) -> None:
    """Behind a port forward, say: its datagrams come from another one."""
    host = network.hosts[0]
    advertised = host.address.rpartition(".")[0] + ".200"
    subprocess.run(["ip", "-n", host.netns, "addr", "add", f"{advertised}/24", "dev", "eth0"], check=True)
    folder = short_folder / f"advertised-{how}"
    if how == "flag":
        home = Home(folder, host, f"--advertise-addr={advertised}")
    else:
        home = Home(folder, host, PEILI_HOST_IP=advertised)
    entry = StaticBootstrap(Address(host.address, PEER_PORT))
    digest = Digest.of(BLOB)
    async with home.daemon:
        await home.daemon.said("serving containerd")
        async with dht_host(folder / "other", bootstrap=[entry], address=network.address) as node:
            await until(lambda: len(node.dht.records) == 1)
            found = {one.peer async for one in node.discovery.find_providers(str(digest))}
            assert found == {Peer(advertised, PEER_PORT)}
            (member,) = node.dht.members
            assert [str(one) for one in member.endpoints] == [f"{advertised}:{PEER_PORT}"]
        keys = SECRET.subkeys("peerhttp", "lab")
        async with PeerClient(keys, lambda: 0.0, Strangers()) as client:
            assert await client.size_bytes(Peer(advertised, PEER_PORT), digest) == len(BLOB)


async def test_hosts_of_one_network_need_no_address(short_folder: Path, network: Network) -> None:
    one, two = (
        Home(short_folder / f"lan-{number}", host, "--bootstrap=lan")
        for number, host in enumerate(network.hosts)
    )
    async with one.daemon, two.daemon:
        for home in (one, two):
            await home.daemon.said("found a first host of the cluster")
