"""What K3s makes of a registries.yaml with our endpoint in it, before real containerds and daemons: peers answer first,
the user's own endpoint and the registry itself after them. K3s itself is not run: its files are written as it does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mirror.host.registries_yaml import with_endpoint
from tests.support.bed_hosts import REGISTRY_PORT, BedHost
from tests.support.bed_process import BedProcess
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.free_ports import free_port
from tests.support.k3s_hosts import write_k3s_hosts
from tests.support.mirror_host import ask
from tests.support.netns import Network
from tests.support.oci_image import build_image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Journal, RecordingHost, Shelf
from tests.support.skips import netns_or_missing, require, tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.slow, pytest.mark.matrix]

FILE = "/etc/rancher/k3s/registries.yaml"
URL = f"http://127.0.0.1:{REGISTRY_PORT}"


@contextlib.asynccontextmanager
async def two_hosts(folder: Path, version: str) -> AsyncIterator[tuple[RealRegistry, list[BedHost]]]:
    """With a registry of plain HTTP that the user has named in registries.yaml, and nothing written by configure."""
    if (missing := netns_or_missing()) is not None:
        require(missing)
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(3))
        at, *links = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"), folder / "registry", address=at.address, port=5000, netns=at.netns
        )
        await stack.enter_async_context(registry)
        text = f"mirrors:\n  {registry.name}:\n    endpoint:\n      - {registry.url}\n"
        hosts = []
        for number, link in enumerate(links):
            home = folder / f"k{number}"
            host = BedHost(
                link,
                home,
                tool_bin(f"containerd-{version}"),
                links[0].address,
                daemon_flags=[f"--hosts-dir={home / 'certs.d'}"],
            )
            hosts.append(await stack.enter_async_context(host))
            write_k3s_hosts(host.certs_dir, with_endpoint(text, URL, FILE).text)
        await hosts[0].wait(lambda: all(host.counted("members") == 1 for host in hosts))
        yield registry, hosts


@pytest.mark.netns
@pytest.mark.parametrize("version", ["1.7", "2.1"])
async def test_hosts_of_k3s_pull_from_each_other(short_folder: Path, version: str) -> None:
    image = build_image(int(version.replace(".", "")) + 95_000, [900_000, 50_000])
    async with two_hosts(short_folder / f"k3s-{version}", version) as (registry, (first, second)):
        await registry.push(image, "lib/app", "v1")
        name = f"{registry.name}/lib/app"
        # The tag is the registry's to answer, behind our endpoint; so is what no peer has.
        assert isinstance(await cri_pull(first.containerd, f"{name}:v1"), Pulled)
        assert first.counted("bytes_received_from_peers") == 0
        await first.wait(lambda: second.counted("records") + first.counted("records") >= 2 * len(list(image)))
        await registry.stop()
        # By the name that the user has named, and by one that "*" stands for.
        for reference in (f"{name}@{image.manifest.digest}", f"any.test/lib/app@{image.manifest.digest}"):
            assert isinstance(await cri_pull(second.containerd, reference), Pulled), second.daemon.log()
        assert second.counted("bytes_received_from_peers") == image.size_bytes


@pytest.mark.parametrize("version", ["1.6", "1.7", "2.1"])
async def test_behind_the_mirror_of_all_is_the_registry_itself(short_folder: Path, version: str) -> None:
    folder = short_folder / f"all-{version}"
    port, admin_port = free_port(), free_port()
    certs = folder / "certs.d"
    write_k3s_hosts(certs, with_endpoint("", f"http://127.0.0.1:{port}", FILE).text)
    shelf, journal = Shelf(), Journal()
    images = [build_image(int(version.replace(".", "")) + 96_000 + seed, [60_000]) for seed in range(2)]
    for number, image in enumerate(images):
        shelf.add(image, "lib/app", f"v{number}")
    containerd = RealContainerd(tool_bin(f"containerd-{version}"), folder / "c", certs_dir=certs)
    async with containerd, RecordingHost("origin", shelf, journal) as origin:
        registry = origin.url.removeprefix("http://")
        daemon = BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", f"--containerd-sock={containerd.socket}"),
                *(f"--registry-addr=127.0.0.1:{port}", "--peer-addr=127.0.0.1:0"),
                f"--admin-addr=127.0.0.1:{admin_port}",
                *(f"--hosts-dir={certs}", f"--data-dir={folder / 'data'}", "--log-level=debug"),
            ],
            folder / "daemon.log",
        )
        async with daemon:
            await daemon.said("serving containerd")
            assert isinstance(await cri_pull(containerd, f"{registry}/lib/app:v0"), Pulled), daemon.log()
            told = await ask(f"http://127.0.0.1:{admin_port}/api/v1/status", "GET")
            assert json.loads(told.body)["requests"] >= len(list(images[0])), daemon.log()
            await _served(f"http://127.0.0.1:{port}", registry, images[0].manifest.digest)
        # The port refuses now, and nothing is lost.
        assert isinstance(await cri_pull(containerd, f"{registry}/lib/app:v1"), Pulled)


async def _served(url: str, registry: str, digest: str) -> None:
    """Also under the name that a rewrite of the user makes of it: K3s puts it into our endpoint, too. A tag is not."""
    async with asyncio.timeout(10):
        while True:
            answers = [
                await ask(
                    f"{url}/v2/{path}/manifests/{what}?ns={registry}", "HEAD", User_Agent="containerd/2.1.9"
                )
                for path, what in (("lib/app", digest), ("mirror/lib/app", digest), ("lib/app", "v0"))
            ]
            if [answer.status for answer in answers] == [200, 200, 404]:
                return
            await asyncio.sleep(0.05)
