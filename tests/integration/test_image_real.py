"""The image that `make image` builds, run by real containerds with runc, as the chart runs it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.bed_registry import RealRegistry
from tests.support.built_images import NEWER_VERSION, BuiltImages
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.image_host import ImageHost
from tests.support.memory_group import MemoryGroup, groups_or_missing
from tests.support.netns import Network
from tests.support.oci_image import Image, build_image
from tests.support.skips import tool_bin

pytestmark = [pytest.mark.containerd, pytest.mark.netns, pytest.mark.slow]

REGISTRY_PORT = 5000
_FOLDERS = itertools.count()
_SEEDS = itertools.count(70_000)
# As in the chart.
MEMORY_MAX_BYTES = 128 << 20
# Headers, manifests and tags: far below a layer.
NO_COPY_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Bed:
    network: Network
    registry: RealRegistry
    hosts: Sequence[ImageHost]

    async def meet(self) -> None:
        """Every daemon is ready and knows all others."""
        for host in self.hosts:
            await host.wait(host.is_ready)
        count = len(self.hosts) - 1
        await self.hosts[0].wait(lambda: all(host.counted("members") == count for host in self.hosts))

    async def pulls_one_copy(self, image: Image, repository: str) -> None:
        """By the first host from the registry, then by the second from the first."""
        first, second = self.hosts
        name = await self.registry.push(image, repository, "v1")
        known_count = second.counted("records")
        await pulled(first, name)
        layer = image.layers[0].digest
        assert f"{repository}@{layer}: miss" in first.daemon.log(), "the pull went past the daemon"
        await second.wait(lambda: second.counted("records") >= known_count + len(list(image)))
        before_bytes = self.network.hosts[0].tx_bytes()
        await pulled(second, name)
        assert self.network.hosts[0].tx_bytes() - before_bytes < NO_COPY_RATIO * image.size_bytes
        assert second.counted("bytes_received_from_peers") >= len(image.layers[0].content)


@contextlib.asynccontextmanager
async def bed(short_folder: Path, version: str, host_count: int, images: BuiltImages) -> AsyncIterator[Bed]:
    """Each host's daemon runs in a container, and a command of the image configured its containerd."""
    home = short_folder / f"image{next(_FOLDERS)}"
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(host_count + 1))
        at, *links = network.hosts
        binaries = tool_bin("docker-registry")
        registry = RealRegistry(
            binaries, home / "registry", address=at.address, port=REGISTRY_PORT, netns=at.netns
        )
        await stack.enter_async_context(registry)
        hosts = [
            ImageHost(
                link,
                home / f"h{number}",
                tool_bin(f"containerd-{version}"),
                links[0].address,
                runtime_binaries=tool_bin("runc"),
                image=images.current,
                memory_max_bytes=MEMORY_MAX_BYTES if groups_or_missing() is None else None,
            )
            for number, link in enumerate(links)
        ]
        for host in hosts:
            host.install_registry(registry.name, registry.url)
            await stack.enter_async_context(host)
            host.configure(registry.name)
        made = Bed(network, registry, hosts)
        await made.meet()
        yield made


async def pulled(host: ImageHost, image: str) -> None:
    outcome = await cri_pull(host.containerd, image)
    assert isinstance(outcome, Pulled), f"{outcome}\n" + "\n".join(host.daemon.log().splitlines()[-20:])


@pytest.mark.parametrize(
    "version", [*(pytest.param(one, marks=pytest.mark.matrix) for one in ("1.6", "1.7")), "2.1"]
)
async def test_hosts_pull_from_each_other_through_daemons_in_containers(
    short_folder: Path, version: str, images: BuiltImages
) -> None:
    """Also: what a container may do, an upgrade in place, and that cleanup leaves nothing."""
    async with bed(short_folder, version, 2, images) as it:
        first, second = it.hosts
        assert "# >>> peili" in (first.certs_dir / it.registry.name / "hosts.toml").read_text()
        await it.pulls_one_copy(build_image(next(_SEEDS), [3_000_000, 700_000]), "lib/app")

        status = Path(f"/proc/{first.task_pid()}/status").read_text()
        for line in (
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ):
            assert line in status, f"{line} is not in {status}"

        if (missing := groups_or_missing()) is None:
            memory = MemoryGroup(first.memory_folder()).peak()
            assert 0 < memory.all_bytes <= MEMORY_MAX_BYTES
            assert memory.oom_kill_count == 0
        else:
            print(f"the containers' memory is not limited: {missing}")

        for host in (first, second):
            node_id = host.status()["node_id"]
            host.load(images.newer)
            assert await host.daemon.stop() == 0, host.daemon.log()
            # Its own address: it finds the other one only because it kept its peers.
            host.use(images.newer, bootstrap=host.link.address)
            host.daemon.start()
            await it.meet()
            assert (host.status()["version"], host.status()["node_id"]) == (NEWER_VERSION, node_id)
        await it.pulls_one_copy(build_image(next(_SEEDS), [2_000_000]), "lib/later")

        await first.daemon.stop()
        done = first.peili("cleanup", f"--hosts-dir={first.certs_dir}")
        assert done.returncode == 0, done.stderr
        left = {
            str(path.relative_to(first.certs_dir)): path.read_text() if path.is_file() else ""
            for path in first.certs_dir.rglob("*")
        }
        url = it.registry.url
        ours = f'# ours\nserver = "{url}"\n\n[host."{url}"]\n'
        assert left == {it.registry.name: "", f"{it.registry.name}/hosts.toml": ours}


@pytest.mark.matrix
async def test_a_container_needs_a_data_directory_and_nothing_else_to_write_to(
    short_folder: Path, images: BuiltImages
) -> None:
    async with bed(short_folder, "2.1", 1, images) as it:
        (host,) = it.hosts
        script = """
import os, ssl, sys
for folder in ("/", "/tmp", "/usr/bin", "/var/lib/peili"):
    try:
        open(f"{folder}/new", "w")
    except OSError:
        continue
    sys.exit(f"{folder} can be written")
assert ssl.create_default_context().get_ca_certs(), "no certificates"
"""
        done = host.run("/usr/bin/python3.11", "-c", script)
        assert done.returncode == 0, done.stderr
        done = host.run("/usr/bin/peili", "serve")
        assert done.returncode == 2
        assert "/var/lib/peili cannot be written" in done.stderr
        assert host.run("/bin/sh", "-c", "true").returncode != 0, "there is a shell"
